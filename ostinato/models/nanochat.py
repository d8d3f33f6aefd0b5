"""nanochat: a small GPT with ternary weights and several residual streams.

nanochat is a pre-norm decoder: rotary positions, grouped key heads, SwiGLU, RMSNorm, no biases, no
dropout. The matrices of its blocks are ternary (BitNet b1.58, arXiv 2402.17764); embedding, norms,
head and connections are not. The residual is n streams, mixed at every sub-layer by a doubly
stochastic matrix (mHC-lite, arXiv 2601.05732; `ostinato.layers.hyper_connections` has the symbols):

    streams ← n copies of the embedding
    for each block:
        streams ← connection(streams, attention ∘ norm)
        streams ← connection(streams, feedforward ∘ norm)
    logits ← head(norm(collapsed streams))

With one stream the residual is the plain one; without `ternary` as well, the model is a Llama.
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
"""Std of all random initial values. With std 1, a tied embedding would start with logits in the
hundreds, always for the token just read."""

Role = Literal["block matrix", "embedding", "head", "norm", "connection"]
Cache = list[KeyValueCache]
"""One per block, made by `NanoChat.new_cache`."""


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


class FeedForward(nn.Module):
    """Compute SwiGLU, down(silu(gate(x)) · up(x)), unfused: each matrix is quantised by itself."""

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
"""A connection and the branch that it surrounds."""


class Block(nn.Module):
    """Run attention, then feed-forward, each behind a norm and within a connection."""

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
    """The nanochat model; `forward` returns the logits of the next token at every position.

    Initial values (`reset_parameters`), drawn from the one generator passed in:

    | weight                    | distribution                                        |
    |---------------------------|-----------------------------------------------------|
    | embedding                 | truncated normal, std 0.02                          |
    | block matrices, head      | normal, std 0.02                                    |
    | norms                     | 1                                                   |
    | connections               | fixed: see `ostinato.layers.hyper_connections`      |
    """

    tokenizer_json: str
    """Content of the `tokenizer.json` that the model was trained with; "" if not known. It is kept
    as text, because only `inference.generate` uses it."""
    chat_template: str
    """Jinja template of the conversations that the model was tuned on; "" if on none."""

    def __init__(self, config: NanoChatConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        self.tokenizer_json = self.chat_template = ""
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
        """Return the logits of the token after each of `tokens`, in `config.dtype`.

        With a `cache`, the tokens continue the cached text and are appended to it. Raises
        ValueError if the text grows longer than `config.seq_len` or the cache.
        """
        streams = self.initial_streams(tokens, cache)
        for index, block in enumerate(self.blocks):
            streams = block(streams, self.rotary, cache[index] if cache else None)
        return self.read_out(streams)

    def initial_streams(
        self, tokens: Int[Tensor, "batch seq"], cache: Cache | None = None
    ) -> Float[Tensor, "batch seq streams dim"]:
        """Return the embedding, copied into every stream."""
        length = tokens.shape[1] + (cache[0].length if cache else 0)
        if length > self.config.seq_len:
            raise ValueError(f"{length} tokens are too many: give at most {self.config.seq_len}")
        x = self.embed_tokens(tokens)
        return x.unsqueeze(-2).expand(-1, -1, self.config.num_streams, -1)

    def read_out(
        self, streams: Float[Tensor, "batch seq streams dim"]
    ) -> Float[Tensor, "batch seq vocab"]:
        """Return the logits from the streams behind the last block."""
        x = self.final_norm(collapse(streams, self.config.stream_mode))
        if self.lm_head is not None:
            return self.lm_head(x)
        return F.linear(x, self.embed_tokens.weight.to(x.dtype))

    def new_cache(self, batch_size: int = 1, capacity: int | None = None) -> Cache:
        """Make an empty cache for up to `capacity` tokens (default: `config.seq_len`)."""
        config = self.config
        shape = (batch_size, config.kv_heads, capacity or config.seq_len, config.head_dim)
        device = self.embed_tokens.weight.device
        return [KeyValueCache(shape, config.dtype, device) for _ in self.blocks]

    @property
    def is_packed(self) -> bool:
        """Return whether the weights are packed (see `packed`) and so cannot be trained."""
        return any(isinstance(module, PackedTernaryLinear) for module in self.modules())

    def packed(self) -> "NanoChat":
        """Return this model for inference, one byte per ternary weight; itself if none to pack."""
        layers = {id(m): m.pack() for m in self.modules() if isinstance(m, TernaryLinear)}
        if not layers:
            return self
        # deepcopy takes a memo of layers already copied: the packed ones replace their originals
        return copy.deepcopy(self, layers).eval().requires_grad_(False)  # pyright: ignore[reportArgumentType]

    def parameter_roles(self) -> dict[str, Role]:
        """Return the role of each parameter: Muon trains block matrices, AdamW or Lion the rest.

        Every name of `named_parameters` occurs. Roles go by name, not by shape, because the maps
        of dynamic connections are matrices too.
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
