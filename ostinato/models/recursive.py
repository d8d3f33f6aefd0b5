"""The common base of TRM and HRM: latent state, inputs, outputs and one supervision step.

z_H     the latent that is read out as the answer           [batch, prefix + seq, dim]
z_L     the latent that reasons                             [batch, prefix + seq, dim]
x       the embedded question, added before every reasoning [batch, prefix + seq, dim]
prefix  tokens in front of the grid that carry the puzzle's embedding; q is read at position 0

EqR (arXiv 2605.21488) is a TRM whose latents start at random and move with damping and noise.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ostinato.layers import (
    REPLACE,
    Attention,
    Embedding,
    Linear,
    Relaxation,
    RotaryEmbedding,
    SparseEmbedding,
    SwiGLU,
    rms_norm,
    truncated_normal_,
)
from ostinato.models.recursive_config import Cycles, RecursiveConfig

Q_HEAD_BIAS = -5.0
"""Initial bias of the q head: nothing halts before the model has learnt when it is right."""


class State(NamedTuple):
    """Hold the latents. No gradient flows from one supervision step into the one before."""

    z_H: Float[Tensor, "*batch dim"]
    z_L: Float[Tensor, "*batch dim"]

    def detach(self) -> "State":
        return State(self.z_H.detach(), self.z_L.detach())


class Output(NamedTuple):
    """Hold the outputs of a supervision step."""

    logits: Float[Tensor, "batch seq vocab"]
    q_halt: Float[Tensor, " batch"]
    """Above 0: "my answer is right" (a logit, fp32)."""
    q_continue: Float[Tensor, " batch"] | None


def swiglu(config: RecursiveConfig, dim: int) -> SwiGLU:
    """Make the feed-forward layer of `config` over `dim` channels or positions."""
    return SwiGLU(dim, config.expansion, config.normalize_swiglu, config.rms_norm_eps)


def wants_to_halt(output: Output, config: RecursiveConfig) -> Bool[Tensor, " batch"]:
    """Return q_halt > 0, or q_halt > q_continue if the continue head is trained."""
    if config.no_ACT_continue:
        return output.q_halt > 0
    assert output.q_continue is not None
    return output.q_halt > output.q_continue


class Block(nn.Module):
    """Apply a post-norm transformer block: h ← rms(h + attention(h)); h ← rms(h + swiglu(h))."""

    def __init__(self, config: RecursiveConfig):
        super().__init__()
        self.eps = config.rms_norm_eps
        self.self_attn = Attention(config.hidden_size, config.num_heads)
        self.mlp = swiglu(config, config.hidden_size)

    def forward(
        self, h: Float[Tensor, "batch length dim"], rotary: RotaryEmbedding | None
    ) -> Float[Tensor, "batch length dim"]:
        h = rms_norm(h + self.self_attn(h, rotary), self.eps)
        return rms_norm(h + self.mlp(h), self.eps)


class ReasoningModule(nn.Module):
    """Add the injection, then run the layers. The recursion calls this network repeatedly."""

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(
        self,
        hidden: Float[Tensor, "batch length dim"],
        injection: Float[Tensor, "batch length dim"],
        rotary: RotaryEmbedding | None,
    ) -> Float[Tensor, "batch length dim"]:
        hidden = hidden + injection
        for layer in self.layers:
            hidden = layer(hidden, rotary)
        return hidden


class RecursiveModel(nn.Module, ABC):
    """Embed a question, think, and read answers off z_H. A subclass defines the H-cycle (`refine`).

    Initial values (`reset_parameters`), drawn from the one generator passed in:

    | weight               | distribution                                             |
    |----------------------|----------------------------------------------------------|
    | embeddings           | truncated normal, std 1/sqrt(dim)                        |
    | linear layers        | truncated normal, std 1/sqrt(fan_in)                     |
    | q head               | weight 0, bias -5                                        |
    | puzzle rows          | 0                                                        |
    | H_init, L_init       | truncated normal, std 1: one vector each, never trained  |
    """

    H_init: Float[Tensor, " dim"]
    L_init: Float[Tensor, " dim"]

    def __init__(self, config: RecursiveConfig):
        super().__init__()
        self.config = config
        self.training_cycles = config.cycles
        """Cycles of a training step, possibly fewer (see `TrainingConfig`)."""
        dim, length = config.hidden_size, config.prefix_len + config.seq_len
        std = dim**-0.5
        self.embed_tokens = Embedding(config.vocab_size, dim, std, config.dtype)
        self.embed_pos = (
            Embedding(length, dim, std, config.dtype) if config.pos_encodings == "learned" else None
        )
        self.rotary = (
            RotaryEmbedding(dim // config.num_heads, length, config.rope_theta)
            if config.pos_encodings == "rope"
            else None
        )
        self.puzzle_emb = (
            SparseEmbedding(config.num_puzzle_identifiers, config.puzzle_emb_ndim)
            if config.puzzle_emb_ndim
            else None
        )
        self.lm_head = Linear(dim, config.vocab_size)
        self.q_head = Linear(dim, config.q_outputs, bias=True)
        # Buffers, never trained. Fixed starts are saved, because the weights adapt to them
        fixed = config.initial_state == "fixed"
        self.register_buffer("H_init", torch.empty(dim, dtype=config.dtype), persistent=fixed)
        self.register_buffer("L_init", torch.empty(dim, dtype=config.dtype), persistent=fixed)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all initial values (see the table in the class docstring)."""
        for module in self.modules():
            if isinstance(module, Linear | Embedding):
                module.reset_parameters(generator)
        nn.init.zeros_(self.q_head.weight)
        assert self.q_head.bias is not None
        nn.init.constant_(self.q_head.bias, Q_HEAD_BIAS)
        if self.puzzle_emb is not None:
            nn.init.zeros_(self.puzzle_emb.weights)
        truncated_normal_(self.H_init, std=1.0, generator=generator)
        truncated_normal_(self.L_init, std=1.0, generator=generator)

    @property
    def cycles(self) -> Cycles:
        """Return the cycles of the next step: `training_cycles` in training, else as configured."""
        return self.training_cycles if self.training else self.config.cycles

    def initial_state(self, batch_size: int, generator: torch.Generator | None = None) -> State:
        """Return the state before the first step: the same vector at every position.

        With `generator`, or if the config asks for random starts, every position is drawn from a
        normal of std 1 truncated at two sigmas (EqR). Without a generator, the seed is 0.
        """
        shape = (batch_size, self.config.prefix_len + self.config.seq_len, self.config.hidden_size)
        if generator is None:
            if self.config.initial_state == "fixed":
                return State(self.H_init.expand(shape), self.L_init.expand(shape))
            generator = torch.Generator(self.H_init.device).manual_seed(0)
        z_H, z_L = (self.H_init.new_empty(shape) for _ in range(2))
        return State(*(truncated_normal_(z, std=1.0, generator=generator) for z in (z_H, z_L)))

    @property
    def is_plain(self) -> bool:
        """Return whether thinking has a fixed start, and neither damping nor noise (EqR has)."""
        config = self.config
        return (config.initial_state, config.damping, config.noise) == ("fixed", 1.0, 0.0)

    def relaxation(self, generator: torch.Generator) -> Relaxation:
        """Return the damping and noise of this model's latents, with noise from `generator`."""
        return Relaxation(self.config.damping, self.config.noise, (generator,))

    def embed(
        self,
        inputs: Int[Tensor, "batch seq"],
        puzzle_ids: Int[Tensor, " batch"],
        puzzle_rows: Float[Tensor, "batch ndim"] | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """Embed the prefix and grid tokens (plus learned positions), times sqrt(dim)."""
        config = self.config
        x = self.embed_tokens(inputs)
        if config.prefix_len:
            x = torch.cat([self.embed_puzzle(puzzle_ids, puzzle_rows), x], dim=1)
        if self.embed_pos is not None:
            x = 0.5**0.5 * (x + self.embed_pos.weight.to(x.dtype))
        return config.hidden_size**0.5 * x

    def embed_puzzle(
        self,
        puzzle_ids: Int[Tensor, " batch"],
        puzzle_rows: Float[Tensor, "batch ndim"] | None,
    ) -> Float[Tensor, "batch prefix dim"]:
        """Cut the puzzle's row, zero-padded, into prefix tokens; zeros if there is no table."""
        config = self.config
        if self.puzzle_emb is None:
            # .shape, as len() would fix the batch size of a traced graph
            shape = (puzzle_ids.shape[0], config.prefix_len, config.hidden_size)
            return self.H_init.new_zeros(shape)
        rows = self.puzzle_emb(puzzle_ids) if puzzle_rows is None else puzzle_rows
        padding = config.prefix_len * config.hidden_size - config.puzzle_emb_ndim
        rows = F.pad(rows.to(config.dtype), (0, padding))
        return rows.unflatten(-1, (config.prefix_len, config.hidden_size))

    def read_out(self, z_H: Float[Tensor, "batch length dim"]) -> Output:
        """Read the logits at the grid positions, and q at the first position."""
        logits = self.lm_head(z_H[:, self.config.prefix_len :])
        q = self.q_head(z_H[:, 0])
        q = q.to(torch.promote_types(q.dtype, torch.float32))
        return Output(logits, q[:, 0], q[:, 1] if self.config.q_outputs == 2 else None)

    def forward(
        self,
        state: State,
        inputs: Int[Tensor, "batch seq"],
        puzzle_ids: Int[Tensor, " batch"],
        puzzle_rows: Float[Tensor, "batch ndim"] | None = None,
        H_cycles: int | None = None,
        relax: Relaxation = REPLACE,
    ) -> tuple[State, Output]:
        """Take one supervision step: continue from `state` to think about `inputs`.

        Only the last H-cycle carries a gradient. `puzzle_rows` (from `puzzle_emb.copy_rows`)
        replaces the table's rows, so that training can take their gradient. All H-cycles are
        alike, so fewer `H_cycles` than configured make a part of a step. `relax` sets damping and
        noise (see `relaxation`). Returns the detached new state and the outputs read off it.
        """
        x = self.embed(inputs, puzzle_ids, puzzle_rows)
        with torch.no_grad():
            for _ in range((H_cycles or self.cycles.H) - 1):
                state = self.refine(state, x, relax)
        state = self.refine(state, x, relax)
        return state.detach(), self.read_out(state.z_H)

    @abstractmethod
    def refine(
        self, state: State, x: Float[Tensor, "batch length dim"], relax: Relaxation
    ) -> State:
        """Run one H-cycle: reason L_cycles times, then refine the answer once."""

    def compile_reasoning(self, dynamic: bool) -> None:
        """Compile the networks that the recursion calls, for one batch size or (`dynamic`) for all.

        The first call of each network is then slow and needs a C++ compiler.
        """
        for module in self.reasoning_modules():
            module.compile(dynamic=dynamic)

    def without_numbers(self) -> "RecursiveModel":
        """A twin on the meta device, to count what a step takes."""
        with torch.device("meta"):
            return type(self)(self.config)

    def reasoning_modules(self) -> list[ReasoningModule]:
        """Return the networks that the recursion calls."""
        return [module for module in self.modules() if isinstance(module, ReasoningModule)]
