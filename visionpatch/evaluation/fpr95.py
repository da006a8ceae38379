"""FPR95: of the pairs of different places, the share that is accepted where 95 % of the matching pairs are.

Letters: P matching pairs, N other pairs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from rich import box
from rich.table import Table

from visionpatch.errors import BadSampleError, ConfigError, DataError, nearest
from visionpatch.evaluation.common import as_text, require_label
from visionpatch.registry import METRICS
from visionpatch.structures import DataSample

VARIANTS = ("exact", "interp")
MAIN = ("R", "S")  # the sets whose mean is the main figure, where they are there


@METRICS.register_module()
class FPR95(BaseMetric):
    """Results in percent; a higher `pred_score` (1,) means more alike.

    With t the ceil(0.95 P)-th largest score of the matching pairs, FPR95 is the share of the other pairs whose score is
    t or more: ties count against the method. ``FPR95_interp`` is the reading of published tables made with
    scikit-learn: the ROC curve between its points is a straight line, read at a true positive rate of 0.95; where the
    curve runs level there, its upper end. A nan counts against the method: lowest of the matching pairs, highest of the
    others.

    For each test set (metadata ``set``: "R", "S", "H") the value is the mean over its scenes: ``FPR95_R``,
    ``FPR95_interp_R``, ``AUC_R``, and ``accuracy_R`` at a score of 0.5, left out where scores are not in 0..1. Of
    several scenes the log shows each, and ``FPR95_R/<scene>`` is in the results. ``FPR95`` is the mean over R and S, or
    over the sets there are if neither is; likewise the others.

    Args:
        variants: "exact", "interp" or both.
        per: "scene", or "all" for one value over the pairs of all scenes.
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        prefix: put in front of the result names.

    Raises:
        ConfigError: an unknown variant or `per`.
        BadSampleError: a sample without score, or a label other than 0 and 1.
        DataError: a scene of a set has pairs of one label only, or there are none at all.
    """

    def __init__(
        self,
        variants: Sequence[str] = VARIANTS,
        per: str = "scene",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.variants = (variants,) if isinstance(variants, str) else tuple(variants)
        for name in self.variants:
            if name not in VARIANTS:
                raise ConfigError(f"FPR95: variants has {name!r}{nearest(str(name), VARIANTS)}")
        if not self.variants or per not in ("scene", "all"):
            raise ConfigError(f'FPR95: variants={variants!r} names one or more, and per={per!r} is "scene" or "all"')
        self.per = per

    def check_sample(self, sample: DataSample) -> None:
        """Refuse a data set without labels before any time is spent on it; `sample` is one of its samples.

        Raises:
            DataError: no label.
        """
        require_label(self, sample)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep (set, scene, label, score) of each pair."""
        for sample in data_samples:
            where = sample.get("img_path", "a pair without img_path")
            missing = [key for key in ("pred_score", "gt_label") if key not in sample]
            if missing:
                raise BadSampleError(f"{where}: no {', '.join(missing)} in the predicted sample")
            label, scores = int(sample["gt_label"].reshape(-1)[0]), sample["pred_score"].reshape(-1)
            if label not in (0, 1):
                raise BadSampleError(f"{where}: label {label}; a pair has 1 (same place) or 0 (another place)")
            if len(scores) != 1:
                raise BadSampleError(f"{where}: {len(scores)} scores; a pair has one")
            scene = str(sample.get("scene", "all")) if self.per == "scene" else "all"
            self.results.append((str(sample.get("set", "test")), scene, label, float(scores[0])))

    def compute_metrics(self, results: list) -> dict[str, float]:
        if not results:
            raise DataError("FPR95: no pair was evaluated")
        sets = list(dict.fromkeys(row[0] for row in results))
        table = Table("Set", "scene", "pairs", *self._names(), box=box.ASCII)
        numbers: dict[str, float] = {}
        for kind in sets:
            scenes: dict[str, list[tuple]] = {}
            for row in results:
                if row[0] == kind:
                    scenes.setdefault(row[1], []).append(row)
            values = {scene: self._values(rows, kind, scene) for scene, rows in sorted(scenes.items())}
            for scene, found in values.items():
                table.add_row(kind, scene, str(len(scenes[scene])), *(f"{value:.3f}" for value in found.values()))
                if len(values) > 1:
                    numbers |= {f"{name}_{kind}/{scene}": found[name] for name in self._fprs()}
            numbers |= {f"{name}_{kind}": _mean([v[name] for v in values.values()]) for name in self._names()}
        main = [kind for kind in MAIN if kind in sets] or sets
        means = {name: _mean([numbers[f"{name}_{kind}"] for kind in main]) for name in self._names()}
        print_log(f"per set and scene, in percent:\n{as_text(table)}", MMLogger.get_current_instance())
        return {name: value for name, value in (means | numbers).items() if not np.isnan(value)}

    def _fprs(self) -> list[str]:
        return [dict(exact="FPR95", interp="FPR95_interp")[name] for name in self.variants]

    def _names(self) -> list[str]:
        return [*self._fprs(), "AUC", "accuracy"]

    def _values(self, rows: Sequence[tuple], kind: str, scene: str) -> dict[str, float]:
        """The values of one scene of one set; nan for an accuracy that has no meaning."""
        scores, labels = np.array([row[3] for row in rows], np.float64), np.array([row[2] for row in rows])
        positive, negative = scores[labels == 1], scores[labels == 0]
        if not len(positive) or not len(negative):
            raise DataError(
                f"FPR95: set {kind}, scene {scene}: {len(positive)} matching and {len(negative)} other pairs; it needs "
                'both; evaluate more pairs of it, or take per="all"'
            )
        measures = dict(exact=fpr95, interp=fpr95_interp)
        values = {name: 100 * measures[v](positive, negative) for name, v in zip(self._fprs(), self.variants)}
        valid = np.isnan(scores) | ((scores >= 0) & (scores <= 1))
        right = ((scores >= 0.5) == (labels == 1)) & ~np.isnan(scores)
        accuracy = float(right.mean()) if valid.all() else float("nan")
        return values | dict(AUC=100 * auc(positive, negative), accuracy=100 * accuracy)


