"""`solve()`: puzzles in, answers out, each checked by the rules, however many there are."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from ostinato.data.puzzle_files import WrittenPuzzle
from ostinato.data.tasks import task_named
from ostinato.inference.pursuit import Question, Thought
from ostinato.inference.search import CONFIRMED, Search, Way
from ostinato.inference.stream import think_stream
from ostinato.inference.think import Step, read_puzzle
from ostinato.models import RecursiveModel

GUESSES_IF_SOLVED, GUESSES_IF_NOT = 25, 1000
"""Guesses of the rule solver that count a puzzle's solutions, at most: about 6 and 250 ms. What is
solved needs no explanation, and there may be very much of it."""


@dataclass(frozen=True)
class Solution:
    """A model's answer to a puzzle, and what the rules say of it."""

    puzzle: str
    answer: str
    solved: bool
    """The answer keeps all rules, whatever the model thinks of it."""
    problem: str | None
    """What is wrong with the answer; None if the puzzle is solved."""
    steps: float
    """Steps, with parts of one, after which the answer did not change any more."""
    confidence: float
    """How likely the answer is right in the opinion of the model, from 0 to 1."""
    way: Way
    """How it was found: by thinking about the puzzle as it is, about a symmetric view of it, with
    noise, or with guesses."""
    accepted_by: Literal["rules", "q"] | None
    """"rules": thinking ended with this answer because a check found that it keeps the rules; "q":
    the model halted on it; None: neither, and it is the last answer, or the best of several."""
    total_steps: float
    """Steps that were taken for it in all."""
    solutions: int | None = None
    """Answers that the rules allow: 0, 1, or 2 for several. None: the search does not ask the
    rules, they cannot tell, or it would have taken too long."""

    @classmethod
    def of(cls, model: RecursiveModel, search: Search, thought: Thought) -> "Solution":
        """What a thought is worth by the rules."""
        task, attempt = task_named(model.config.task), thought.attempt
        problem = task.check(thought.tokens, attempt.answer)
        solutions = None
        if search.verify:
            guesses = GUESSES_IF_SOLVED if problem is None else GUESSES_IF_NOT
            solutions = task.count_solutions(thought.tokens, guesses)
        return cls(
            puzzle=task.format(thought.tokens),
            answer=task.format(attempt.answer),
            solved=problem is None,
            problem=problem,
            steps=round(attempt.settled, 3),
            confidence=torch.sigmoid(torch.tensor(attempt.q_halt)).item(),
            way=attempt.way,
            accepted_by=("rules" if search.verify else "q") if attempt.accepted else None,
            total_steps=round(thought.total_steps, 3),
            solutions=solutions,
        )


def solve(
    model: RecursiveModel,
    puzzles: Iterable[str | WrittenPuzzle],
    max_steps: int | None = None,
    batch_size: int | None = None,
    on_step: Callable[[Step], None] | None = None,
    search: Search = CONFIRMED,
) -> Iterator[Solution]:
    """Think about every puzzle until it is solved, or for `max_steps` (default: as in training).

    `search` says how else: `FIXED` takes all steps for every puzzle. Solutions come in the order
    of the puzzles, of which `batch_size` are thought about at a time: a stream of any length needs
    the same memory. `on_step` is called with each step of the batch (see `think_stream`).
    Raises ValueError, naming the puzzle's place or number, for one that cannot be read.
    """
    if isinstance(puzzles, str):
        raise ValueError("solve() takes a list of puzzles: write solve(model, [puzzle])")
    written = (
        WrittenPuzzle(puzzle, f"puzzle {number}") if isinstance(puzzle, str) else puzzle
        for number, puzzle in enumerate(puzzles, start=1)
    )
    questions = (Question(tokens_of(model, puzzle)[0]) for puzzle in written)
    for thought in think_stream(model, questions, search, max_steps, batch_size, on_step):
        yield Solution.of(model, search, thought)


def tokens_of(model: RecursiveModel, puzzle: WrittenPuzzle) -> Int[Tensor, "1 seq"]:
    """The tokens of a written puzzle. Raises ValueError, naming its place, if it does not fit."""
    try:
        return read_puzzle(model, puzzle.text)
    except ValueError as error:
        raise ValueError(f"{puzzle.place}: {error}") from None
