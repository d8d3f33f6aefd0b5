"""Relaxation: a latent moves towards what a network returns, with damping and noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Relaxation:
    """Move a latent h towards u, which the network returned: h ← (1 - λ)·h + λ·u + σ·ε.

    TRM and HRM have λ = 1 and σ = 0, so that u takes the place of h. Source: EqR (arXiv
    2605.21488), `damping` λ and `noise` σ; ε is standard normal, drawn anew at every call.
    """

    damping: float | Float[Tensor, "batch 1 1"] = 1.0
    noise: float | Float[Tensor, "batch 1 1"] = 0.0
    generators: Sequence[torch.Generator | None] = ()
    """Generators of ε: one for the batch, or one per row (None: no noise in that row)."""

    def __call__(
        self, h: Float[Tensor, "batch length dim"], u: Float[Tensor, "batch length dim"]
    ) -> Float[Tensor, "batch length dim"]:
        if isinstance(self.damping, Tensor) or self.damping != 1:
            u = ((1 - self.damping) * h + self.damping * u).to(u.dtype)
        if isinstance(self.noise, Tensor) or self.noise != 0:
            u = u + (self.noise * self.draw(u)).to(u.dtype)
        return u

    @property
    def replaces(self) -> bool:
        """True if the network's output takes the latent's place."""
        numbers = (self.damping, self.noise)
        return not any(isinstance(x, Tensor) for x in numbers) and numbers == (1.0, 0.0)

    def draw(self, like: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        """Draw ε for a batch, in fp32."""
        if len(self.generators) == 1:
            return torch.randn(like.shape, generator=self.generators[0], device=like.device)
        rows = [
            torch.zeros(like.shape[1:], device=like.device)
            if generator is None
            else torch.randn(like.shape[1:], generator=generator, device=like.device)
            for generator in self.generators
        ]
        return torch.stack(rows)


REPLACE = Relaxation()
"""Replace the latent by the network's output, as TRM and HRM do."""
