"""`Sudoku`: read, draw, check and rate boards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float32, Integer, UInt8, UInt64
from torch import Generator

from ostinato.data.contradictions import check_examples
from ostinato.data.puzzle_files import read_puzzles
from ostinato.data.records import Cells, is_table, read_cells
from ostinato.data.sudoku.board import BLANK, BOXES, Board
from ostinato.data.sudoku.files import sudoku_boards
from ostinato.data.sudoku.solver import TooManyGuesses, rate, solutions
from ostinato.data.sudoku.symmetry import draw_symmetries, signature
from ostinato.data.symmetries import Symmetries
from ostinato.data.tables import Rows
from ostinato.data.task import Mark, Task

FOREIGN = 255  # token of a character that is neither digit nor blank
CHUNK = 100_000
"""Rows of a table parsed together."""


@dataclass(frozen=True)
class Sudoku(Board, Task):
    """Fill the board so that no digit occurs twice in a row, column or box."""

    guessable: ClassVar[bool] = True

    def parse(self, text: str) -> UInt8[np.ndarray, " cells"]:
        """Read a board written with digits and `.` or `0` for blanks; white space is ignored.

        Raises ValueError for a wrong length, a foreign character or contradictory givens.
        """
        symbols = "".join(text.split())
        if len(symbols) != self.seq_len:
            raise ValueError(
                f"a {self.size}x{self.size} Sudoku needs {self.seq_len} characters "
                f"(digits, and . or 0 for blanks), not {len(symbols)}: {_shorten(symbols)!r}"
            )
        for position, symbol in enumerate(symbols):
            if symbol not in self.meaning:
                raise ValueError(
                    f"character {symbol!r} at position {position + 1} ({self.place(position)}) "
                    f"is not allowed: use the {self.alphabet}, and . or 0 for blanks"
                )
        tokens = np.array([self.meaning[symbol] for symbol in symbols], dtype=np.uint8)
        if conflicts := self.conflicts(tokens):
            raise ValueError(f"the givens contradict each other: {conflicts[0]}; correct one")
        return tokens

    def draw(self, tokens: Integer[np.ndarray, " cells"], mark: Mark | None = None) -> str:
        """Draw a board of several lines, with rules between the boxes."""
        symbols = list(self.format(tokens))
        if mark is not None:
            symbols = [mark(cell, symbol) for cell, symbol in enumerate(symbols)]
        rule = "─┼─".join(["─" * (2 * self.box_cols - 1)] * (self.size // self.box_cols))
        lines = []
        for row in range(self.size):
            if row and row % self.box_rows == 0:
                lines.append(rule)
            cells = symbols[row * self.size : (row + 1) * self.size]
            boxes = [cells[col : col + self.box_cols] for col in range(0, self.size, self.box_cols)]
            lines.append(" │ ".join(" ".join(box) for box in boxes))
        return "\n".join(lines)

    def conflicts(self, tokens: Integer[np.ndarray, " cells"]) -> list[str]:
        """List every repeated digit, as in `["digit 5 stands twice in row 3"]`, rows first."""
        digits = np.arange(BLANK + 1, self.vocab_size)
        counts = (tokens[self.units][:, :, None] == digits).sum(axis=1)
        found = []
        for unit, digit in np.argwhere(counts > 1).tolist():
            count = counts[unit, digit]
            times = "twice" if count == 2 else f"{count} times"
            kind, index = divmod(unit, self.size)
            name = f"{('row', 'column', 'box')[kind]} {index + 1}"
            found.append(f"digit {self.symbols[BLANK + 1 + digit]} stands {times} in {name}")
        return found

    def check(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> str | None:
        """Say in one sentence what is wrong with an answer; None if it solves the puzzle."""
        empty = []
        for cell, (given, digit) in enumerate(zip(puzzle.tolist(), answer.tolist(), strict=True)):
            if self.is_digit(given) and digit != given:
                shown = self.symbols[digit] if self.is_digit(digit) else "no digit"
                return (
                    f"the given {self.symbols[given]} in {self.place(cell)} was changed to {shown}"
                )
            if not self.is_digit(digit):
                empty.append(cell)
        if empty:
            others = len(empty) - 1
            more = f" and {others} more cell{'s' * (others > 1)} hold" if others else " holds"
            return f"{self.place(empty[0])}{more} no digit"
        return next(iter(self.conflicts(answer)), None)

    def changed(
        self,
        puzzle: Integer[np.ndarray, "*puzzles cells"],
        answer: Integer[np.ndarray, "*puzzles cells"],
    ) -> Bool[np.ndarray, "*puzzles cells"]:
        """Find the given digits that an answer does not keep."""
        return (puzzle > BLANK) & (puzzle != answer)

    def wrong(
        self,
        puzzles: Integer[np.ndarray, "puzzles cells"],
        answers: Integer[np.ndarray, "puzzles cells"],
    ) -> Bool[np.ndarray, " puzzles"]:
        """Tell which answers change a given, or miss a digit in some row, column or box."""
        bits = np.left_shift(1, answers.T, dtype=np.uint32, casting="unsafe")[self.units]
        complete = np.bitwise_or.reduce(bits, axis=1) == 2**self.vocab_size - 4
        return self.changed(puzzles, answers).any(axis=1) | ~complete.all(axis=0)

    def count_solutions(
        self, tokens: Integer[np.ndarray, " cells"], max_guesses: int
    ) -> int | None:
        """Count the solutions up to 2; None if that takes more than `max_guesses`."""
        try:
            return sum(1 for _ in islice(solutions(self, tokens, max_guesses), 2))
        except TooManyGuesses:
            return None

    def faults(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> Bool[np.ndarray, " cells"]:
        """Find the cells that break a rule: a changed given, no digit, or a repeated digit.

        If digits repeat, a given counts as right and the others as faults.
        """
        given = (puzzle > BLANK) & (puzzle < self.vocab_size)
        digit = (answer > BLANK) & (answer < self.vocab_size)
        in_units = answer[self.units]
        copies = (in_units[:, :, None] == in_units[:, None, :]).sum(axis=2)
        repeated = np.zeros(self.seq_len, dtype=bool)
        repeated[self.units[copies > 1]] = True
        return ~digit | np.where(given, answer != puzzle, repeated)

    def possible(self, tokens: Integer[np.ndarray, " cells"]) -> Bool[np.ndarray, "cells vocab"]:
        """Allow a blank cell the digits that its row, column and box do not hold."""
        holds = np.arange(self.vocab_size) == tokens[:, None]
        in_unit = holds[self.units].any(axis=1)
        allowed = ~in_unit[self.cell_units].any(axis=1)
        allowed[:, : BLANK + 1] = False
        return np.where(tokens[:, None] > BLANK, holds, allowed)

    @property
    def is_symmetric(self) -> bool:
        return True

    def symmetries(self, batch: int, generator: Generator) -> Symmetries:
        """Draw symmetries, uniform over the group (see `symmetry.py`)."""
        return draw_symmetries(self, batch, generator)

    def signatures(
        self,
        inputs: Integer[np.ndarray, "rows cells"],
        labels: Integer[np.ndarray, "rows cells"],
    ) -> UInt64[np.ndarray, " rows"]:
        """Compute a number that symmetric copies of a puzzle share (see `symmetry.py`)."""
        return signature(self, inputs, labels)

    def rate(
        self, rows: Rows, report: Callable[[str], None] | None
    ) -> tuple[Float32[np.ndarray, " rows"] | None, str | None]:
        """Return the source's ratings or, if some are missing, the guesses our solver needs."""
        if report is None or not np.isnan(rows.ratings).any():
            return super().rate(rows, report)
        guesses = np.zeros(len(rows), dtype=np.float32)
        for row, puzzle in enumerate(rows.inputs):
            guesses[row] = rate(self, puzzle)
            if (row + 1) % 2000 == 0:
                report(f"{row + 1} of {len(rows)} puzzles rated")
        return guesses, "guesses"

    def boards(self, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
        """Find the boards in the lines of a file, in any usual form (see `files.py`)."""
        return sudoku_boards(lines, self.size)

    def read_boards(self, path: Path) -> Rows:
        """Read a file of boards without answers, and solve them.

        Raises ValueError, with file and line, for a puzzle without exactly one answer.
        """
        boards = []
        for written in read_puzzles(path, self.boards):
            try:
                tokens = self.parse(written.text)
                answers = list(islice(solutions(self, tokens), 2))
                if len(answers) != 1:
                    number = "several answers" if answers else "no answer"
                    raise ValueError(f"the puzzle has {number}: leave it out")
            except ValueError as error:
                raise ValueError(f"{written.place}: {error}") from None
            boards.append((tokens, answers[0].tokens))
        inputs, labels = zip(*boards, strict=True)
        return Rows.unrated(np.stack(inputs), np.stack(labels))

    def read_rows(self, path: Path, report: Callable[[str], None]) -> Rows:
        """Read a table as `Task.read_rows` does, but many rows at a time: files hold millions.

        Boards in a file without answers are solved.
        """
        if not is_table(path):
            return self.read_boards(path)
        parts, lines = [], []
        cells = read_cells(path)
        while chunk := list(islice(cells, CHUNK)):
            parts.append(self._parse_rows(path, chunk))
            lines += [row.line for row in chunk]
            if len(parts) % 10 == 0:
                report(f"{path.name}: {sum(map(len, parts))} rows read")
        if not parts:
            raise ValueError(f"{path}: no rows; give a file with at least one puzzle")
        rows = Rows.join(parts)
        check_examples(self, rows.inputs, rows.labels, lambda row: f"{path}:{lines[row]}", report)
        return rows

    def _parse_rows(self, path: Path, chunk: list[Cells]) -> Rows:
        def fail(row: int, fault: str):
            raise ValueError(f"{path}:{chunk[row].line}: {fault}")

        tokens_of = np.full(256, FOREIGN, dtype=np.uint8)
        tokens_of[list(map(ord, self.meaning))] = list(self.meaning.values())
        boards = []
        for name in ("question", "answer"):
            texts = [getattr(cells, name) for cells in chunk]
            for row, text in enumerate(texts):
                if len(text) != self.seq_len:
                    fail(
                        row,
                        f"{name} of {len(text)} characters; a {self.size}x{self.size} Sudoku "
                        f"has {self.seq_len}: correct it or the size",
                    )
            symbols = np.frombuffer("".join(texts).encode("ascii", "replace"), dtype=np.uint8)
            tokens = tokens_of[symbols].reshape(len(texts), self.seq_len)
            for row, cell in np.argwhere(tokens == FOREIGN)[:1].tolist():
                fail(
                    row,
                    f"character {texts[row][cell]!r} at position {cell + 1} of {name}: use the "
                    f"{self.alphabet}, and . or 0 for blanks",
                )
            boards.append(tokens)
        inputs, labels = boards
        ratings = np.zeros(len(chunk), dtype=np.float32)
        for row, cells in enumerate(chunk):
            try:
                ratings[row] = cells.rated()
            except ValueError as error:
                fail(row, str(error))
        return Rows(inputs, labels, ratings)


def sudoku_of(text: str) -> Sudoku:
    """Return the Sudoku whose size fits the number of characters; white space is ignored.

    Raises ValueError if none fits.
    """
    symbols = "".join(text.split())
    for size in BOXES:
        if len(symbols) == size**2:
            return Sudoku(size)
    raise ValueError(
        f"a puzzle has 16 (4x4), 36 (6x6), 81 (9x9) or 256 (16x16) characters, "
        f"not {len(symbols)}: {_shorten(symbols)!r}"
    )


def _shorten(text: str, width: int = 24) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
