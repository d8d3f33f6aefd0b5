"""Rotary position embedding (RoFormer, arXiv 2104.09864), half-split layout."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RotaryEmbedding(nn.Module):
    """Hold tables of cosines and sines for positions 0 … max_positions - 1, in fp32."""

    cos: Float[Tensor, "positions head_dim"]
    sin: Float[Tensor, "positions head_dim"]

    def __init__(self, head_dim: int, max_positions: int, theta: float = 10_000.0):
        super().__init__()
        if head_dim % 2:
            raise ValueError(
                f"rotary positions need an even head size, not {head_dim}: change the width or "
                "the number of heads"
            )
        frequencies = theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        angles = torch.outer(torch.arange(max_positions, dtype=torch.float32), frequencies)
        angles = torch.cat([angles, angles], dim=-1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)


def rotate_half(x: Float[Tensor, "*batch head_dim"]) -> Float[Tensor, "*batch head_dim"]:
    """Rotate each pair by a quarter turn: (x1, x2) → (-x2, x1)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def apply_rotary(
    x: Float[Tensor, "batch seq heads head_dim"],
    cos: Float[Tensor, "*texts seq head_dim"],
    sin: Float[Tensor, "*texts seq head_dim"],
) -> Float[Tensor, "batch seq heads head_dim"]:
    """Rotate each pair (x[i], x[i + head_dim/2]) by its position's angle, in fp32 at least."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    rotated = wide * cos[..., None, :] + rotate_half(wide) * sin[..., None, :]
    return rotated.to(x.dtype)
