"""Learning rate and depth over the course of a run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ostinato.models.recursive import Cycles


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, a constant part, then a decay to `min_ratio`; factors of the base rate."""

    total_steps: int
    warmup_steps: int = 0
    decay_start: float = 0.0
    """Where the decay begins, as a share of total_steps (never before the end of the warm-up)."""
    min_ratio: float = 1.0
    """The factor at the end; 1.0: constant after the warm-up, as in all official recipes."""
    shape: Literal["cosine", "linear"] = "cosine"

    def __call__(self, step: int, time_used: float = 0.0) -> float:
        """The factor of update number `step`, counted from 1.

        `time_used` is the share of the run's time that is over, if its time is limited: where it is
        ahead of the share of the steps, the decay follows it, and so comes to its end in time.
        """
        assert step >= 1
        if step < self.warmup_steps:
            return step / self.warmup_steps
        start = max(self.warmup_steps, self.decay_start * self.total_steps)
        progress = (step - start) / max(1.0, self.total_steps - start)
        if time_used:
            rest = max(1e-9, 1 - self.decay_start)
            progress = max(progress, (time_used - self.decay_start) / rest)
        progress = min(1.0, max(0.0, progress))
        remaining = (
            1 - progress if self.shape == "linear" else (1 + math.cos(math.pi * progress)) / 2
        )
        return self.min_ratio + (1 - self.min_ratio) * remaining


def cycles_at(progress: float, rises: Sequence[float], full: Cycles) -> Cycles:
    """The cycles of a training step when the share `progress` of the run is over.

    `rises` are the shares after each of which there are more, in equal parts up to `full`; of
    L-cycles there are two at least. Source: CGAR (arXiv 2511.08653), there 0.3 and 0.6.
    """
    part, parts = 1 + sum(progress >= rise for rise in rises), 1 + len(rises)
    H, L = (-(-part * cycles // parts) for cycles in full)
    return Cycles(H, max(L, min(2, full.L)))
