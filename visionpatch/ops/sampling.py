"""The gather that the sampling ops share."""

import torch.nn.functional as F
from torch import Tensor


def weighted_rows(rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """``sum_k weight[..., k] * rows[index[..., k]]``, differentiable in `rows` and `weight`.

    Args:
        rows: (R, C).
        index, weight: (..., K), int64 and of the dtype of `rows`.

    Returns:
        (..., C).
    """
    k = index.shape[-1]
    bags = F.embedding_bag(index.reshape(-1, k), rows, mode="sum", per_sample_weights=weight.reshape(-1, k))
    return bags.view(*index.shape[:-1], rows.shape[1])
