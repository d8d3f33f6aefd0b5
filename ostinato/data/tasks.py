"""The kinds of puzzles, by name: how their tokens are read, written and checked."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, UInt8
from torch import Generator, Tensor

from ostinato.data.sudoku import Sudoku
from ostinato.data.symmetries import Symmetries


@runtime_checkable
class Task(Protocol):
    """What every kind of puzzle offers."""

    @property
    def name(self) -> str: ...
    @property
    def seq_len(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...

    def parse(self, text: str) -> UInt8[np.ndarray, " cells"]:
        """Tokens of a puzzle as a person writes it; ValueError says what is wrong with it."""
        ...

    def format(self, tokens: Int[np.ndarray, " cells"]) -> str:
        """The tokens on one line, as `parse` reads them."""
        ...

    def draw(
        self, tokens: Int[np.ndarray, " cells"], mark: Callable[[int, str], str] | None = None
    ) -> str:
        """The tokens as a board of several lines; `mark(cell, symbol)` may colour a symbol."""
        ...

    def check(
        self, puzzle: Int[np.ndarray, " cells"], answer: Int[np.ndarray, " cells"]
    ) -> str | None:
        """What is wrong with an answer by the rules alone; None if it solves the puzzle."""
        ...

    def faults(
        self, puzzle: Int[np.ndarray, " cells"], answer: Int[np.ndarray, " cells"]
    ) -> Bool[np.ndarray, " cells"]:
        """The cells of an answer that break a rule."""
        ...

    def augment(
        self,
        inputs: Int[Tensor, "batch seq"],
        labels: Int[Tensor, "batch seq"],
        generator: Generator,
    ) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
        """A random symmetry of the puzzle per row, the same for inputs and labels."""
        ...

    def symmetries(self, batch: int, generator: Generator) -> Symmetries:
        """Random symmetries of the puzzle, on the generator's device."""
        ...


TASKS: dict[str, Task] = {task.name: task for task in (Sudoku(4), Sudoku(6), Sudoku(9))}
"""Name → kind of puzzle."""


def task_named(name: str) -> Task:
    """The task of a model or a data set; ValueError if it is not known."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")
    return TASKS[name]
