"""The settings of sampling on the command line: what suits people, and a fresh seed each time."""

import secrets
import sys
from dataclasses import dataclass, fields

from ostinato.inference.sampling import Sampling
from ostinato.numbers import Seed


@dataclass(frozen=True)
class SamplingArguments(Sampling):
    """Choose the next token."""

    temperature: float = 0.6
    """Divide the logits by this number. 0: always take the most likely token; 1: draw from the
    model's own distribution."""
    top_k: int = 50
    """Draw from this many most likely tokens. 0: from all."""
    seed: Seed | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    """Seed of the random numbers: the same seed gives the same text (default: a fresh one, which
    is printed)."""

    def drawn(self) -> Sampling:
        """Return the settings with a seed."""
        settings = {field.name: getattr(self, field.name) for field in fields(Sampling)}
        if self.seed is None:
            settings["seed"] = secrets.randbelow(2**31)
        return Sampling(**settings)

    def tell_seed(self, sampling: Sampling) -> None:
        """Print the seed of `drawn` on standard error if it is fresh and has an effect."""
        if self.seed is None and self.temperature:
            print(f"seed {sampling.seed}", file=sys.stderr)
