"""The gated feed-forward layer."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ostinato.layers.linear import Linear

INNER_MULTIPLE = 256


def swiglu_width(dim: int, expansion: float) -> int:
    """Inner width: 2/3 of expansion·dim, rounded up to a multiple of 256 (512, 4 → 1536)."""
    return -(-round(expansion * dim * 2 / 3) // INNER_MULTIPLE) * INNER_MULTIPLE


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x)); gate and up are fused, gate first (arXiv 2002.05202)."""

    def __init__(self, dim: int, expansion: float):
        super().__init__()
        inner = swiglu_width(dim, expansion)
        self.gate_up_proj = Linear(dim, 2 * inner)
        self.down_proj = Linear(inner, dim)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)
