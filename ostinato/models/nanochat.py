"""nanochat: a small GPT with ternary weights and several residual streams.

A pre-norm decoder: rotary positions, grouped key heads, SwiGLU, RMSNorm, no biases, no dropout.
The matrices of its blocks are ternary (BitNet b1.58, arXiv 2402.17764), embedding, norms, head and
connections are not. The residual is n streams, mixed at every sub-layer by a doubly stochastic
matrix (mHC-lite, arXiv 2601.05732; `ostinato.layers.hyper_connections` has the symbols):

    streams ← n copies of the embedding
    for each block:
        streams ← connection(streams, attention ∘ norm)
        streams ← connection(streams, feedforward ∘ norm)
    logits ← head(norm(collapsed streams))

With one stream this is a plain residual, and without `ternary` a Llama.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ostinato.layers import (
    CausalAttention,
    Embedding,
    HyperConnection,
    KeyValueCache,
    Linear,
    PackedTernaryLinear,
    Residual,
    RMSNorm,
    RotaryEmbedding,
    TernaryLinear,
)
from ostinato.layers.hyper_connections import collapse
from ostinato.models.dtypes import dtype_named
from ostinato.numbers import Count, Factor, Natural, NonNegative, Theta, Width, check_numbers

WEIGHT_STD = 0.02
"""Of everything random. A tied embedding with std 1 would start with logits in the hundreds, and
every one for the token that was just read."""

Role = Literal["block matrix", "embedding", "head", "norm", "connection"]
Cache = list[KeyValueCache]
"""One a block; made by `NanoChat.new_cache`."""


@dataclass(frozen=True)
class NanoChatConfig:
    """Options of nanochat; `ostinato.models.sizes` has named sets of them."""

    vocab_size: Count = 4096
    seq_len: Count = 256
    """Longest text, in tokens."""
    hidden_size: Width = 256
    num_layers: Count = 6
    num_heads: Count = 4
    num_kv_heads: Natural = 0
    """Key heads, each shared by num_heads / num_kv_heads query heads; 0: as many as num_heads."""
    ffn_mult: Factor = 2.6875
    """Inner width of SwiGLU in units of the width; rounded up to whole groups."""
    num_streams: Literal[1, 2, 4] = 2
    """Residual streams; 1: the plain residual, for which stream_mode has no meaning."""
    stream_mode: Literal["static", "dynamic", "legacy"] = "static"
    """How the streams are read, written and mixed; see `ostinato.layers.hyper_connections`."""
    ternary: bool = True
    """Weights -1, 0, 1 in the blocks; False: the full-precision twin."""
    group_size: Natural = 128
    """Consecutive inputs that share a scale; 0: one scale for a whole matrix."""
    quantize_activations: bool = True
    """int8 inputs for the ternary matrices."""
    activation_group_size: Natural = 0
    """Consecutive inputs of a token that share an int8 scale; 0: all. llama.cpp has 32, or 256 with
    tq1_0 and tq2_0: a model that was trained so is the same there."""
    sub_norm: bool = False
    """Another norm in front of o_proj and down_proj (SubLN, as in BitNet)."""
    tied_head: bool = True
    """Use the embedding as the head."""
    rms_norm_eps: NonNegative = 1e-6
    rope_theta: Theta = 10_000.0
    forward_dtype: Literal["auto", "bfloat16", "float32", "float64"] = "float32"
    """Dtype of activations; weights are kept in fp32 and cast on use. A run chooses for "auto" when
    it starts: bfloat16, but float32 on a CPU that is slow in it."""

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
        """Inner width of SwiGLU."""
        multiple = math.lcm(self.group_size or 1, self.activation_group_size or 1)
        return -(-int(self.hidden_size * self.ffn_mult) // multiple) * multiple

    @property
    def dtype(self) -> torch.dtype:
        return dtype_named(self.forward_dtype)

    def linear(self, in_features: int, out_features: int) -> TernaryLinear | Linear:
        """A matrix of a block."""
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
        """What surrounds the sub-layer number `index`."""
        if self.num_streams == 1:
            return Residual()
        return HyperConnection(
            self.hidden_size, self.num_streams, self.stream_mode, index, self.rms_norm_eps
        )


class FeedForward(nn.Module):
    """SwiGLU, down(silu(gate(x)) · up(x)), not fused: each matrix is quantised by itself."""

    def __init__(self, config: NanoChatConfig):
        super().__init__()
        dim, inner = config.hidden_size, config.inner_size
        self.gate_proj = config.linear(dim, inner)
        self.up_proj = config.linear(dim, inner)
        self.down_proj = config.linear(inner, dim)
        self.sub_norm = config.norm(inner) if config.sub_norm else None

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch seq dim"]:
        inner = F.silu(self.gate_proj(x)) * self.up_proj(x)
        if self.sub_norm is not None:
            inner = self.sub_norm(inner)
        return self.down_proj(inner)


Sublayer = tuple[HyperConnection | Residual, Callable[[Tensor], Tensor]]
"""A connection, and the branch that it surrounds."""


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and within a connection."""

    def __init__(self, config: NanoChatConfig, index: int):
        super().__init__()
        dim = config.hidden_size
        self.attention_connection = config.connection(2 * index)
        self.attention_norm = config.norm(dim)
        self.attention = CausalAttention(
            dim,
            config.num_heads,
            config.kv_heads,
            config.linear,
            config.norm(dim) if config.sub_norm else None,
        )
        self.feedforward_connection = config.connection(2 * index + 1)
        self.feedforward_norm = config.norm(dim)
        self.feedforward = FeedForward(config)

    def sublayers(
        self, rotary: RotaryEmbedding, cache: KeyValueCache | None = None
    ) -> tuple[Sublayer, Sublayer]:
        def attend(x: Tensor) -> Tensor:
            return self.attention(self.attention_norm(x), rotary, cache)

        def feed_forward(x: Tensor) -> Tensor:
            return self.feedforward(self.feedforward_norm(x))

        return (self.attention_connection, attend), (self.feedforward_connection, feed_forward)

    def forward(
        self,
        streams: Float[Tensor, "batch seq streams dim"],
        rotary: RotaryEmbedding,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch seq streams dim"]:
        for connection, branch in self.sublayers(rotary, cache):
            streams = connection(streams, branch)
        return streams


class NanoChat(nn.Module):
    """The model; `forward` gives the logits of the next token at every position.

    Initial values (`reset_parameters`), drawn from the one generator passed in:

    | weight                    | distribution                                        |
    |---------------------------|-----------------------------------------------------|
    | embedding                 | truncated normal, std 0.02                          |
    | block matrices, head      | normal, std 0.02                                    |
    | norms                     | 1                                                   |
    | connections               | fixed: see `ostinato.layers.hyper_connections`      |
    """

    tokenizer_json: str
    """The tokenizer that the model was trained with, as `tokenizer.json` holds it; "": not known.
    Kept as text, for the model itself has no use for it: `inference.generate` reads it."""

    def __init__(self, config: NanoChatConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        self.tokenizer_json = ""
        self.embed_tokens = Embedding(
            config.vocab_size, config.hidden_size, WEIGHT_STD, config.dtype
        )
        self.rotary = RotaryEmbedding(config.head_dim, config.seq_len, config.rope_theta)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.num_layers))
        self.final_norm = config.norm(config.hidden_size)
        self.lm_head = None if config.tied_head else Linear(config.hidden_size, config.vocab_size)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all initial values (see the table in the class docstring)."""
        for module in self.modules():
            if isinstance(module, Embedding):
                module.reset_parameters(generator)
            elif isinstance(module, Linear | TernaryLinear):
                nn.init.normal_(module.weight, std=WEIGHT_STD, generator=generator)
            elif isinstance(module, RMSNorm | HyperConnection):
                module.reset_parameters()

    def forward(
        self, tokens: Int[Tensor, "batch seq"], cache: Cache | None = None
    ) -> Float[Tensor, "batch seq vocab"]:
        """Logits of the token after each of `tokens`, in `config.dtype`.

        With a `cache` the tokens continue the text that it holds, and are added to it. Raises
        ValueError if the text grows longer than `config.seq_len` or the cache.
        """
        streams = self.initial_streams(tokens, cache)
        for index, block in enumerate(self.blocks):
            streams = block(streams, self.rotary, cache[index] if cache else None)
        return self.read_out(streams)

    def initial_streams(
        self, tokens: Int[Tensor, "batch seq"], cache: Cache | None = None
    ) -> Float[Tensor, "batch seq streams dim"]:
        """Copies of the embedding."""
        length = tokens.shape[1] + (cache[0].length if cache else 0)
        if length > self.config.seq_len:
            raise ValueError(
                f"{length} tokens are too many: the model reads {self.config.seq_len} at most"
            )
        x = self.embed_tokens(tokens)
        return x.unsqueeze(-2).expand(-1, -1, self.config.num_streams, -1)

    def read_out(
        self, streams: Float[Tensor, "batch seq streams dim"]
    ) -> Float[Tensor, "batch seq vocab"]:
        """Logits from the streams behind the last block."""
        x = self.final_norm(collapse(streams, self.config.stream_mode))
        if self.lm_head is not None:
            return self.lm_head(x)
        return F.linear(x, self.embed_tokens.weight.to(x.dtype))

    def new_cache(self, batch_size: int = 1, capacity: int | None = None) -> Cache:
        """An empty cache for up to `capacity` tokens (default: `config.seq_len`)."""
        config = self.config
        shape = (batch_size, config.kv_heads, capacity or config.seq_len, config.head_dim)
        device = self.embed_tokens.weight.device
        return [KeyValueCache(shape, config.dtype, device) for _ in self.blocks]

    @property
    def is_packed(self) -> bool:
        """Whether the weights are those of `packed`, which cannot be trained."""
        return any(isinstance(module, PackedTernaryLinear) for module in self.modules())

    def packed(self) -> "NanoChat":
        """This model for inference, a byte a ternary weight: itself if there is nothing to pack."""
        layers = {id(m): m.pack() for m in self.modules() if isinstance(m, TernaryLinear)}
        if not layers:
            return self
        # Seeded with the packed layers, deepcopy puts them in place of what they were made of
        return copy.deepcopy(self, layers).eval().requires_grad_(False)  # pyright: ignore[reportArgumentType]

    def parameter_roles(self) -> dict[str, Role]:
        """What each parameter is for: Muon takes the block matrices, AdamW or Lion the rest.

        Every name of `named_parameters` occurs. By role and not by shape: the maps of dynamic
        connections are matrices too.
        """
        roles: dict[str, Role] = {}
        for name, _ in self.named_parameters():
            if name.startswith("embed_tokens."):
                roles[name] = "embedding"
            elif name.startswith("lm_head."):
                roles[name] = "head"
            elif "_connection." in name:
                roles[name] = "connection"
            elif "_proj." in name:
                roles[name] = "block matrix"
            else:
                assert "norm." in name, name
                roles[name] = "norm"
        return roles
