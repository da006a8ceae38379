"""IoUMetric: intersection over union and its relatives, for semantic segmentation.

Letters: C classes, H, W label map.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from rich import box
from rich.table import Table

from visionpatch.errors import BadSampleError, ConfigError, DataError, nearest
from visionpatch.evaluation.common import as_text, class_names
from visionpatch.palette import write_palette_png
from visionpatch.registry import METRICS
from visionpatch.structures import DataSample

IOU_METRICS = ("mIoU", "mDice", "mFscore")


@METRICS.register_module()
class IoUMetric(BaseMetric):
    """Results with the names and definitions of OpenMMLab's IoUMetric, in percent, rounded to two decimals.

    Per class, over the valid pixels of the whole data set, with the areas I of the intersection of prediction and
    label, P of the prediction and L of the label:

    - ``aAcc`` = sum(I) / sum(L), always
    - mIoU: ``mIoU`` = I / (P + L - I), ``mAcc`` = I / L
    - mDice: ``mDice`` = 2 I / (P + L), ``mAcc``
    - mFscore: ``mPrecision`` = I / P, ``mRecall`` = I / L, ``mFscore`` = (1 + beta^2) p r / (beta^2 p + r)

    The means leave out the classes where the value is 0 / 0; where nothing is left, with no sample at all for one, the
    result is nan.

    Args:
        ignore_index: label of the pixels that count nowhere.
        iou_metrics: one or more of "mIoU", "mDice", "mFscore".
        nan_to_num: number that stands for 0 / 0 (a fraction, so 1 means 100 percent); None leaves those classes out.
        beta: weight of the recall in the F score.
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        output_dir: folder for the predictions, one palette PNG per image named after it. A data set with
            `reduce_zero_label` gets its labels back as they are on disk (1 more).
        format_only: write the predictions and compute nothing; for test sets without labels.
        prefix: put in front of the result names, as in ``prefix/mIoU``.

    Raises:
        ConfigError: an unknown metric name; `format_only` without `output_dir`.
        DataError: no class names in the data set's metainfo.
        BadSampleError: a label map of another size than the prediction, or a label out of range.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        iou_metrics: str | Sequence[str] = ("mIoU",),
        nan_to_num: float | None = None,
        beta: float = 1,
        collect_device: str = "cpu",
        output_dir: str | None = None,
        format_only: bool = False,
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.metrics = (iou_metrics,) if isinstance(iou_metrics, str) else tuple(iou_metrics)
        for name in self.metrics:
            if name not in IOU_METRICS:
                raise ConfigError(f'IoUMetric: iou_metrics has "{name}"' + nearest(name, IOU_METRICS))
        if format_only and output_dir is None:
            raise ConfigError("IoUMetric: format_only=True needs output_dir, the folder for the predictions")
        self.ignore_index = ignore_index
        self.nan_to_num = nan_to_num
        self.beta = beta
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.format_only = format_only

    def check_sample(self, sample: DataSample) -> None:
        """Refuse a data set without ground truth before any time is spent on it; `sample` is one of its samples.

        Raises:
            DataError: no label map.
        """
        if not self.format_only and "gt_sem_seg" not in sample:
            raise DataError(
                f"{sample.where()}: IoUMetric needs gt_sem_seg and the sample has none; give the data set "
                'data_prefix.seg_map_path, put dict(type="LoadAnnotations") into the pipeline, or set format_only=True'
            )

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Reduce each sample to its areas, so that what the ranks exchange is small."""
        num_classes = len(class_names(self))
        for sample in data_samples:
            prediction = _map(sample, "pred_sem_seg")
            if self.output_dir is not None:
                self._write(self.output_dir, prediction, sample)
            if self.format_only:
                self.results.append(None)
                continue
            confusion = compute_confusion(
                prediction, _map(sample, "gt_sem_seg"), num_classes, self.ignore_index, _where(sample)
            )
            self.results.append(areas(confusion))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The means over classes; the table of all classes goes to the log."""
        if self.format_only:
            print_log(f"predictions written to {self.output_dir}", MMLogger.get_current_instance())
            return {}
        total = sum(results, np.zeros((3, len(class_names(self))), np.int64))
        accuracy, values = class_values(total, self.metrics, self.beta)
        if self.nan_to_num is not None:
            values = {name: np.nan_to_num(value, nan=self.nan_to_num) for name, value in values.items()}
        text = "per class results:\n" + class_table(class_names(self), values)
        print_log(text, MMLogger.get_current_instance())
        means = {"aAcc": accuracy} | {f"m{name}": _nanmean(value) for name, value in values.items()}
        return {name: round(100 * value, 2) for name, value in means.items()}

    def _write(self, folder: Path, prediction: np.ndarray, sample: dict) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        palette = [tuple(colour) for colour in (self.dataset_meta or {}).get("palette") or ()]
        if sample.get("reduce_zero_label", False):
            prediction, palette = prediction + 1, [(0, 0, 0), *palette]
        write_palette_png(folder / f"{Path(_where(sample)).stem}.png", prediction, palette)


