"""What a Sudoku is: sizes, tokens, and what is wrong with a board.

A board is a flat array of tokens, row by row: 0 is padding, 1 a blank, digit d is d + 1 (so that
9x9 has the vocabulary of 11 of the TRM and HRM papers).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from torch import Generator, Tensor

from ostinato.data.symmetries import Symmetries

if TYPE_CHECKING:
    from pathlib import Path

    from ostinato.data.puzzles import PuzzleSet

BLANK = 1
BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
MINIMUM_GIVENS = {4: 4, 6: 8, 9: 17}
"""Fewest givens that fix a solution. 9x9: McGuire, Tugemann, Civario 2012 (arXiv:1201.0749)."""


@dataclass(frozen=True)
class Sudoku:
    """The rules of one size: 4 (2x2 boxes), 6 (boxes of 2 rows and 3 columns) or 9 (3x3 boxes)."""

    size: int = 9
    """Side of the board, and the number of digits."""

    def __post_init__(self):
        if self.size not in BOXES:
            raise ValueError(f"a Sudoku of size {self.size} is unknown: choose 4, 6 or 9")

    @property
    def name(self) -> str:
        return f"sudoku{self.size}"

    @property
    def box_rows(self) -> int:
        return BOXES[self.size][0]

    @property
    def box_cols(self) -> int:
        return BOXES[self.size][1]

    @property
    def seq_len(self) -> int:
        return self.size**2

    @property
    def vocab_size(self) -> int:
        return self.size + 2

    @property
    def fewest_givens(self) -> int:
        return MINIMUM_GIVENS[self.size]

    @cached_property
    def cell_units(self) -> Integer[np.ndarray, "cells 3"]:
        """The row, column and box of every cell, as indices into `units`."""
        row, col = np.divmod(np.arange(self.seq_len), self.size)
        box = row // self.box_rows * self.box_rows + col // self.box_cols
        return np.stack([row, self.size + col, 2 * self.size + box], axis=1)

    @cached_property
    def units(self) -> Integer[np.ndarray, "units size"]:
        """The cells of every row, then of every column, then of every box."""
        members = np.argsort(self.cell_units.T, axis=1, kind="stable")
        return members.reshape(3 * self.size, self.size)

    def parse(self, text: str) -> UInt8[np.ndarray, " cells"]:
        """The tokens of a board written with digits and `.` or `0` for blanks; white space is free.

        Raises ValueError for a wrong length, a foreign character or contradictory givens.
        """
        symbols = "".join(text.split())
        if len(symbols) != self.seq_len:
            raise ValueError(
                f"a {self.size}x{self.size} Sudoku needs {self.seq_len} characters "
                f"(digits, and . or 0 for blanks), not {len(symbols)}: {_shorten(symbols)!r}"
            )
        meaning = {".": BLANK, "0": BLANK} | {str(d): d + 1 for d in range(1, self.size + 1)}
        for position, symbol in enumerate(symbols):
            if symbol not in meaning:
                raise ValueError(
                    f"character {symbol!r} at position {position + 1} ({self.place(position)}) "
                    f"is not allowed: use the digits 1 to {self.size}, and . or 0 for blanks"
                )
        tokens = np.array([meaning[symbol] for symbol in symbols], dtype=np.uint8)
        if conflicts := self.conflicts(tokens):
            raise ValueError(f"the givens contradict each other: {conflicts[0]}; correct one")
        return tokens

    def format(self, tokens: Integer[np.ndarray, " cells"]) -> str:
        """One line of digits, with `.` for everything that is not a digit."""
        return "".join(str(t - 1) if self.is_digit(t) else "." for t in tokens.tolist())

    def draw(
        self,
        tokens: Integer[np.ndarray, " cells"],
        mark: Callable[[int, str], str] | None = None,
    ) -> str:
        """A board of several lines, with rules between the boxes.

        `mark(cell, symbol)` gives what stands for the symbol of a cell, such as a coloured one.
        """
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

    def is_digit(self, token: int) -> bool:
        return BLANK < token < self.vocab_size

    def place(self, cell: int) -> str:
        return f"row {cell // self.size + 1}, column {cell % self.size + 1}"

    def conflicts(self, tokens: Integer[np.ndarray, " cells"]) -> list[str]:
        """Every repeated digit, as in `["digit 5 stands twice in row 3"]`; rows come first."""
        digits = np.arange(BLANK + 1, self.vocab_size)
        counts = (tokens[self.units][:, :, None] == digits).sum(axis=1)
        found = []
        for unit, digit in np.argwhere(counts > 1).tolist():
            count = counts[unit, digit]
            times = "twice" if count == 2 else f"{count} times"
            kind, index = divmod(unit, self.size)
            name = f"{('row', 'column', 'box')[kind]} {index + 1}"
            found.append(f"digit {digit + 1} stands {times} in {name}")
        return found

    def check(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> str | None:
        """What is wrong with an answer, in one sentence, or None if it solves the puzzle."""
        empty = []
        for cell, (given, digit) in enumerate(zip(puzzle.tolist(), answer.tolist(), strict=True)):
            if self.is_digit(given) and digit != given:
                shown = digit - 1 if self.is_digit(digit) else "no digit"
                return f"the given {given - 1} in {self.place(cell)} was changed to {shown}"
            if not self.is_digit(digit):
                empty.append(cell)
        if empty:
            others = len(empty) - 1
            more = f" and {others} more cell{'s' * (others > 1)} hold" if others else " holds"
            return f"{self.place(empty[0])}{more} no digit"
        return next(iter(self.conflicts(answer)), None)

    def wrong(
        self,
        puzzles: Integer[np.ndarray, "puzzles cells"],
        answers: Integer[np.ndarray, "puzzles cells"],
    ) -> Bool[np.ndarray, " puzzles"]:
        """Tell which answers change a given, or miss a digit in some row, column or box."""
        changed = ((puzzles > BLANK) & (puzzles != answers)).any(axis=1)
        bits = np.left_shift(1, answers.T, dtype=np.uint16, casting="unsafe")[self.units]
        complete = np.bitwise_or.reduce(bits, axis=1) == 2**self.vocab_size - 4
        return changed | ~complete.all(axis=0)

    def count_solutions(
        self, tokens: Integer[np.ndarray, " cells"], max_guesses: int
    ) -> int | None:
        """Count the solutions up to 2; None if that takes more than `max_guesses`."""
        from ostinato.data.sudoku.solver import TooManyGuesses, solutions  # which imports this file

        try:
            return sum(1 for _ in islice(solutions(self, tokens, max_guesses), 2))
        except TooManyGuesses:
            return None

    def faults(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> Bool[np.ndarray, " cells"]:
        """The cells that break a rule: a given was changed, no digit, or one that stands twice.

        Of equal digits a given is in the right, and the others are at fault.
        """
        given = (puzzle > BLANK) & (puzzle < self.vocab_size)
        digit = (answer > BLANK) & (answer < self.vocab_size)
        in_units = answer[self.units]
        copies = (in_units[:, :, None] == in_units[:, None, :]).sum(axis=2)
        repeated = np.zeros(self.seq_len, dtype=bool)
        repeated[self.units[copies > 1]] = True
        return ~digit | np.where(given, answer != puzzle, repeated)

    def possible(self, tokens: Integer[np.ndarray, " cells"]) -> Bool[np.ndarray, "cells vocab"]:
        """In a blank cell the digits that its row, column and box do not hold, else its own."""
        holds = np.arange(self.vocab_size) == tokens[:, None]
        in_unit = holds[self.units].any(axis=1)
        allowed = ~in_unit[self.cell_units].any(axis=1)
        allowed[:, : BLANK + 1] = False
        return np.where(tokens[:, None] > BLANK, holds, allowed)

    def augment(
        self,
        inputs: Integer[Tensor, "batch cells"],
        labels: Integer[Tensor, "batch cells"],
        generator: Generator,
    ) -> tuple[Integer[Tensor, "batch cells"], Integer[Tensor, "batch cells"]]:
        """A random symmetry for every row, the same for inputs and labels: `symmetry.augment`."""
        from ostinato.data.sudoku.symmetry import augment  # which imports this file

        return augment(self, inputs, labels, generator)

    def symmetries(self, batch: int, generator: Generator) -> Symmetries:
        """Random symmetries, uniform over the group: `symmetry.draw_symmetries`."""
        from ostinato.data.sudoku.symmetry import draw_symmetries

        return draw_symmetries(self, batch, generator)

    def read_table(self, path: Path, report: Callable[[str], None]) -> PuzzleSet:
        """All rows of a CSV file with the columns question and answer: `table.read_csv`.

        Where ratings are missing, they are the guesses that our solver needs.
        """
        from ostinato.data.puzzles import PuzzleSet
        from ostinato.data.sudoku.table import ratings_of, read_csv  # which imports this file

        rows = read_csv(self, path, report)
        ratings, rated_by = ratings_of(rows, report)
        return PuzzleSet.of_examples(
            self.name, rows.inputs, rows.labels, self.vocab_size, ratings, rated_by=rated_by
        )


def sudoku_of(text: str) -> Sudoku:
    """The Sudoku whose size fits the number of characters (16, 36 or 81; white space is free)."""
    symbols = "".join(text.split())
    for size in BOXES:
        if len(symbols) == size**2:
            return Sudoku(size)
    raise ValueError(
        f"a puzzle has 16 (4x4), 36 (6x6) or 81 (9x9) characters, "
        f"not {len(symbols)}: {_shorten(symbols)!r}"
    )


def _shorten(text: str, width: int = 24) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
