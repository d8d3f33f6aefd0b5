"""Multi-head self-attention with a fused QKV projection."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ostinato.layers.linear import Linear
from ostinato.layers.rotary import RotaryEmbedding, apply_rotary


class Attention(nn.Module):
    """Let every position attend to every other one (not causal), scale 1/sqrt(head_dim).

    The rows of `qkv_proj` hold all query heads, then all key heads, then all value heads.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {dim}: change one")
        self.num_heads = num_heads
        self.qkv_proj = Linear(dim, 3 * dim)
        self.o_proj = Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "batch seq dim"], rotary: RotaryEmbedding | None
    ) -> Float[Tensor, "batch seq dim"]:
        qkv = self.qkv_proj(x).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.unbind(dim=2)
        if rotary is not None:
            q = apply_rotary(q, rotary.cos, rotary.sin)
            k = apply_rotary(k, rotary.cos, rotary.sin)
        attended = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        )
        return self.o_proj(attended.transpose(1, 2).flatten(2))