def fpr95(positive: np.ndarray, negative: np.ndarray) -> float:
    """Scores (P,) of matching and (N,) of other pairs -> the share of the latter at or above the 95 % threshold."""
    positive, negative = _against(positive, negative)
    rank = -(-19 * len(positive) // 20)  # ceil(0.95 P), in integers
    threshold = np.sort(positive)[len(positive) - rank]
    return float((negative >= threshold).mean())


def fpr95_interp(positive: np.ndarray, negative: np.ndarray) -> float:
    """The same, read off the ROC curve of scikit-learn with straight lines between its points."""
    from scipy.stats import rankdata
    from sklearn.metrics import roc_curve

    scores = rankdata(np.concatenate(_against(positive, negative)), method="dense")  # roc_curve refuses infinities
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    wrong, right, _ = roc_curve(labels, scores)  # rates of false and of true positives
    last = int(np.searchsorted(right, 0.95, side="right")) - 1  # the last point at or below 0.95
    if right[last] == 0.95:
        return float(wrong[last])
    share = (0.95 - right[last]) / (right[last + 1] - right[last])
    return float(wrong[last] + share * (wrong[last + 1] - wrong[last]))


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The probability that a matching pair has a higher score than another one; half of the ties count."""
    from scipy.stats import rankdata

    positive, negative = _against(positive, negative)
    p, n = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:p].sum() - p * (p + 1) / 2) / (p * n))


def _against(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with their nans as the worst scores there are."""
    return np.where(np.isnan(positive), -np.inf, positive), np.where(np.isnan(negative), np.inf, negative)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
