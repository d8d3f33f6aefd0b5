"""A cache whose texts differ in length, for generation in batches."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ostinato.layers.causal_attention import KeyValueCache
from ostinato.layers.rotary import RotaryEmbedding


class RaggedCache(KeyValueCache):
    """Append a position to each of some rows of a larger cache, which are of different lengths."""

    def __init__(
        self,
        keys: Float[Tensor, "slots kv_heads capacity head_dim"],
        values: Float[Tensor, "slots kv_heads capacity head_dim"],
        slots: Int[Tensor, " texts"],
        lengths: Int[Tensor, " texts"],
    ):
        """Continue the rows `slots`, whose first `lengths` positions are filled."""
        self.keys, self.values, self.slots, self.lengths = keys, values, slots, lengths
        self.length = int(lengths.max())

    def angles(self, rotary: RotaryEmbedding, new: int) -> tuple[Tensor, Tensor]:
        return rotary.cos[self.lengths, None], rotary.sin[self.lengths, None]

    def mask(self, new: int) -> Bool[Tensor, "texts 1 1 length"]:
        places = torch.arange(self.length + 1, device=self.lengths.device)
        return (places <= self.lengths[:, None])[:, None, None]

    def extend(
        self,
        keys: Float[Tensor, "texts kv_heads 1 head_dim"],
        values: Float[Tensor, "texts kv_heads 1 head_dim"],
    ) -> tuple[
        Float[Tensor, "texts kv_heads length head_dim"],
        Float[Tensor, "texts kv_heads length head_dim"],
    ]:
        """Append a position to every text; returns all up to the end of the longest."""
        self.keys[self.slots, :, self.lengths] = keys[:, :, 0]
        self.values[self.slots, :, self.lengths] = values[:, :, 0]
        self.lengths, self.length = self.lengths + 1, self.length + 1
        return self.keys[self.slots, :, : self.length], self.values[self.slots, :, : self.length]
