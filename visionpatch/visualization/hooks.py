"""Writes or shows the predictions of a test run."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
from mmengine.hooks import Hook
from mmengine.runner import Runner
from numpy import ndarray

from visionpatch.errors import BadSampleError, ConfigError, MissingDependencyError
from visionpatch.registry import HOOKS
from visionpatch.structures import DataSample
from visionpatch.visualization.detection import draw_object_pair
from visionpatch.visualization.segmentation import draw_pair
from visionpatch.visualization.tokenizer import draw_reconstruction

NO_WINDOW = (
    "showing pictures needs a display and OpenCV with windows (opencv-python, not the headless package); "
    "--show-dir DIR writes the pictures instead"
)
DRAWN = ("pred_image", "pred_sem_seg", "pred_instances")


@HOOKS.register_module(name=["VisualizationHook", "SegVisualizationHook", "DetVisualizationHook"])
class VisualizationHook(Hook):
    """Draws every tested picture, ground truth and prediction: predicted pictures where the samples hold them, else
    objects, else label maps.

    Args:
        out_dir: folder of the pictures, ``<name of the image>.png``; None writes none.
        show: open a window for each.
        wait_time: seconds a shown picture stays; 0 waits for a key.
        interval: draw every `interval`-th picture.
        opacity: of the colours.
        score_thr: predicted objects of a lower score are not drawn.
    """

    def __init__(
        self,
        out_dir: str | Path | None = None,
        show: bool = False,
        wait_time: float = 2.0,
        interval: int = 1,
        opacity: float = 0.5,
        score_thr: float = 0.3,
    ) -> None:
        if interval < 1:
            raise ConfigError(f"VisualizationHook: interval = {interval}, expected 1 or more")
        if show:
            check_display()
        self.out_dir = Path(out_dir) if out_dir else None
        self.show, self.wait_time, self.interval = show, wait_time, interval
        self.opacity, self.score_thr = opacity, score_thr
        self._seen = 0

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        metainfo = runner.test_dataloader.dataset.metainfo
        for sample in outputs or ():
            if self._seen % self.interval == 0 and any(name in sample for name in DRAWN):
                self._emit(draw_sample(sample, metainfo, self.opacity, self.score_thr), Path(sample.img_path).stem)
            self._seen += 1

    def _emit(self, picture: ndarray, name: str) -> None:
        if self.out_dir is not None:
            self.out_dir.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(self.out_dir / f"{name}.png"), picture)
        if self.show:
            show(picture, name, self.wait_time)


def draw_sample(
    sample: DataSample, metainfo: Mapping[str, Any], opacity: float = 0.5, min_score: float = 0.3
) -> ndarray:
    """The file of a predicted sample with its ground truth, where it has one, and its prediction (H, W, 3), BGR; of a
    sample with `pred_image` that picture beside the given one."""
    if "pred_image" in sample:
        return draw_reconstruction(sample, ("ground truth", "prediction"))
    image = cv2.imread(str(sample.img_path), cv2.IMREAD_COLOR)
    if image is None:
        raise BadSampleError(f"{sample.img_path}: the image that was predicted cannot be read for drawing")
    classes, palette = metainfo["classes"], metainfo["palette"]
    if "pred_instances" in sample:
        objects, ignored = (sample.get(name) for name in ("gt_instances", "ignored_instances"))
        return draw_object_pair(image, objects, sample.pred_instances, classes, palette, opacity, min_score, ignored)
    truth = sample.gt_sem_seg.data.squeeze(0).cpu().numpy() if "gt_sem_seg" in sample else None
    prediction = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
    return draw_pair(image, truth, prediction, classes, palette, opacity)


def show(picture: ndarray, title: str, wait_time: float) -> None:
    """Open a window for `wait_time` seconds (0: until a key).

    Raises:
        MissingDependencyError: there is no display, or OpenCV was built without windows.
    """
    check_display()
    try:
        cv2.imshow(title, picture)
        cv2.waitKey(round(1000 * wait_time))
        cv2.destroyWindow(title)
    except cv2.error as error:
        raise MissingDependencyError(NO_WINDOW) from error


def check_display() -> None:
    """Raise `MissingDependencyError` where no window can open; OpenCV would end the process."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise MissingDependencyError(NO_WINDOW)
