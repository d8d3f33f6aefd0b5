"""The gated feed-forward layer."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ostinato.layers.linear import Linear
from ostinato.layers.norm import rms_norm

INNER_MULTIPLE = 256


def swiglu_width(dim: int, expansion: float) -> int:
    """Return the inner width: 2/3 · expansion · dim, rounded up to 256s (512, 4 → 1536)."""
    return -(-max(1, round(expansion * dim * 2 / 3)) // INNER_MULTIPLE) * INNER_MULTIPLE


class SwiGLU(nn.Module):
    """Compute down(silu(gate(x)) · up(x)); gate and up are fused, gate first (arXiv 2002.05202).

    With `normalized`, compute down(σ(gate) · rms(gate · up)). Since silu(g)·u = σ(g)·(g·u), the
    second factor carries the magnitude, which grows under large Muon steps (arXiv 2601.19085).
    """

    def __init__(self, dim: int, expansion: float, normalized: bool = False, eps: float = 1e-5):
        super().__init__()
        self.normalized, self.eps = normalized, eps
        inner = swiglu_width(dim, expansion)
        self.gate_up_proj = Linear(dim, 2 * inner)
        self.down_proj = Linear(inner, dim)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        if self.normalized:
            return self.down_proj(gate.sigmoid() * rms_norm(gate * up, self.eps))
        return self.down_proj(F.silu(gate) * up)
