"""The geometry of a Sudoku: sizes, boxes, and the cells of each row, column and box.

A board is a flat array of tokens, row by row: 0 is padding, 1 a blank, and digit d is d + 1. So 9x9
has the vocabulary of 11 tokens of the TRM and HRM papers.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Integer

BLANK = 1
DIGITS = "123456789ABCDEFG"
BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3), 16: (4, 4)}
"""Size → rows and columns of a box."""
SIZES = tuple(BOXES)
MINIMUM_GIVENS = {4: 4, 6: 8, 9: 17, 16: 15}
"""Size → fewest givens that fix a solution. 9x9: McGuire et al. 2012 (arXiv 1201.0749). 16x16: all
digits but one must be given; the fewest known are 55."""


@dataclass(frozen=True)
class Board:
    """Lay out a size: 4 (2x2 boxes), 6 (boxes of 2 rows and 3 columns), 9 (3x3) or 16 (4x4)."""

    size: int = 9
    """Side of the board, and the number of digits."""

    def __post_init__(self):
        if self.size not in BOXES:
            known = ", ".join(map(str, SIZES[:-1]))
            raise ValueError(
                f"a Sudoku of size {self.size} is unknown: choose {known} or {SIZES[-1]}"
            )

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
        return len(self.symbols)

    @property
    def fewest_givens(self) -> int:
        return MINIMUM_GIVENS[self.size]

    @property
    def symbols(self) -> str:
        return ".." + DIGITS[: self.size]

    @cached_property
    def meaning(self) -> dict[str, int]:
        """Map each character that may be written to its token; letters may be small."""
        digits = {digit: token for token, digit in enumerate(self.symbols[2:], start=2)}
        small = {digit.lower(): token for digit, token in digits.items()}
        return {".": BLANK, "0": BLANK} | small | digits

    @property
    def alphabet(self) -> str:
        """Name the digits for a message."""
        last = self.symbols[-1]
        return f"digits 1 to {last}" if last.isdigit() else f"digits 1 to 9 and A to {last}"

    @cached_property
    def cell_units(self) -> Integer[np.ndarray, "cells 3"]:
        """Return the row, column and box of every cell, as indices into `units`."""
        row, col = np.divmod(np.arange(self.seq_len), self.size)
        box = row // self.box_rows * self.box_rows + col // self.box_cols
        return np.stack([row, self.size + col, 2 * self.size + box], axis=1)

    @cached_property
    def units(self) -> Integer[np.ndarray, "units size"]:
        """Return the cells of every row, then of every column, then of every box."""
        members = np.argsort(self.cell_units.T, axis=1, kind="stable")
        return members.reshape(3 * self.size, self.size)

    def format(self, tokens: Integer[np.ndarray, " cells"]) -> str:
        """Write one line of digits, with `.` for everything that is not a digit."""
        return "".join(self.symbols[t] if self.is_digit(t) else "." for t in tokens.tolist())

    def is_digit(self, token: int) -> bool:
        return BLANK < token < self.vocab_size

    def place(self, cell: int) -> str:
        return f"row {cell // self.size + 1}, column {cell % self.size + 1}"
