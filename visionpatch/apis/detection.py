"""Finding objects in pictures with a config and a checkpoint."""

from numpy import ndarray

from visionpatch.apis.inferencer import Inferencer
from visionpatch.registry import INFERENCERS
from visionpatch.structures import DataSample
from visionpatch.visualization.detection import draw_objects


@INFERENCERS.register_module()
class DetectionInferencer(Inferencer):
    """Detection and instance segmentation of pictures: every sample has ``pred_instances`` in pixels of its picture."""

    heads = ("bbox_head", "roi_head", "rpn_head")

    def draw(self, image: ndarray, sample: DataSample, opacity: float = 0.5) -> ndarray:
        """The predicted objects over their picture (H, W, 3) BGR."""
        found = sample.pred_instances
        return draw_objects(image, found, self.classes, self.palette, opacity, min_score=self.score_thr)
