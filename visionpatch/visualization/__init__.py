"""Pictures of samples and predictions."""

from visionpatch.visualization.hooks import SegVisualizationHook, draw_sample, show
from visionpatch.visualization.segmentation import draw_pair, draw_segmentation

__all__ = ["SegVisualizationHook", "draw_pair", "draw_sample", "draw_segmentation", "show"]
