"""Accuracy: top-k accuracy of image classification."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric

from visionpatch.errors import BadSampleError, ConfigError
from visionpatch.evaluation.common import require_label
from visionpatch.registry import METRICS
from visionpatch.structures import DataSample


@METRICS.register_module()
class Accuracy(BaseMetric):
    """Percentage of images whose class is among the k most probable ones: ``accuracy/top1``, ``accuracy/top5``.

    A k larger than the number of classes counts every image as right. Equal scores rank by class index; a nan is never
    right. Samples without `pred_score` give top-1 by `pred_label`. No sample at all gives nan.

    Args:
        topk: one or more k.
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        prefix: put in front of the result names; None: "accuracy".
    """

    default_prefix = "accuracy"

    def __init__(
        self, topk: int | Sequence[int] = (1, 5), collect_device: str = "cpu", prefix: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        if not self.topk or min(self.topk) < 1:
            raise ConfigError(f"Accuracy: topk={topk} must hold positive numbers")

    def check_sample(self, sample: DataSample) -> None:
        """Refuse a data set without ground truth before any time is spent on it; `sample` is one of its samples.

        Raises:
            DataError: no class index.
        """
        require_label(self, sample)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the rank of each sample's true class, 0 for the most probable."""
        self.results.extend(self._rank(sample) for sample in data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """``{"top1": ..., "top5": ...}`` in percent."""
        ranks = torch.tensor(results)
        return {f"top{k}": 100 * (ranks < k).float().mean().item() for k in self.topk}

    def _rank(self, sample: dict) -> int:
        where = sample.get("img_path", "a sample without img_path")
        if "gt_label" not in sample:
            raise BadSampleError(f"{where}: no gt_label, so there is nothing to compare the prediction with")
        label = int(sample["gt_label"].reshape(-1)[0])
        if "pred_score" in sample:
            score = sample["pred_score"]
            if not 0 <= label < len(score):
                raise BadSampleError(f"{where}: label {label}, but the model predicts {len(score)} classes")
            behind = (score < score[label]).sum() + (score[label + 1 :] == score[label]).sum()
            return len(score) - 1 - int(behind)  # counted from behind: a nan is never right
        if max(self.topk) > 1:
            raise ConfigError(f"Accuracy: topk={self.topk} needs pred_score, but the model gives only pred_label")
        return int(int(sample["pred_label"].reshape(-1)[0]) != label)
