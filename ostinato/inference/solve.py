"""`solve()`: puzzles in, answers out, each checked by the rules, however many there are."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Int
from torch import Tensor

from ostinato.data.puzzle_files import WrittenPuzzle
from ostinato.data.tasks import task_named
from ostinato.inference.think import Step, read_puzzle, think
from ostinato.models import RecursiveModel


@dataclass(frozen=True)
class Solution:
    """A model's answer to a puzzle, and what the rules say of it."""

    puzzle: str
    answer: str
    solved: bool
    """The answer keeps all rules, whatever the model thinks of it."""
    problem: str | None
    """What is wrong with the answer; None if the puzzle is solved."""
    steps: int
    """Steps after which the answer did not change any more."""
    confidence: float
    """How likely the answer is right in the opinion of the model, from 0 to 1."""


def solve(
    model: RecursiveModel,
    puzzles: Iterable[str | WrittenPuzzle],
    max_steps: int | None = None,
    batch_size: int = 512,
    on_step: Callable[[Step], None] | None = None,
) -> Iterator[Solution]:
    """Think about every puzzle for `max_steps` steps (by default as many as in training).

    Solutions come in the order of the puzzles, of which `batch_size` are read and thought about at
    a time: a stream of any length needs the same memory. `on_step` is called with each step of a
    batch. Raises ValueError, naming the puzzle's place or number, for one that cannot be read.
    """
    if isinstance(puzzles, str):
        raise ValueError("solve() takes a list of puzzles: write solve(model, [puzzle])")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    written = (
        WrittenPuzzle(puzzle, f"puzzle {number}") if isinstance(puzzle, str) else puzzle
        for number, puzzle in enumerate(puzzles, start=1)
    )
    while batch := list(islice(written, batch_size)):
        tokens = torch.cat([tokens_of(model, puzzle) for puzzle in batch])
        yield from _solve_batch(model, tokens, max_steps, on_step)


def tokens_of(model: RecursiveModel, puzzle: WrittenPuzzle) -> Int[Tensor, "1 seq"]:
    """The tokens of a written puzzle. Raises ValueError, naming its place, if it does not fit."""
    try:
        return read_puzzle(model, puzzle.text)
    except ValueError as error:
        raise ValueError(f"{puzzle.place}: {error}") from None


def _solve_batch(
    model: RecursiveModel,
    tokens: Int[Tensor, "batch seq"],
    max_steps: int | None,
    on_step: Callable[[Step], None] | None,
) -> Iterator[Solution]:
    step = None
    settled = torch.ones(len(tokens), dtype=torch.int64, device=model.H_init.device)
    for next_step in think(model, tokens, max_steps=max_steps):
        if step is not None:
            settled[(next_step.answer != step.answer).any(-1)] = next_step.number
        step = next_step
        if on_step is not None:
            on_step(step)
    assert step is not None

    task = task_named(model.config.task)
    rows = zip(
        tokens.numpy(),
        step.answer.cpu().numpy(),
        settled.tolist(),
        torch.sigmoid(step.q_halt).tolist(),
        strict=True,
    )
    for puzzle, answer, steps, confidence in rows:
        problem = task.check(puzzle, answer)
        yield Solution(
            puzzle=task.format(puzzle),
            answer=task.format(answer),
            solved=problem is None,
            problem=problem,
            steps=steps,
            confidence=confidence,
        )