def compute_confusion(
    prediction: np.ndarray, label: np.ndarray, num_classes: int, ignore_index: int = 255, where: str = "a sample"
) -> np.ndarray:
    """Pixel counts (C, C) int64 of one image: row the label, column the prediction; ignored pixels left out.

    Args:
        prediction, label: maps (H, W) of class indices.
        where: the image's file, for messages.

    Raises:
        BadSampleError: maps of different sizes; a class outside [0, C).
    """
    if prediction.shape != label.shape:
        raise BadSampleError(
            f"{where}: the label map is {label.shape} (H, W), the prediction {prediction.shape}; the label must have "
            "the size of the image file and stay unresized in the test pipeline"
        )
    valid = label != ignore_index
    label, prediction = label[valid].astype(np.int64), prediction[valid].astype(np.int64)
    for kind, values in (("label", label), ("prediction", prediction)):
        if values.size and (values.min() < 0 or values.max() >= num_classes):
            wrong = values.min() if values.min() < 0 else values.max()
            raise BadSampleError(
                f"{where}: {kind} {wrong} found, but the data set names {num_classes} classes (0 to {num_classes - 1}, "
                f"ignored {ignore_index}); check reduce_zero_label and the head's num_classes"
            )
    counts = np.bincount(label * num_classes + prediction, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def areas(confusion: np.ndarray) -> np.ndarray:
    """(C, C) -> (3, C): areas of the intersection, the prediction and the label of each class, in pixels."""
    return np.stack([confusion.diagonal(), confusion.sum(0), confusion.sum(1)])


def class_values(
    total: np.ndarray, metrics: Sequence[str] = ("mIoU",), beta: float = 1
) -> tuple[float, dict[str, np.ndarray]]:
    """From `areas` (3, C): the accuracy over all pixels and the values of each class, fractions in [0, 1] or nan."""
    intersect, predicted, labelled = total.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        values: dict[str, np.ndarray] = {}
        for metric in metrics:
            if metric == "mIoU":
                values |= {"IoU": intersect / (predicted + labelled - intersect), "Acc": intersect / labelled}
            elif metric == "mDice":
                values |= {"Dice": 2 * intersect / (predicted + labelled), "Acc": intersect / labelled}
            else:
                precision, recall = intersect / predicted, intersect / labelled
                score = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
                values |= {"Fscore": score, "Precision": precision, "Recall": recall}
        return float(intersect.sum() / labelled.sum()), values


def class_table(classes: Sequence[str], values: dict[str, np.ndarray]) -> str:
    """One row per class, percentages with two decimals, as plain text."""
    table = Table("Class", box=box.ASCII)
    for name in values:
        table.add_column(name, justify="right")
    for i, label in enumerate(classes):
        table.add_row(str(label), *(f"{100 * value[i]:.2f}" for value in values.values()))
    return as_text(table)


def _nanmean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _map(sample: dict, key: str) -> np.ndarray:
    """The map (H, W) stored under `key`."""
    if key not in sample:
        raise BadSampleError(f"{_where(sample)}: no {key}; a test set without labels needs format_only=True")
    data = sample[key]["data"].squeeze(0)
    return data.cpu().numpy()


def _where(sample: dict) -> str:
    return str(sample.get("img_path", sample.get("img_id", "a sample without img_path")))
