"""Pictures of a training batch mixed with each other, and their labels with them. Letters: B batch, K classes.

The rules are those of timm's ``Mixup`` in its mode "batch": one share for the whole batch, and picture i is mixed with
picture B - 1 - i. The numbers come from NumPy's global generator, whose state a checkpoint keeps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from visionpatch.errors import ConfigError, nearest
from visionpatch.registry import TASK_UTILS
from visionpatch.structures import DataSample

KEYS = ("augments", "probs")


class BatchAugment:
    """Applies one of several mixtures to a batch, or none.

    Args:
        augments: mixtures, as configs or callables: from a batch (B, C, H, W) to the mixed batch and the share, 0 to 1,
            that each picture's own label keeps; the rest belongs to picture B - 1 - i.
        probs: the probability of each, with a sum of at most 1; what is missing to 1 is that of no mixture. None: all
            are equally likely, with the sum 1. timm's probability p and switch probability s are (p (1 - s), p s).

    Raises:
        ConfigError: no mixture, or probabilities that do not fit.
    """

    def __init__(self, augments: Sequence[dict | Callable], probs: Sequence[float] | None = None) -> None:
        if isinstance(augments, Mapping | str) or not isinstance(augments, Sequence) or not augments:
            raise ConfigError(f"model.train_cfg.augments is a list of mixtures such as Mixup, not {augments!r}")
        self.augments = [TASK_UTILS.build(dict(a)) if isinstance(a, Mapping) else a for a in augments]
        number = len(self.augments)
        self.probs = [1 / number] * number if probs is None else list(probs)
        if len(self.probs) != number or min(self.probs) < 0 or sum(self.probs) > 1 + 1e-9:
            raise ConfigError(
                f"model.train_cfg.probs is a probability for each of the {number} augments with a sum of at most 1, "
                f"not {probs!r}"
            )
        self._edges = np.cumsum(self.probs)

    def __call__(self, inputs: Tensor, targets: Tensor, samples: Sequence[DataSample]) -> tuple[Tensor, list]:
        """Pictures (B, C, H, W), their class probabilities `targets` (B, K) and samples, to the mixed pictures and
        samples with `gt_score` (K,). The samples given stay as they are, and `gt_label` stays the picture's own."""
        chosen = int(self._edges.searchsorted(np.random.random_sample(), side="right"))
        if chosen == len(self.augments):
            return inputs, list(samples)
        inputs, share = self.augments[chosen](inputs)
        mixed = []
        for sample, score in zip(samples, targets * share + targets.flip(0) * (1 - share), strict=True):
            mixed.append(sample.clone())
            mixed[-1].gt_score = score
        return inputs, mixed


@TASK_UTILS.register_module()
class Mixup:
    """The weighted mean of two pictures (arXiv 1710.09412): share * x + (1 - share) * x', share ~ Beta(alpha, alpha).

    Args:
        alpha: above 0; the smaller, the more often one of the two pictures is nearly all.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = _positive("Mixup", alpha)

    def __call__(self, inputs: Tensor) -> tuple[Tensor, float]:
        share = float(np.random.beta(self.alpha, self.alpha))
        return inputs * share + inputs.flip(0) * (1 - share), share


@TASK_UTILS.register_module()
class CutMix:
    """A window of one picture pasted into another (arXiv 1905.04899), at the same place.

    share ~ Beta(alpha, alpha) is that of the picture pasted into. The window's sides are sqrt(1 - share) times those of
    the batch, rounded down, its centre is drawn evenly from all pixels, what lies outside is cut off, and the share is
    then corrected to the area that is really left.

    Args:
        alpha: above 0; 1 draws the share evenly from [0, 1].
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = _positive("CutMix", alpha)

    def __call__(self, inputs: Tensor) -> tuple[Tensor, float]:
        height, width = inputs.shape[-2:]
        left_over = float(np.random.beta(self.alpha, self.alpha))
        top, bottom = _side(height, left_over)
        left, right = _side(width, left_over)
        mixed = inputs.clone()
        mixed[..., top:bottom, left:right] = inputs[..., top:bottom, left:right].flip(0)
        return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def checked_train_cfg(train_cfg: Mapping[str, Any] | None) -> BatchAugment | None:
    """What a Classifier's `train_cfg` asks for.

    Raises:
        ConfigError: an unknown key, or a wrong value.
    """
    cfg = dict(train_cfg or {})
    for key in cfg:
        if key not in KEYS:
            raise ConfigError(f'model.train_cfg has no key "{key}"{nearest(str(key), KEYS)}')
    if not cfg.get("augments"):
        if cfg.get("probs") is not None:
            raise ConfigError(f"model.train_cfg.probs = {cfg['probs']!r}, but there are no augments")
        return None
    return BatchAugment(cfg["augments"], cfg.get("probs"))


def _side(length: int, left_over: float) -> tuple[int, int]:
    """Begin and end of the window along one side of the pictures."""
    half = int(length * math.sqrt(1 - left_over)) // 2
    centre = int(np.random.randint(length))
    return max(centre - half, 0), min(centre + half, length)


def _positive(owner: str, alpha: float) -> float:
    if not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
        raise ConfigError(f"{owner}: alpha is a number above 0, not {alpha!r}; leave {owner} out to switch it off")
    return float(alpha)
