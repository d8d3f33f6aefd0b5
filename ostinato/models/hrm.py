"""HRM, the Hierarchical Reasoning Model (HRM-ACT-v1).

"Hierarchical Reasoning Model" (arXiv 2506.21734); the reference is the released code. Two networks
run on two timescales. A supervision step is H_cycles times

    L_cycles times   z_L ← f_L(z_L, z_H + x)    fast, detailed computation
    once             z_H ← f_H(z_H, z_L)        slow, abstract planning

Only the very last call of each network carries a gradient: the one-step approximation (section
2.2). Halting is learnt with Q-values for halt and continue (section 2.3).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ostinato.layers import Relaxation
from ostinato.models.recursive import Block, ReasoningModule, RecursiveConfig, RecursiveModel, State
from ostinato.numbers import Count, Natural


@dataclass(frozen=True)
class HRMConfig(RecursiveConfig):
    """Options of HRM; the defaults are the released Sudoku-Extreme model's."""

    H_cycles: Count = 2
    L_cycles: Count = 2
    H_layers: Count = 4
    """Number of layers of the network that refines z_H."""
    L_layers: Count = 4
    puzzle_emb_len: Natural = 0
    no_ACT_continue: bool = False


class HRM(RecursiveModel):
    """The Hierarchical Reasoning Model; `forward` is one supervision step."""

    config: HRMConfig

    def __init__(self, config: HRMConfig, generator: torch.Generator | None = None):
        super().__init__(config)
        self.H_level = ReasoningModule([Block(config) for _ in range(config.H_layers)])
        self.L_level = ReasoningModule([Block(config) for _ in range(config.L_layers)])
        self.reset_parameters(generator)

    def refine(
        self, state: State, x: Float[Tensor, "batch length dim"], relax: Relaxation
    ) -> State:
        """Run one H-cycle. Only the last call of each network may carry a gradient."""
        z_H, z_L = state
        with torch.no_grad():
            for _ in range(self.cycles.L - 1):
                z_L = relax(z_L, self.L_level(z_L, z_H + x, self.rotary))
        z_L = relax(z_L, self.L_level(z_L, z_H + x, self.rotary))
        return State(relax(z_H, self.H_level(z_H, z_L, self.rotary)), z_L)
