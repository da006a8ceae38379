"""Segmenting pictures with a config and a checkpoint."""

from mmengine.config import Config
from numpy import ndarray

from visionpatch.apis.inferencer import Inferencer
from visionpatch.registry import INFERENCERS
from visionpatch.structures import DataSample
from visionpatch.visualization.segmentation import draw_segmentation


@INFERENCERS.register_module()
class SegmentationInferencer(Inferencer):
    """Semantic segmentation of pictures: every sample has ``pred_sem_seg`` of the size of its picture."""

    heads = ("decode_head",)

    @classmethod
    def fits(cls, cfg: Config) -> bool:
        return super().fits(cfg) and cfg.model.get("type") != "FewShotSegmentor"

    def draw(self, image: ndarray, sample: DataSample, opacity: float = 0.5) -> ndarray:
        """The prediction over its picture (H, W, 3) BGR, with a legend."""
        labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
        return draw_segmentation(image, labels, self.classes, self.palette, opacity)
