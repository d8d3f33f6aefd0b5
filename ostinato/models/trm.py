"""TRM, the Tiny Recursive Model.

"Less is More: Recursive Reasoning with Tiny Networks" (arXiv 2510.04871); the reference is the
released code. One network f of two layers does everything. A supervision step is H_cycles times

    L_cycles times   z_L ← f(z_L, z_H + x)      reason about the question and the answer so far
    once             z_H ← f(z_H, z_L)          refine the answer

z_H  the answer · z_L  the reasoning · x  the question (see `ostinato.models.recursive`)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ostinato.layers import Relaxation, RotaryEmbedding, rms_norm
from ostinato.models.recursive import (
    Block,
    ReasoningModule,
    RecursiveConfig,
    RecursiveModel,
    State,
    swiglu,
)


@dataclass(frozen=True)
class TRMConfig(RecursiveConfig):
    """Options of TRM; the defaults are the released Sudoku-Extreme attention model's."""

    mlp_t: bool = False
    """Mix positions with a SwiGLU over the sequence instead of attention (TRM-MLP)."""

    def __post_init__(self):
        super().__post_init__()
        if self.mlp_t and self.pos_encodings == "rope":
            raise ValueError('mlp_t has no attention to rotate: set pos_encodings to "none"')


class TRM(RecursiveModel):
    """The Tiny Recursive Model; `forward` is one supervision step."""

    config: TRMConfig

    def __init__(self, config: TRMConfig, generator: torch.Generator | None = None):
        super().__init__(config)
        layer = MixerBlock if config.mlp_t else Block
        self.L_level = ReasoningModule([layer(config) for _ in range(config.L_layers)])
        self.reset_parameters(generator)

    def refine(
        self, state: State, x: Float[Tensor, "batch length dim"], relax: Relaxation
    ) -> State:
        """Run one H-cycle. The last one of a step carries a gradient in full (section 4.1)."""
        z_H, z_L = state
        for _ in range(self.cycles.L):
            z_L = relax(z_L, self.L_level(z_L, z_H + x, self.rotary))
        return State(relax(z_H, self.L_level(z_H, z_L, self.rotary)), z_L)


class MixerBlock(nn.Module):
    """Apply TRM-MLP's block: a SwiGLU over positions instead of attention, then one over channels.

    The first norm is taken in the transposed layout, that is, over the positions.
    """

    def __init__(self, config: TRMConfig):
        super().__init__()
        self.eps = config.rms_norm_eps
        self.mlp_t = swiglu(config, config.prefix_len + config.seq_len)
        self.mlp = swiglu(config, config.hidden_size)

    def forward(
        self, h: Float[Tensor, "batch length dim"], rotary: RotaryEmbedding | None
    ) -> Float[Tensor, "batch length dim"]:
        assert rotary is None
        h = h.transpose(1, 2)
        h = rms_norm(h + self.mlp_t(h), self.eps)
        h = h.transpose(1, 2)
        return rms_norm(h + self.mlp(h), self.eps)
