"""Choose the next token of a text from its logits.

NumPy does it in a fraction of PyTorch's time for one text, which is as long as a small model takes
for a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ostinato.numbers import Seed, Share, check_numbers

LEAST_DIVISOR = 1e-6
"""Smallest divisor of logits that cannot overflow."""


@dataclass(frozen=True)
class Sampling:
    """Choose the next token. The defaults draw from the model's own distribution."""

    temperature: float = 1.0
    """Divide the logits by this number. 0: always take the most likely token."""
    top_k: int = 0
    """Draw from this many most likely tokens. 0: from all."""
    top_p: float = 1.0
    """Draw from the most likely tokens that together reach this probability. 1: from all."""
    min_p: float = 0.0
    """Draw from tokens at least this probable, relative to the most likely one. 0: from all."""
    repetition_penalty: float = 1.0
    """Make tokens that have occurred, in the prompt too, less likely. 1: no change."""
    seed: Seed = 0
    """Seed of the random numbers: the same seed gives the same text."""
    exit_threshold: Share = 1.0
    """Leave a model with loops after the pass at which its exit probabilities add up to this. 1:
    take all passes."""

    def __post_init__(self):
        check_numbers(self)
        if not (self.temperature == 0 or self.temperature >= LEAST_DIVISOR):
            raise ValueError(
                f"temperature must be 0 or more, and if not 0 at least {LEAST_DIVISOR:g}, "
                f"not {self.temperature}"
            )
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (all) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be between 0 and 1, not {self.min_p}")
        if not LEAST_DIVISOR <= self.repetition_penalty <= 1 / LEAST_DIVISOR:
            raise ValueError(
                f"repetition_penalty must be {LEAST_DIVISOR:g} to {1 / LEAST_DIVISOR:g}, "
                f"not {self.repetition_penalty}"
            )


class Sampler:
    """Draw the tokens of one text."""

    def __init__(self, sampling: Sampling, tokens: Sequence[int]):
        """Begin behind `tokens`."""
        self.sampling, self.seen = sampling, list(dict.fromkeys(tokens))
        self.rng = np.random.default_rng(sampling.seed)

    def draw(self, logits: Float[ndarray, " vocab"]) -> int:
        """Draw the next token."""
        penalty = self.sampling.repetition_penalty
        if penalty != 1:
            found = logits[self.seen]
            logits = logits.copy()
            logits[self.seen] = np.where(found > 0, found / penalty, found * penalty)
        token = self.choose(logits)
        if penalty != 1 and token not in self.seen:
            self.seen.append(token)
        return token

    def choose(self, logits: Float[ndarray, " vocab"]) -> int:
        """Take the likeliest token, or draw one of the candidates."""
        if self.sampling.temperature == 0:
            return int(logits.argmax())
        tokens, weights = candidates(logits, self.sampling)
        borders = weights.cumsum(dtype=np.float64)
        place = borders.searchsorted(self.rng.random() * borders[-1], side="right")
        return int(tokens[min(place, len(tokens) - 1)])


def candidates(
    logits: Float[ndarray, " vocab"], sampling: Sampling
) -> tuple[Int[ndarray, " kept"], Float[ndarray, " kept"]]:
    """Return the tokens that top_k, top_p and min_p leave, and how likely they are, relative to
    the likeliest, which always stays."""
    top_k, top_p = sampling.top_k, sampling.top_p
    if 0 < top_k < len(logits):  # far faster than sorting them all
        least = np.partition(logits, -top_k)[-top_k]
        tokens = np.flatnonzero(logits >= least)
        tokens = tokens[np.argsort(-logits[tokens], kind="stable")[:top_k]]
        logits = logits[tokens]
    else:
        tokens = np.arange(len(logits))
    weights = np.exp((logits - logits.max()) / sampling.temperature)
    if top_p < 1:
        total = weights.sum()
        # All tokens below this together are less than what top_p leaves out
        few = np.flatnonzero(weights >= (1 - top_p) * total / len(weights))
        order = few[np.argsort(-weights[few], kind="stable")]
        tokens, weights = tokens[order], weights[order]
        # A token stays if those before it do not yet reach top_p
        before = weights.cumsum() - weights
        kept = max(1, int(np.count_nonzero(before < top_p * total)))
        tokens, weights = tokens[:kept], weights[:kept]
    if sampling.min_p:
        kept = weights >= sampling.min_p
        tokens, weights = tokens[kept], weights[kept]
    return tokens, weights


def log_softmax(logits: Float[ndarray, "*texts vocab"]) -> Float[ndarray, "*texts vocab"]:
    """Return the log probabilities of all tokens."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
