"""FewShotMetric: how well the classes of few-shot episodes are found.

Letters: E episodes, k novel classes, R runs.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from rich import box
from rich.table import Table

from visionpatch.errors import BadSampleError, DataError
from visionpatch.evaluation.common import as_text, class_names
from visionpatch.registry import METRICS
from visionpatch.structures import DataSample

IGNORED = 255
EPS = 1e-10  # in the published denominators


@METRICS.register_module()
class FewShotMetric(BaseMetric):
    """``mIoU``, ``FBIoU`` and ``pIoU`` in percent, as SCCAN's published code (arXiv 2308.09294) computes them.

    Of each episode, over the pixels whose label is not 255, I_1 and U_1 are intersection and union of the predicted and
    the labelled object, I_0 and U_0 those of the rest. Then

    - mIoU: the mean over the novel classes of sum(I_1) / (sum(U_1) + 1e-10), the sums over the episodes of the class;
      a class that was never asked for counts as 0
    - pIoU: sum(I_1) / (sum(U_1) + 1e-10) over all episodes
    - FBIoU: the mean of pIoU and sum(I_0) / (sum(U_0) + 1e-10)

    Without any episode all are 0. Of several runs (EpisodeDataset's `runs`) each value is the mean over the runs, and
    ``mIoU_ci95`` and so on are the half widths of the 95 % confidence intervals of these means (Student's t).

    Args:
        classwise: also return ``<class>_IoU``. The table of all classes is in the log either way.
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        prefix: put in front of the result names, as in ``prefix/mIoU``.

    Raises:
        DataError: the data set's metainfo has no ``novel_ids``: it is no EpisodeDataset.
        BadSampleError: maps of different sizes, or with other values than 0, 1 and, in the label, 255.
    """

    def __init__(self, classwise: bool = False, collect_device: str = "cpu", prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.classwise = classwise

    def check_sample(self, sample: DataSample) -> None:
        """Refuse a data set that is not of episodes before any time is spent on it; `sample` is one of its samples.

        Raises:
            DataError: no label map, or no class.
        """
        missing = [key for key in ("gt_sem_seg", "class_id") if key not in sample]
        if missing:
            raise DataError(
                f"{sample.where()}: FewShotMetric needs {' and '.join(missing)}; take an EpisodeDataset in test_mode"
            )

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Reduce each episode to (run, class, I_0, U_0, I_1, U_1), so that what the ranks exchange is small."""
        for sample in data_samples:
            where = str(sample.get("img_path", "an episode without img_path"))
            missing = [key for key in ("pred_sem_seg", "gt_sem_seg", "class_id") if key not in sample]
            if missing:
                raise BadSampleError(f"{where}: no {', '.join(missing)} in the predicted sample")
            prediction, label = (sample[key]["data"].squeeze(0).cpu().numpy() for key in ("pred_sem_seg", "gt_sem_seg"))
            areas = episode_areas(prediction, label, where)
            self.results.append((int(sample.get("run", 0)), int(sample["class_id"]), *areas))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The means over runs; the table of classes goes to the log."""
        names, novel = class_names(self), (self.dataset_meta or {}).get("novel_ids")
        if novel is None:
            raise DataError("FewShotMetric: the data set's metainfo has no novel_ids; take an EpisodeDataset")
        episodes = np.array(results, np.int64).reshape(-1, 6)
        runs = [episodes[episodes[:, 0] == run, 1:] for run in np.unique(episodes[:, 0])] or [episodes[:, 1:]]
        values = [few_shot_values(run, novel) for run in runs]
        per_class = np.mean([ious for ious, _ in values], axis=0)
        table = Table("Class", "episodes", "IoU", box=box.ASCII)
        for index, iou in zip(novel, per_class):
            table.add_row(str(names[index]), str(int((episodes[:, 1] == index).sum())), f"{iou:.2f}")
        print_log(f"per class results, in percent:\n{as_text(table)}", MMLogger.get_current_instance())
        numbers = {name: float(np.mean([found[name] for _, found in values])) for name in ("mIoU", "FBIoU", "pIoU")}
        if len(runs) > 1:
            spread = {f"{name}_ci95": half_width([found[name] for _, found in values]) for name in numbers}
            numbers |= spread
        if self.classwise:
            numbers |= {f"{names[index]}_IoU": float(iou) for index, iou in zip(novel, per_class)}
        return numbers


def episode_areas(prediction: np.ndarray, label: np.ndarray, where: str = "an episode") -> tuple[int, int, int, int]:
    """(I_0, U_0, I_1, U_1) in pixels, of maps (H, W) of 0 and 1; pixels whose label is 255 are left out.

    Raises:
        BadSampleError: maps of different sizes or with other values.
    """
    if prediction.shape != label.shape:
        raise BadSampleError(
            f"{where}: the label map is {label.shape} (H, W), the prediction {prediction.shape}; the label must have "
            "the size of the image file and stay unresized in the test pipeline"
        )
    valid = label != IGNORED
    prediction, label = prediction[valid], label[valid]
    for kind, values in (("label", label), ("prediction", prediction)):
        if values.size and not (values.min() >= 0 and values.max() <= 1):
            raise BadSampleError(
                f"{where}: {kind} {values.max() if values.max() > 1 else values.min()} found, but an episode has only "
                "0, 1 and 255 = ignored; does the pipeline hold SelectClass?"
            )
    found, there = prediction == 1, label == 1
    both, either = int((found & there).sum()), int((found | there).sum())
    return len(label) - either, len(label) - both, both, either


def few_shot_values(episodes: np.ndarray, novel: Sequence[int]) -> tuple[np.ndarray, dict[str, float]]:
    """From rows (E, 5) of class, I_0, U_0, I_1, U_1: the IoU (k,) of each novel class, and the means; in percent."""
    sums = np.array([episodes[episodes[:, 0] == index, 3:].sum(0) for index in novel], np.float64).reshape(-1, 2)
    ious = 100 * sums[:, 0] / (sums[:, 1] + EPS)
    totals = episodes[:, 1:].sum(0).astype(np.float64)
    rest, objects = 100 * totals[0] / (totals[1] + EPS), 100 * totals[2] / (totals[3] + EPS)
    mean = float(ious.mean()) if len(ious) else 0.0
    return ious, dict(mIoU=mean, FBIoU=float(rest + objects) / 2, pIoU=float(objects))


def half_width(values: Sequence[float]) -> float:
    """Of the 95 % confidence interval (Student's t) of the mean of two or more `values`."""
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
