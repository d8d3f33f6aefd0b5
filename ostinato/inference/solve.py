"""`solve()` answers any number of puzzles and checks each answer by the rules."""

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
"""Maximum number of guesses of the rule solver that counts a puzzle's solutions: about 6 and 250
ms. Solved puzzles need no explanation, and there may be very many."""


@dataclass(frozen=True)
class Solution:
    """Hold a model's answer to a puzzle, checked by the rules."""

    puzzle: str
    answer: str
    solved: bool
    """True if the answer keeps all rules, whether or not the model is sure of it."""
    problem: str | None
    """Fault of the answer; None if the puzzle is solved."""
    steps: float
    """Steps, with fractions, after which the answer no longer changed."""
    confidence: float
    """Model's probability that the answer is right, from 0 to 1."""
    way: Way
    """Stage of the search that found it: plain, symmetry, noise, restart or guess."""
    accepted_by: Literal["rules", "q"] | None
    """"rules" if thinking stopped because the answer keeps the rules; "q" if the model halted on
    it; None if neither: it is then the last answer, or the best of several."""
    total_steps: float
    """Steps of all attempts at the puzzle."""
    solutions: int | None = None
    """Number of answers that the rules allow: 0, 1, or 2 for several. None if the search does not
    use the rules, if they cannot tell, or if counting takes too long."""

    @classmethod
    def of(cls, model: RecursiveModel, search: Search, thought: Thought) -> "Solution":
        """Check a thought by the rules."""
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

    `search` changes this: `FIXED`, for instance, takes all steps for every puzzle. Solutions come
    in the order of the puzzles. `batch_size` puzzles run at a time, so a stream of any length needs
    the same memory. `on_step` is called with each step of the batch (see `think_stream`). Raises
    ValueError, naming the puzzle's place or number, for a puzzle that cannot be read.
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
    """Return the tokens of a written puzzle. Raises ValueError, with its place, if it is faulty."""
    try:
        return read_puzzle(model, puzzle.text)
    except ValueError as error:
        raise ValueError(f"{puzzle.place}: {error}") from None
