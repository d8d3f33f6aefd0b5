"""The settings of nanochat, and the layers that they ask for."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch

from ostinato.layers import HyperConnection, Linear, Residual, RMSNorm, TernaryLinear
from ostinato.models.dtypes import dtype_named
from ostinato.numbers import (
    ABSENT,
    Count,
    Factor,
    Natural,
    NonNegative,
    Theta,
    Width,
    check_numbers,
)


@dataclass(frozen=True)
class NanoChatConfig:
    """Options of nanochat; `ostinato.models.sizes` has named presets."""

    vocab_size: Count = 4096
    """Number of tokens."""
    seq_len: Count = 256
    """Length of the longest text, in tokens."""
    hidden_size: Width = 256
    """Width of a stream."""
    num_layers: Count = 6
    """Number of blocks: attention and SwiGLU."""
    num_heads: Count = 4
    """Number of attention heads."""
    num_kv_heads: Natural = 0
    """Number of key heads, each shared by num_heads / num_kv_heads query heads. 0: num_heads."""
    ffn_mult: Factor = 2.6875
    """Inner width of SwiGLU in units of hidden_size, rounded up to whole groups."""
    num_streams: Literal[1, 2, 4] = 2
    """Number of residual streams. 1: a plain residual, which ignores stream_mode."""
    stream_mode: Literal["static", "dynamic", "legacy"] = "static"
    """Rule that reads, writes and mixes the streams (see `ostinato.layers.hyper_connections`)."""
    ternary: bool = True
    """Use weights -1, 0, 1 in the blocks. False: the same model in full precision."""
    group_size: Natural = 128
    """Number of consecutive inputs that share a weight scale. 0: one scale for a whole matrix."""
    quantize_activations: bool = True
    """Quantise the inputs of the ternary matrices to int8."""
    activation_group_size: Natural = 0
    """Number of consecutive inputs of a token that share an int8 scale. 0: all. llama.cpp uses 32,
    or 256 with tq1_0 and tq2_0; train with the same number to get the same model there."""
    sub_norm: bool = False
    """Add a norm in front of o_proj and down_proj (SubLN, as in BitNet)."""
    sandwich_norm: bool = field(default=False, metadata={ABSENT: False})
    """Add a norm behind attention and behind the feed-forward layer (as in Ouro)."""
    num_loops: Count = field(default=1, metadata={ABSENT: 1})
    """Number of times that the blocks are applied. Above 1, an exit gate learns after which pass
    each token is done."""
    tied_head: bool = True
    """Use the embedding as the head."""
    rms_norm_eps: NonNegative = 1e-6
    """Small number that keeps RMSNorm from dividing by zero."""
    rope_theta: Theta = 10_000.0
    """Base of the rotary frequencies."""
    forward_dtype: Literal["auto", "bfloat16", "float32", "float64"] = "float32"
    """Dtype of activations; weights stay in fp32 and are cast on use. "auto" is resolved when a run
    starts: bfloat16, or float32 on a CPU that computes slowly in bfloat16."""

    def __post_init__(self):
        check_numbers(self)
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"num_kv_heads {self.num_kv_heads} does not divide num_heads {self.num_heads}"
            )
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be an even multiple of num_heads "
                f"{self.num_heads}"
            )
        for name in ("group_size", "activation_group_size"):
            size = getattr(self, name)
            if self.ternary and size and self.hidden_size % size:
                raise ValueError(
                    f"hidden_size {self.hidden_size} is not a multiple of {name} {size}: change "
                    f"one of them, or set {name} to 0"
                )

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.num_heads

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def inner_size(self) -> int:
        """Return the inner width of SwiGLU."""
        multiple = math.lcm(self.group_size or 1, self.activation_group_size or 1)
        return -(-int(self.hidden_size * self.ffn_mult) // multiple) * multiple

    @property
    def dtype(self) -> torch.dtype:
        return dtype_named(self.forward_dtype)

    def linear(self, in_features: int, out_features: int) -> TernaryLinear | Linear:
        """Make a matrix of a block."""
        if not self.ternary:
            return Linear(in_features, out_features)
        return TernaryLinear(
            in_features,
            out_features,
            self.group_size,
            self.quantize_activations,
            self.activation_group_size,
        )

    def norm(self, dim: int) -> RMSNorm:
        return RMSNorm(dim, self.rms_norm_eps)

    def connection(self, index: int) -> HyperConnection | Residual:
        """Make the connection around sub-layer number `index`."""
        if self.num_streams == 1:
            return Residual()
        return HyperConnection(
            self.hidden_size, self.num_streams, self.stream_mode, index, self.rms_norm_eps
        )
