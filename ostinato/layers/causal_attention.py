"""Causal self-attention with shared key heads, rotary positions and a cache for generation."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from ostinato.layers.norm import RMSNorm
from ostinato.layers.rotary import RotaryEmbedding, apply_rotary


class KeyValueCache:
    """Hold the keys and values of one attention layer for the `length` positions seen so far."""

    keys: Float[Tensor, "batch kv_heads capacity head_dim"]
    values: Float[Tensor, "batch kv_heads capacity head_dim"]

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
    ):
        """Make an empty cache; `shape` is (batch, key heads, capacity in positions, head size)."""
        self.length = 0
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    @classmethod
    def holding(cls, keys: Tensor, values: Tensor, length: int) -> "KeyValueCache":
        """Return a cache that writes to these tensors, whose first positions are filled."""
        made = cls.__new__(cls)
        made.keys, made.values, made.length = keys, values, length
        return made

    @property
    def capacity(self) -> int:
        return self.keys.shape[2]

    def angles(self, rotary: RotaryEmbedding, new: int) -> tuple[Tensor, Tensor]:
        """Return the cosines and sines of the next `new` positions."""
        places = slice(self.length, self.length + new)
        return rotary.cos[places], rotary.sin[places]

    def mask(self, new: int) -> Bool[Tensor, "..."] | None:
        """Return which positions each of the `new` ones sees; None if causality says it all."""
        if new == 1 or self.length == 0:
            return None
        mask = torch.ones(new, self.length + new, dtype=torch.bool, device=self.keys.device)
        return mask.tril(self.length)

    def extend(
        self,
        keys: Float[Tensor, "batch kv_heads new head_dim"],
        values: Float[Tensor, "batch kv_heads new head_dim"],
    ) -> tuple[
        Float[Tensor, "batch kv_heads length head_dim"],
        Float[Tensor, "batch kv_heads length head_dim"],
    ]:
        """Append the new positions and return all so far. Raises ValueError if there is no room."""
        start, end = self.length, self.length + keys.shape[2]
        if end > self.capacity:
            raise ValueError(
                f"{end} tokens do not fit in a cache of {self.capacity}: make a larger one"
            )
        self.keys[:, :, start:end] = keys
        self.values[:, :, start:end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class CausalAttention(nn.Module):
    """Let every position attend to itself and earlier ones, scale 1/sqrt(head_dim), no bias.

    Query head h uses key head h // (num_heads / num_kv_heads) (GQA, arXiv 2305.13245). `linear`
    makes the projections from (in_features, out_features). `sub_norm`, if given, normalises the
    input of o_proj (SubLN, arXiv 2210.06423).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_kv_heads: int,
        linear: Callable[[int, int], nn.Module],
        sub_norm: RMSNorm | None = None,
    ):
        super().__init__()
        assert dim % num_heads == 0 and num_heads % num_kv_heads == 0
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        kv_dim = dim // num_heads * num_kv_heads
        self.q_proj = linear(dim, dim)
        self.k_proj = linear(dim, kv_dim)
        self.v_proj = linear(dim, kv_dim)
        self.o_proj = linear(dim, dim)
        self.sub_norm = sub_norm

    def forward(
        self,
        x: Float[Tensor, "batch seq dim"],
        rotary: RotaryEmbedding,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """Attend. With a `cache`, `x` continues the cached positions and is appended to them."""
        seq = x.shape[1]
        if cache is None:
            cos, sin, mask = rotary.cos[:seq], rotary.sin[:seq], None
        else:
            (cos, sin), mask = cache.angles(rotary, seq), cache.mask(seq)
        q = self.q_proj(x).unflatten(-1, (self.num_heads, -1))
        k = self.k_proj(x).unflatten(-1, (self.num_kv_heads, -1))
        v = self.v_proj(x).unflatten(-1, (self.num_kv_heads, -1)).transpose(1, 2)
        q = apply_rotary(q, cos, sin).transpose(1, 2)
        k = apply_rotary(k, cos, sin).transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(k, v)
        attended = F.scaled_dot_product_attention(
            q,
            k,
            v,
            mask,
            is_causal=seq > 1 and mask is None,
            enable_gqa=self.num_heads != self.num_kv_heads,
        )
        attended = attended.transpose(1, 2).flatten(2)
        if self.sub_norm is not None:
            attended = self.sub_norm(attended)
        return self.o_proj(attended)
