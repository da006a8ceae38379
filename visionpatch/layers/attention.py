"""The one attention function of the toolbox."""

from torch import Tensor
from torch.nn import functional as F


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v.

    Args:
        q, k, v: (B, heads, N, d), (B, heads, M, d), (B, heads, M, d).
        bias: added to the scores, broadcastable to (B, heads, N, M); None adds nothing.
        dropout: probability to leave a weight out, the others growing by 1 / (1 - dropout); 0 outside of training.

    Returns:
        (B, heads, N, d).
    """
    if bias is not None:
        bias = bias.to(q.dtype).expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
