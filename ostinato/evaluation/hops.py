"""Score a language model on expressions by their number of operators, after each of its passes."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ostinato.data.text import TokenSet
from ostinato.data.text.hops import ANSWER, OPERATORS
from ostinato.layers import exit_depths, log_exit_probabilities
from ostinato.models.nanochat import NanoChat


@dataclass(frozen=True)
class HopScore:
    """Hold the scores on the expressions with one number of operators."""

    operators: int
    expressions: int
    accuracy: list[float]
    """Share of right answers after each pass."""
    exit_pass: float
    """Pass at which the model leaves on average, by its exit probabilities at the answer."""
    left_pass: float
    """Pass at which it leaves on average once these add up to the threshold."""
    left_accuracy: float
    """Share of right answers if it leaves there."""


@torch.no_grad()
def evaluate_hops(
    model: NanoChat, texts: TokenSet, batch_size: int, threshold: float
) -> list[HopScore]:
    """Read each expression by itself, up to the sign in front of its answer, and score that."""
    questions: dict[int, list[list[int]]] = defaultdict(list)
    for text in texts.texts():
        written = text.decode()
        assert written[-2] == ANSWER
        questions[sum(map(written.count, OPERATORS))].append(texts.tokenizer.encode(written))
    found = []
    for operators, rows in sorted(questions.items()):
        tokens = torch.tensor(np.array(rows), device=model.embed_tokens.weight.device)
        parts = [answers(model, batch, threshold) for batch in tokens.split(batch_size)]
        right, shares, left = (
            torch.cat(part, dim=-1).cpu().double() for part in zip(*parts, strict=True)
        )
        numbers = torch.arange(1.0, len(right) + 1, dtype=torch.float64)
        found.append(
            HopScore(
                operators=operators,
                expressions=len(rows),
                accuracy=right.mean(-1).tolist(),
                exit_pass=(numbers @ shares).mean().item(),
                left_pass=(left + 1).mean().item(),
                left_accuracy=right.gather(0, left.long()[None]).mean().item(),
            )
        )
    return found


def answers(model: NanoChat, tokens: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return by pass and row whether the answer is right and p_t, and by row the pass left at."""
    states = [state[:, -1:] for state in model.states(tokens[:, :-1])]
    right = torch.stack([model.read_out(s)[:, 0].argmax(-1) == tokens[:, -1] for s in states])
    if model.exit_gate is None:
        return right, torch.ones_like(right), torch.zeros_like(tokens[:, 0])
    exits = torch.stack([model.exit_logits(state)[:, 0] for state in states])
    shares = log_exit_probabilities(exits).exp()
    return right, shares, exit_depths(shares, threshold)
