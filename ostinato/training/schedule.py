"""Set the learning rate and the depth over the course of a run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ostinato.models.recursive_config import Cycles


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, a constant part, then a decay to `min_ratio`; factors of the base rate."""

    total_steps: int
    warmup_steps: int = 0
    decay_start: float = 0.0
    """Start of the decay, as a share of total_steps (never before the end of the warm-up)."""
    min_ratio: float = 1.0
    """The factor at the end; 1.0 keeps it constant after the warm-up, as in all official
    recipes."""
    shape: Literal["cosine", "linear"] = "cosine"

    def __call__(self, step: int, time_used: float = 0.0) -> float:
        """Return the factor of update number `step`, counted from 1.

        `time_used` is the share of the run's time that is over, if its time is limited. If it is
        ahead of the share of the steps, the decay follows the time, and so ends in time.
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
    """Return the cycles of a training step when the share `progress` of the run is over.

    At each share in `rises` the cycles increase, in equal parts up to `full`; there are at least
    two L-cycles. Source: CGAR (arXiv 2511.08653), which uses 0.3 and 0.6.
    """
    part, parts = 1 + sum(progress >= rise for rise in rises), 1 + len(rises)
    H, L = (-(-part * cycles // parts) for cycles in full)
    return Cycles(H, max(L, min(2, full.L)))
