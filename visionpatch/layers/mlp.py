"""The two-layer perceptron of transformer blocks."""

from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """fc2(gelu(fc1(x))) over the last axis; `out_dim` channels, None: `dim`; GELU by erf, or `approximate` "tanh"."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int | None = None, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim if out_dim is None else out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))
