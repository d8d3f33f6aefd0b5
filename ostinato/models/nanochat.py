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

With `num_loops`, the same blocks are applied several times (Ouro, arXiv 2510.25741). The norm's
output h_t after pass t feeds the head, the exit gate and the next pass, in place of the embedding:

    λ_t ← σ(gate(h_t))                    the chance to leave after pass t, if still there
    p_t ← λ_t Π_{s<t} (1 - λ_s)           the share of pass t; the last one takes the rest
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any, Literal

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
from ostinato.models.nanochat_config import NanoChatConfig

WEIGHT_STD = 0.02
"""Std of all random initial values. With std 1, a tied embedding would start with logits in the
hundreds, always for the token just read."""

Role = Literal["block matrix", "embedding", "head", "norm", "connection", "gate"]
Cache = list[KeyValueCache]
"""One per block and pass, all blocks of the first pass first; made by `NanoChat.new_cache`."""


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
        sandwich = config.sandwich_norm
        self.attention_connection = config.connection(2 * index)
        self.attention_norm = config.norm(dim)
        self.attention = CausalAttention(
            dim,
            config.num_heads,
            config.kv_heads,
            config.linear,
            config.norm(dim) if config.sub_norm else None,
        )
        self.attention_out_norm = config.norm(dim) if sandwich else nn.Identity()
        self.feedforward_connection = config.connection(2 * index + 1)
        self.feedforward_norm = config.norm(dim)
        self.feedforward = FeedForward(config)
        self.feedforward_out_norm = config.norm(dim) if sandwich else nn.Identity()

    def sublayers(
        self, rotary: RotaryEmbedding, cache: KeyValueCache | None = None
    ) -> tuple[Sublayer, Sublayer]:
        def attend(x: Tensor) -> Tensor:
            attended = self.attention(self.attention_norm(x), rotary, cache)
            return self.attention_out_norm(attended)

        def feed_forward(x: Tensor) -> Tensor:
            return self.feedforward_out_norm(self.feedforward(self.feedforward_norm(x)))

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
    | exit gate                 | normal, std 0.02, bias 0                            |
    | norms                     | 1                                                   |
    | connections               | fixed: see `ostinato.layers.hyper_connections`      |
    """

    tokenizer_json: str
    """Content of the `tokenizer.json` that the model was trained with; "" if not known. It is kept
    as text, because only `inference.generate` uses it."""
    compiled: Any
    """The weights once more, as `ostinato.inference.decoder` lays them out; None until needed."""
    chat_template: str
    """Jinja template of the conversations that the model was tuned on; "" if on none."""

    def __init__(self, config: NanoChatConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        self.tokenizer_json = self.chat_template = ""
        self.compiled = None
        self.embed_tokens = Embedding(
            config.vocab_size, config.hidden_size, WEIGHT_STD, config.dtype
        )
        self.rotary = RotaryEmbedding(config.head_dim, config.seq_len, config.rope_theta)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.num_layers))
        self.final_norm = config.norm(config.hidden_size)
        self.lm_head = None if config.tied_head else Linear(config.hidden_size, config.vocab_size)
        self.exit_gate = Linear(config.hidden_size, 1, bias=True) if config.num_loops > 1 else None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all initial values (see the table in the class docstring)."""
        for module in self.modules():
            if isinstance(module, Embedding):
                module.reset_parameters(generator)
            elif isinstance(module, Linear | TernaryLinear):
                nn.init.normal_(module.weight, std=WEIGHT_STD, generator=generator)
                if isinstance(module, Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, RMSNorm | HyperConnection):
                module.reset_parameters()

    def forward(
        self, tokens: Int[Tensor, "batch seq"], cache: Cache | None = None
    ) -> Float[Tensor, "batch seq vocab"]:
        """Return the logits of the token after each of `tokens`, in `config.dtype`.

        With a `cache`, the tokens continue the cached text and are appended to it. Raises
        ValueError if the text grows longer than `config.seq_len` or the cache.
        """
        *_, state = self.states(tokens, cache)
        return self.read_out(state)

    def states(
        self, tokens: Int[Tensor, "batch seq"], cache: Cache | None = None
    ) -> Iterator[Float[Tensor, "batch seq dim"]]:
        """Yield the normalised state after each pass, which `read_out` and `exit_logits` read."""
        x = self.embed(tokens, cache)
        for number in range(self.config.num_loops):
            x = self.one_pass(x, self.cache_of_pass(cache, number))
            yield x

    def embed(
        self, tokens: Int[Tensor, "batch seq"], cache: Cache | None = None
    ) -> Float[Tensor, "batch seq dim"]:
        """Return the embedding; ValueError if the text would grow too long."""
        length = tokens.shape[1] + (cache[0].length if cache else 0)
        if length > self.config.seq_len:
            raise ValueError(f"{length} tokens are too many: give at most {self.config.seq_len}")
        return self.embed_tokens(tokens)

    def one_pass(
        self, x: Float[Tensor, "batch seq dim"], cache: Cache | None = None
    ) -> Float[Tensor, "batch seq dim"]:
        """Apply all blocks and the final norm once; `cache` is that of this pass."""
        streams = self.initial_streams(x)
        for index, block in enumerate(self.blocks):
            streams = block(streams, self.rotary, cache[index] if cache else None)
        return self.final_norm(collapse(streams, self.config.stream_mode))

    def initial_streams(
        self, x: Float[Tensor, "batch seq dim"]
    ) -> Float[Tensor, "batch seq streams dim"]:
        """Return a copy of the embedding, or of the last pass's state, for every stream."""
        return x.unsqueeze(-2).expand(-1, -1, self.config.num_streams, -1)

    def read_out(self, state: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch seq vocab"]:
        """Return the logits from the state after a pass."""
        if self.lm_head is not None:
            return self.lm_head(state)
        return F.linear(state, self.embed_tokens.weight.to(state.dtype))

    def exit_logits(self, state: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch seq"]:
        """Return the gate's logit after a pass: its sigmoid is λ, the chance to leave there."""
        assert self.exit_gate is not None
        return self.exit_gate(state).squeeze(-1)

    def cache_of_pass(self, cache: Cache | None, number: int) -> Cache | None:
        """Return the part of a cache that belongs to pass `number`, counted from 0."""
        blocks = len(self.blocks)
        return cache[number * blocks : (number + 1) * blocks] if cache else None

    def new_cache(self, batch_size: int = 1, capacity: int | None = None) -> Cache:
        """Make an empty cache for up to `capacity` tokens (default: `config.seq_len`)."""
        config = self.config
        shape = (batch_size, config.kv_heads, capacity or config.seq_len, config.head_dim)
        device = self.embed_tokens.weight.device
        number = config.num_loops * config.num_layers
        return [KeyValueCache(shape, config.dtype, device) for _ in range(number)]

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
            elif name.startswith("exit_gate."):
                roles[name] = "gate"
            elif "_connection." in name:
                roles[name] = "connection"
            elif "_proj." in name:
                roles[name] = "block matrix"
            else:
                assert "norm." in name, name
                roles[name] = "norm"
        return roles
