"""Pictures of samples and predictions."""

from visionpatch.visualization.detection import draw_object_pair, draw_objects
from visionpatch.visualization.hooks import VisualizationHook, draw_sample, show
from visionpatch.visualization.segmentation import draw_pair, draw_segmentation

__all__ = [
    "VisualizationHook",
    "draw_object_pair",
    "draw_objects",
    "draw_pair",
    "draw_sample",
    "draw_segmentation",
    "show",
]
