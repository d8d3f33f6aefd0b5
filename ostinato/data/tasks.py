"""The kinds of puzzles, by name: how their tokens are read, written and checked."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, UInt8
from torch import Generator, Tensor

from ostinato.data.maze import Maze
from ostinato.data.maze.rules import SIZES as MAZE_SIZES
from ostinato.data.puzzles import PuzzleSet
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

    @property
    def fewest_givens(self) -> int:
        """Filled cells (tokens above 1) that a question with one right answer has at least.

        0 where several answers may be right.
        """
        ...

    def wrong(
        self,
        puzzles: Int[np.ndarray, "puzzles cells"],
        answers: Int[np.ndarray, "puzzles cells"],
    ) -> Bool[np.ndarray, " puzzles"]:
        """Tell of many answers which `check` would find something wrong with."""
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


@runtime_checkable
class Scored(Protocol):
    """A kind of puzzle whose answers have more to be measured than whether all cells are right."""

    def scores(
        self,
        puzzles: Int[np.ndarray, "puzzles cells"],
        answers: Int[np.ndarray, "puzzles cells"],
    ) -> dict[str, Bool[np.ndarray, " puzzles"]]:
        """Which answers have each of some properties, always the same ones; by the rules alone."""
        ...


@runtime_checkable
class OnBoards(Protocol):
    """A kind of puzzle that files may also hold as a board of several lines."""

    def boards(self, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
        """The puzzles in the lines of a file, each with the number of its first line."""
        ...


@runtime_checkable
class Guessable(Protocol):
    """A kind of puzzle whose rules say of a cell what it may hold, given what the others hold."""

    def possible(self, tokens: Int[np.ndarray, " cells"]) -> Bool[np.ndarray, "cells vocab"]:
        """The tokens that each cell may hold by the rules at first sight; in a filled cell its own.

        A blank one does not count as filled with its blank.
        """
        ...


@runtime_checkable
class Countable(Protocol):
    """A kind of puzzle whose rules tell how many answers a puzzle has."""

    def count_solutions(self, tokens: Int[np.ndarray, " cells"], max_guesses: int) -> int | None:
        """Count the right answers up to 2; None if that takes more than `max_guesses`."""
        ...


@runtime_checkable
class InTables(Protocol):
    """A kind of puzzle that comes with its answers in CSV files."""

    def read_table(self, path: Path, report: Callable[[str], None]) -> PuzzleSet:
        """All rows of a file; ValueError names the line that is wrong."""
        ...


TASKS: dict[str, Task] = {
    task.name: task for task in (*map(Sudoku, (4, 6, 9)), *map(Maze, MAZE_SIZES))
}
"""Name → kind of puzzle."""


def task_named(name: str) -> Task:
    """The task of a model or a data set; ValueError if it is not known."""
    if name not in TASKS:
        raise ValueError(
            f"unknown task {name!r}: choose one of sudoku4, sudoku6, sudoku9, maze3 to maze64"
        )
    return TASKS[name]
