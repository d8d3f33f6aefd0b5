"""`Task`: a kind of puzzle. A new kind is a subclass and a line in `ostinato.data.tasks`."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float32, Int, Integer, UInt64
from torch import Generator, Tensor

from ostinato.data.contradictions import check_examples
from ostinato.data.group import Group
from ostinato.data.puzzle_files import one_a_line
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.records import Cells, read_cells
from ostinato.data.symmetries import Symmetries
from ostinato.data.tables import Rows

Mark = Callable[[int, str], str]
"""Cell and its symbol → the text to draw instead, such as the symbol in a colour."""


class Task(ABC):
    """Read, write, draw and check one kind of puzzle, and name its symmetries.

    A subclass defines `name`, `seq_len`, `symbols` and the other abstract methods. The remaining
    methods have defaults that hold for every puzzle: no symmetries, no ratings, no rules to guess
    by.
    """

    has_rules: ClassVar[bool] = True
    """`check` tells right answers from wrong ones; else it is the model that must be believed."""
    guessable: ClassVar[bool] = False
    """True if `possible` narrows the tokens of a cell by the rules, so that a search may guess."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name the kind and its size, such as "sudoku9"."""

    @property
    def title(self) -> str:
        """Name the kind in messages and in names of folders."""
        return self.name

    @property
    @abstractmethod
    def seq_len(self) -> int:
        """Count the cells."""

    @property
    @abstractmethod
    def symbols(self) -> Sequence[str]:
        """List the symbols of all tokens, in order; most kinds have one character for each."""

    @property
    def vocab_size(self) -> int:
        return len(self.symbols)

    @abstractmethod
    def parse(self, text: str) -> Integer[np.ndarray, " cells"]:
        """Read a puzzle as a person writes it. Raises ValueError that says what is wrong."""

    def write(self, grid: Sequence[Sequence[object]]) -> str:
        """Write rows of symbols, such as those of a NumPy array, as `parse` reads them."""
        return "\n".join("".join(map(str, row)) for row in grid)

    def parse_answer(self, text: str) -> Integer[np.ndarray, " cells"]:
        """Read an answer. Raises ValueError that says what is wrong."""
        return self.parse(text)

    def format(self, tokens: Integer[np.ndarray, " cells"]) -> str:
        """Write tokens on one line, as `parse` reads them."""
        return "".join(self.symbols[int(token)] for token in tokens)

    @abstractmethod
    def draw(self, tokens: Integer[np.ndarray, " cells"], mark: Mark | None = None) -> str:
        """Draw tokens as a board of several lines; `mark` may colour a symbol."""

    @abstractmethod
    def check(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> str | None:
        """Say what is wrong with an answer by the rules alone; None if it solves the puzzle."""

    @abstractmethod
    def faults(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> Bool[np.ndarray, " cells"]:
        """Find the cells of an answer that break a rule."""

    def changed(
        self,
        puzzle: Integer[np.ndarray, "*puzzles cells"],
        answer: Integer[np.ndarray, "*puzzles cells"],
    ) -> Bool[np.ndarray, "*puzzles cells"]:
        """Find the givens that an answer does not keep; none where it may change every cell.

        This takes no rule of the puzzle, only knowledge of what a blank is. So an answer with a
        changed given is not accepted, however sure the model is.
        """
        return np.zeros(puzzle.shape, bool)

    @property
    def fewest_givens(self) -> int:
        """Return the least number of filled cells of a question with only one right answer.

        It is 0 if several answers may be right.
        """
        return 0

    def wrong(
        self,
        puzzles: Integer[np.ndarray, "puzzles cells"],
        answers: Integer[np.ndarray, "puzzles cells"],
    ) -> Bool[np.ndarray, " puzzles"]:
        """Tell which of many answers are wrong by `check`."""
        pairs = zip(puzzles, answers, strict=True)
        return np.array([self.check(*pair) is not None for pair in pairs], bool)

    def count_solutions(
        self, tokens: Integer[np.ndarray, " cells"], max_guesses: int
    ) -> int | None:
        """Count the right answers up to 2; None if that takes too long or there is no solver."""
        return None

    def scores(
        self,
        puzzles: Integer[np.ndarray, "puzzles cells"],
        answers: Integer[np.ndarray, "puzzles cells"],
    ) -> dict[str, Bool[np.ndarray, " puzzles"]]:
        """Return further scores of the answers by the rules alone, by name."""
        return {}

    def possible(self, tokens: Int[np.ndarray, " cells"]) -> Bool[np.ndarray, "cells vocab"]:
        """Find the tokens that each cell may hold by a direct look at the rules.

        A filled cell may hold only its own token; a blank cell may not stay blank.
        """
        return np.ones((self.seq_len, self.vocab_size), bool)

    @cached_property
    def group(self) -> Group:
        """The symmetries of the puzzle, where they are few enough to be listed; here none."""
        return Group.of_moves(np.arange(self.seq_len)[None], self.vocab_size)

    @property
    def is_symmetric(self) -> bool:
        """Return whether there is any symmetry but to leave a puzzle as it is."""
        return len(self.group.moves) > 1 or bool(self.group.free)

    def symmetries(self, batch: int, generator: Generator) -> Symmetries:
        """Draw a symmetry of the puzzle for every row, on the generator's device."""
        return self.group.draw(batch, generator)

    def augment(
        self,
        inputs: Integer[Tensor, "batch seq"],
        labels: Integer[Tensor, "batch seq"],
        generator: Generator,
    ) -> tuple[Integer[Tensor, "batch seq"], Integer[Tensor, "batch seq"]]:
        """Apply a random symmetry to every row, the same to inputs and labels.

        The generator must live on the tensors' device. Labels of -100 (ignored) only move.
        """
        drawn = self.symmetries(len(inputs), generator)
        return drawn.apply(inputs), drawn.apply(labels)

    def signatures(
        self,
        inputs: Integer[np.ndarray, "rows cells"],
        labels: Integer[np.ndarray, "rows cells"],
    ) -> UInt64[np.ndarray, " rows"]:
        """Compute numbers that symmetric copies share, and other puzzles almost never have."""
        return self.group.signatures(inputs)

    def boards(self, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
        """Find the puzzles in the lines of a file, each with the number of its first line."""
        return one_a_line(lines)

    def cells(self, path: Path) -> Iterator[Cells]:
        """Read the lines of a table of such puzzles."""
        return read_cells(path)

    def read_rows(self, path: Path, report: Callable[[str], None]) -> Rows:
        """Read all rows of a CSV file with the columns question, answer and optionally rating.

        Raises ValueError, with file and line, for a row that cannot be read, for one that
        `check_examples` refuses (such as a wrong answer), and for a file without rows.
        """
        inputs, labels, ratings, lines = [], [], [], []
        for row in self.cells(path):
            try:
                inputs.append(self.parse(row.question))
                labels.append(self.parse_answer(row.answer))
                ratings.append(row.rated())
                lines.append(row.line)
            except ValueError as error:
                raise ValueError(f"{path}:{row.line}: {error}") from None
        if not inputs:
            raise ValueError(f"{path}: no rows; give a file with at least one puzzle")
        rows = Rows(np.stack(inputs), np.stack(labels), np.array(ratings, np.float32))
        check_examples(self, rows.inputs, rows.labels, lambda row: f"{path}:{lines[row]}", report)
        return rows

    def rate(
        self, rows: Rows, report: Callable[[str], None] | None
    ) -> tuple[Float32[np.ndarray, " rows"] | None, str | None]:
        """Return the difficulty of rows and the name of the measure; None, None if not known.

        A slow measure is taken only with a `report`, which receives the progress.
        """
        return (rows.ratings, "source") if not np.isnan(rows.ratings).any() else (None, None)

    def read_table(self, path: Path, report: Callable[[str], None]) -> PuzzleSet:
        """Read all rows of a CSV file as a rated data set. Raises ValueError like `read_rows`."""
        rows = self.read_rows(path, report)
        return self.puzzle_set(rows, *self.rate(rows, report), source=str(path))

    def puzzle_set(
        self,
        rows: Rows,
        ratings: Float32[np.ndarray, " rows"] | None,
        rated_by: str | None,
        **notes: Any,
    ) -> PuzzleSet:
        """Make a split of a data set out of rows."""
        return PuzzleSet.of_examples(
            self.name,
            rows.inputs,
            rows.labels,
            self.vocab_size,
            ratings=ratings,
            rated_by=rated_by,
            **notes,
        )

    def sha256(self, rows: Rows) -> str:
        """Return the SHA-256 of the lines "question,answer", with a line feed each."""
        symbols = np.frombuffer("".join(self.symbols).encode("latin-1"), np.uint8)
        comma, line_feed = np.frombuffer(b",\n", np.uint8)
        lines = np.insert(symbols[rows.inputs], self.seq_len, comma, axis=1)
        lines = np.concatenate([lines, symbols[rows.labels]], axis=1)
        lines = np.insert(lines, lines.shape[1], line_feed, axis=1)
        return hashlib.sha256(lines.tobytes()).hexdigest()
