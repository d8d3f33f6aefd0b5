"""The settings that TRM and HRM share."""

from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

import torch

from ostinato.models.dtypes import dtype_named
from ostinato.numbers import (
    ABSENT,
    Count,
    Factor,
    Natural,
    NonNegative,
    Range,
    Theta,
    Width,
    check_numbers,
)


class Cycles(NamedTuple):
    """Count the cycles of a supervision step."""

    H: int
    L: int
    """L-cycles in each H-cycle."""


@dataclass(frozen=True)
class RecursiveConfig:
    """Options shared by TRM and HRM, under the names of the original code."""

    task: str = ""
    """Kind of puzzle that the tokens stand for, e.g. "sudoku9"; empty for tokens only."""
    vocab_size: Count = 11
    """Number of tokens: one for padding and one for each symbol of the puzzle."""
    seq_len: Count = 81
    """Number of grid cells, without the prefix."""
    hidden_size: Width = 512
    """Width of the latents."""
    num_heads: Count = 8
    """Number of attention heads."""
    expansion: Factor = 4.0
    """Inner width of SwiGLU in units of hidden_size, before the factor 2/3."""
    normalize_swiglu: bool = False
    """Normalise within SwiGLU, for Muon at high learning rates; not in the original code."""
    H_cycles: Count = 3
    """Number of H-cycles in a supervision step: each refines the answer z_H once."""
    L_cycles: Count = 6
    """Number of L-cycles in an H-cycle: each refines the reasoning z_L once."""
    L_layers: Count = 2
    """Number of layers of the network; in HRM, of the one that refines z_L."""
    pos_encodings: Literal["rope", "learned", "none"] = "rope"
    """Positions of the cells: rotary, learned, or none."""
    puzzle_emb_ndim: Natural = 512
    """Width of the embedding learnt for each puzzle id. 0: learn none, so the prefix is zero."""
    puzzle_emb_len: Natural = 16
    """Number of prefix tokens. 0: as many as puzzle_emb_ndim fills."""
    num_puzzle_identifiers: Count = 1
    """Number of puzzle ids, each with an embedding of its own."""
    halt_max_steps: Count = 16
    """Maximum number of supervision steps per puzzle; evaluation always takes this many."""
    q_outputs: Literal[1, 2] = 2
    """Number of outputs of the q head: halt, or halt and continue."""
    no_ACT_continue: bool = True
    """--no-ACT-continue: halt when q_halt > 0. --ACT-continue: halt when q_halt > q_continue, which
    is trained too."""
    rms_norm_eps: NonNegative = 1e-5
    """Small number that keeps RMSNorm from dividing by zero."""
    rope_theta: Theta = 10_000.0
    """Base of the rotary frequencies."""
    initial_state: Literal["fixed", "random"] = field(default="fixed", metadata={ABSENT: "fixed"})
    """Start every puzzle from H_init and L_init, or from random latents at every position (EqR)."""
    damping: Annotated[float, Range(0, 1, without_least=True)] = field(
        default=1.0, metadata={ABSENT: 1.0}
    )
    """Share of the network's output in the new latent. 1: no damping (EqR: 0.95)."""
    noise: NonNegative = field(default=0.0, metadata={ABSENT: 0.0})
    """Standard deviation of the noise added to every new latent, in inference too (EqR: 0.01)."""
    forward_dtype: Literal["auto", "bfloat16", "float32", "float64"] = "bfloat16"
    """Dtype of activations and states; weights stay in fp32 and are cast on use. "auto" is resolved
    when a run starts: bfloat16, or float32 on a CPU that computes slowly in bfloat16."""

    def __post_init__(self):
        check_numbers(self)
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        if self.pos_encodings == "rope" and self.hidden_size // self.num_heads % 2:
            raise ValueError("rope needs an even head size: change hidden_size or num_heads")
        if self.puzzle_emb_ndim > self.prefix_len * self.hidden_size:
            raise ValueError(
                f"puzzle_emb_ndim {self.puzzle_emb_ndim} does not fit in puzzle_emb_len "
                f"{self.puzzle_emb_len} tokens of {self.hidden_size}; raise it or set it to 0"
            )
        if not self.no_ACT_continue and self.q_outputs == 1:
            raise ValueError("no_ACT_continue=False needs q_outputs=2")

    @property
    def prefix_len(self) -> int:
        return self.puzzle_emb_len or -(-self.puzzle_emb_ndim // self.hidden_size)

    @property
    def cycles(self) -> Cycles:
        return Cycles(self.H_cycles, self.L_cycles)

    @property
    def dtype(self) -> torch.dtype:
        return dtype_named(self.forward_dtype)
