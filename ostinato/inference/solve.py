"""`solve()` answers any number of puzzles and checks each answer by the rules."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
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
Grid = np.ndarray | Sequence[Sequence[object]]


@dataclass(frozen=True)
class Solution:
    """Hold a model's answer to a puzzle, checked by the rules."""

    puzzle: str
    answer: str
    solved: bool
    """The answer keeps all rules, whatever the model thinks of it; where the rules are not known,
    the model has halted on it."""
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
    """Answers that the rules allow: 0, 1, or 2 for several. None: the search does not ask the
    rules, they cannot tell, or it would have taken too long."""
    checked_by: Literal["rules", "model"] = "rules"
    """Judge of `solved`: "model" where the rules are not known."""

    @classmethod
    def of(cls, model: RecursiveModel, search: Search, thought: Thought) -> "Solution":
        """Check a thought by the rules."""
        task, attempt = task_named(model.config.task), thought.attempt
        problem = task.check(thought.tokens, attempt.answer)
        solutions = None
        if search.verify:
            guesses = GUESSES_IF_SOLVED if problem is None else GUESSES_IF_NOT
            solutions = task.count_solutions(thought.tokens, guesses)
        if problem is None and not (task.has_rules or attempt.accepted):
            problem = "the model does not halt on its answer"
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
            checked_by="rules" if task.has_rules else "model",
        )


def solve(
    model: RecursiveModel,
    puzzles: Iterable[str | WrittenPuzzle | Grid],
    max_steps: int | None = None,
    batch_size: int | None = None,
    on_step: Callable[[Step], None] | None = None,
    search: Search = CONFIRMED,
) -> Iterator[Solution]:
    """Think about every puzzle until it is solved, or for `max_steps` (default: as in training).

    A puzzle is a text, or a grid: a NumPy array or a list of rows of symbols, such as 0 to 9.
    `search` says how else: `FIXED` takes all steps for every puzzle. Solutions come in the order
    of the puzzles, of which `batch_size` are thought about at a time: a stream of any length needs
    the same memory. `on_step` is called with each step of the batch (see `think_stream`).
    Raises ValueError, naming the puzzle's place or number, for one that cannot be read.
    """
    if isinstance(puzzles, str):
        raise ValueError("solve() takes a list of puzzles: write solve(model, [puzzle])")
    written = (as_written(model, puzzle, n) for n, puzzle in enumerate(puzzles, start=1))
    search = suited(search, model)
    questions = (Question(tokens_of(model, puzzle)[0]) for puzzle in written)
    for thought in think_stream(model, questions, search, max_steps, batch_size, on_step):
        yield Solution.of(model, search, thought)


def as_written(
    model: RecursiveModel, puzzle: str | WrittenPuzzle | Grid, number: int
) -> WrittenPuzzle:
    """Return a puzzle as text. Raises ValueError for a grid that is not one of rows."""
    if isinstance(puzzle, WrittenPuzzle):
        return puzzle
    place = f"puzzle {number}"
    if isinstance(puzzle, str):
        return WrittenPuzzle(puzzle, place)
    try:
        grid = np.asarray(puzzle)
    except ValueError:
        raise ValueError(f"{place}: its rows differ in length: give a square of symbols") from None
    if grid.ndim != 2:
        raise ValueError(f"{place}: a grid of shape {grid.shape}: give rows and columns")
    return WrittenPuzzle(task_named(model.config.task).write(grid.tolist()), place)


def suited(search: Search, model: RecursiveModel) -> Search:
    """Return a search that believes the model, where the rules of its puzzles are not known."""
    if not model.config.task or task_named(model.config.task).has_rules or search.guesses:
        return search
    return replace(search, verify=False)


def tokens_of(model: RecursiveModel, puzzle: WrittenPuzzle) -> Int[Tensor, "1 seq"]:
    """Return the tokens of a written puzzle. Raises ValueError, with its place, if it is faulty."""
    try:
        return read_puzzle(model, puzzle.text)
    except ValueError as error:
        raise ValueError(f"{puzzle.place}: {error}") from None
