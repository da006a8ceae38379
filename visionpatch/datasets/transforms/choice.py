"""One of several pipelines, chosen at random for each sample."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from visionpatch.errors import ConfigError
from visionpatch.registry import TRANSFORMS

from .base import BaseTransform, Compose, Results

Steps = Mapping[str, Any] | Callable | Sequence[Mapping[str, Any] | Callable]


@TRANSFORMS.register_module()
class RandomChoice(BaseTransform):
    """Apply one of several pipelines: DETR and Swin train on one resize, or on a resize, a crop and a resize.

    Args:
        transforms: pipelines, each a list of transforms or a single one.
        prob: the probability of each, with the sum 1; None: all are equally likely.
    """

    def __init__(self, transforms: Sequence[Steps], prob: Sequence[float] | None = None) -> None:
        if isinstance(transforms, Mapping) or not isinstance(transforms, Sequence) or not transforms:
            raise ConfigError(f"RandomChoice: transforms is a list of pipelines, not {transforms!r}")
        self.transforms = [_pipeline(number, steps) for number, steps in enumerate(transforms)]
        if prob is not None and (len(prob) != len(transforms) or min(prob) < 0 or abs(sum(prob) - 1) > 1e-9):
            raise ConfigError(
                f"RandomChoice: prob is a probability for each of the {len(transforms)} pipelines with the sum 1, not "
                f"{prob!r}"
            )
        self.prob = None if prob is None else tuple(prob)

    def transform(self, results: Results) -> Results | None:
        chosen = int(np.random.choice(len(self.transforms), p=self.prob))
        return self.transforms[chosen](results)


def _pipeline(number: int, steps: Steps) -> Compose:
    try:
        return Compose([steps] if isinstance(steps, Mapping) or callable(steps) else steps)
    except ConfigError as error:
        raise ConfigError(f"transforms[{number}]: {error}") from error
