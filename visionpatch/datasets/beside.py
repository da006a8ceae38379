"""Two pictures side by side as one: training queries that do not tell by themselves which object is asked for."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionpatch.errors import ConfigError
from visionpatch.structures import DataSample, PixelData

KEPT = 0.7  # of the most foreground that any window of half the width holds


def put_beside(query: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Half the width of `query`, most of its foreground in it, beside half the width of `other`, in random order.

    A network that is trained on few pictures learns their objects by heart and overlooks the support set, because a
    picture mostly shows one class. In a query made of two, only the support set tells whose object is meant.

    Args:
        query, other: packed samples of one size: ``inputs`` (3, H, W) and `gt_sem_seg` (1, H, W), 1 for the class.
            Random numbers are NumPy's global ones.

    Returns:
        A packed sample with the metadata of `query` and an ``img_shape`` of (H, W).

    Raises:
        ConfigError: the sizes differ.
    """
    mask, other_mask = (packed["data_samples"].gt_sem_seg.data for packed in (query, other))
    if mask.shape != other_mask.shape:
        raise ConfigError(
            f"EpisodeDataset: beside_prob joins training pictures, but these are {tuple(mask.shape[1:])} and "
            f"{tuple(other_mask.shape[1:])}; end the pipeline with one size, by ResizeToCanvas or ForegroundCrop"
        )
    width = mask.shape[2]
    half = width // 2
    starts = _starts_with_foreground(mask, half)
    at = int(starts[np.random.randint(len(starts))])
    shown = min(int(other["data_samples"].get("img_shape", (0, width))[1]), width)  # the rest is padding
    other_at = int(np.random.randint(max(shown - (width - half), 0) + 1))
    order = slice(None, None, 1 if np.random.random_sample() < 0.5 else -1)

    def joined(first: Tensor, second: Tensor) -> Tensor:
        parts = [first[..., at : at + half], second[..., other_at : other_at + width - half]]
        return torch.cat(parts[order], -1)

    sample: DataSample = query["data_samples"]
    sample.gt_sem_seg = PixelData(data=joined(mask, other_mask))
    sample.set_metainfo(dict(img_shape=tuple(mask.shape[1:])))
    return {**query, "inputs": joined(query["inputs"], other["inputs"])}


def _starts_with_foreground(mask: Tensor, width: int) -> np.ndarray:
    """First columns of the windows that hold enough foreground."""
    columns = np.concatenate([[0], (mask[0].numpy() == 1).sum(0).cumsum()])
    held = columns[width:] - columns[:-width]
    return np.flatnonzero(held >= KEPT * held.max())
