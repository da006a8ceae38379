"""Pictures of samples and predictions."""

from visionpatch.visualization.dependency import draw_dependency, draw_parts, draw_saliency, draw_tree
from visionpatch.visualization.detection import draw_object_pair, draw_objects
from visionpatch.visualization.hooks import VisualizationHook, draw_sample, show
from visionpatch.visualization.matching import draw_matches, draw_patches, draw_point_match, draw_scores
from visionpatch.visualization.segmentation import draw_pair, draw_segmentation
from visionpatch.visualization.tokenizer import draw_codes, draw_grid, draw_inpainting, draw_reconstruction

__all__ = [
    "VisualizationHook",
    "draw_codes",
    "draw_dependency",
    "draw_grid",
    "draw_inpainting",
    "draw_matches",
    "draw_object_pair",
    "draw_objects",
    "draw_pair",
    "draw_parts",
    "draw_patches",
    "draw_point_match",
    "draw_reconstruction",
    "draw_saliency",
    "draw_sample",
    "draw_scores",
    "draw_segmentation",
    "draw_tree",
    "show",
]
