"""Define `Grid`, the base class of puzzle kinds in one file: a square of characters, with rules."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from ostinato.data.group import Group
from ostinato.data.symmetries import sources
from ostinato.data.task import Mark, Task

Mistake = tuple[str, Sequence[int]]
"""A fault of an answer, in half a sentence, and the cells that are at fault."""


@dataclass(frozen=True)
class Grid(Task):
    """Solve a puzzle on a square of characters.

    A subclass names its kind and its symbols, finds mistakes, and draws random puzzles. Token 0 is
    never used; the others are the symbols, in order. A subclass with fewer symmetries than a
    square, or more, overrides `group`.
    """

    size: int

    kind: ClassVar[str]
    """First part of the name; the second is the size."""
    sizes: ClassVar[Sequence[int]]
    blank: ClassVar[str] = "."
    """The symbol that an answer replaces with one of `fills`; it keeps all others."""

    def __post_init__(self):
        if self.size not in self.sizes:
            known = f"{self.sizes[0]} to {self.sizes[-1]}"
            raise ValueError(f"a {self.kind} of size {self.size} is not known: choose {known}")

    @property
    @abstractmethod
    def letters(self) -> str:
        """List the symbols of puzzles and answers."""

    @property
    @abstractmethod
    def fills(self) -> str:
        """List the symbols that an answer may have where the puzzle has a blank."""

    @abstractmethod
    def mistakes(
        self, puzzle: Integer[np.ndarray, "side side"], answer: Integer[np.ndarray, "side side"]
    ) -> Iterator[Mistake]:
        """Find what breaks the rules in an answer that keeps what is given and has no blanks.

        Users see the text of the first mistake, and the cells of all.
        """

    @abstractmethod
    def generate(self, rng: np.random.Generator) -> tuple[str, str] | None:
        """Draw a puzzle with a single answer, both on one line; None if the attempt failed."""

    @property
    def name(self) -> str:
        return f"{self.kind}{self.size}"

    @property
    def side(self) -> int:
        """Return the number of rows and columns of the square of characters."""
        return self.size

    @property
    def seq_len(self) -> int:
        return self.side**2

    @cached_property
    def symbols(self) -> str:
        return "?" + self.letters

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Map each symbol to its token."""
        return {symbol: token for token, symbol in enumerate(self.letters, start=1)}

    @cached_property
    def group(self) -> Group:
        """Return the symmetries of the square."""
        return Group.of_moves(sources(self.side), self.vocab_size)

    def place(self, cell: int) -> str:
        return f"row {cell // self.side + 1}, column {cell % self.side + 1}"

    def parse(self, text: str) -> UInt8[np.ndarray, " cells"]:
        """Read a puzzle on one line, or as a board; white space is ignored."""
        symbols = "".join(text.split())
        if len(symbols) != self.seq_len:
            raise ValueError(
                f"a {self.name} has {self.seq_len} characters ({self.side} lines of {self.side}), "
                f"not {len(symbols)}"
            )
        for cell, symbol in enumerate(symbols):
            if symbol not in self.tokens:
                raise ValueError(
                    f"character {symbol!r} at {self.place(cell)} is not allowed: use "
                    f"{' '.join(self.letters)}"
                )
        return np.array([self.tokens[symbol] for symbol in symbols], np.uint8)

    def draw(self, tokens: Integer[np.ndarray, " cells"], mark: Mark | None = None) -> str:
        symbols = [self.picture(self.symbols[token]) for token in tokens.tolist()]
        if mark is not None:
            symbols = [mark(cell, symbol) for cell, symbol in enumerate(symbols)]
        rows = [symbols[cell : cell + self.side] for cell in range(0, self.seq_len, self.side)]
        return "\n".join(" ".join(row) for row in rows)

    def picture(self, symbol: str) -> str:
        """Return the character to draw for a symbol."""
        return symbol

    def boards(self, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
        """Find the puzzles in a file: one a line, or boards of as many lines as they have rows."""
        board: list[str] = []
        number = 0
        for number, line in enumerate(lines, start=1):
            symbols = "".join(line.split())
            if not board and len(symbols) > self.side:
                yield number, symbols
            elif symbols:
                board.append(symbols)
                if len(board) == self.side:
                    yield number - self.side + 1, "".join(board)
                    board = []
        if board:
            raise ValueError(
                f"the {self.name} before line {number} has {len(board)} rows, not {self.side}"
            )

    def check(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> str | None:
        return next((problem for problem, _ in self.all_mistakes(puzzle, answer)), None)

    def changed(
        self,
        puzzle: Integer[np.ndarray, "*puzzles cells"],
        answer: Integer[np.ndarray, "*puzzles cells"],
    ) -> Bool[np.ndarray, "*puzzles cells"]:
        """Find the cells, other than blanks, that an answer does not keep."""
        return (puzzle != self.tokens[self.blank]) & (puzzle != answer)

    def faults(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> Bool[np.ndarray, " cells"]:
        faults = np.zeros(self.seq_len, bool)
        for _, cells in self.all_mistakes(puzzle, answer):
            faults[list(cells)] = True
        return faults

    def all_mistakes(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> Iterator[Mistake]:
        """Find changed givens and cells that are not filled in or, without any, broken rules."""
        blank = puzzle == self.tokens[self.blank]
        fills = [self.tokens[symbol] for symbol in self.fills]
        wrong = self.changed(puzzle, answer) | blank & ~np.isin(answer, fills)
        for cell in np.flatnonzero(wrong).tolist():
            given = self.symbols[puzzle[cell]]
            change = "is not filled in" if blank[cell] else f"was changed from {given!r}"
            yield f"{self.place(cell)} {change}", [cell]
        if not wrong.any():
            yield from self.mistakes(*(b.reshape(self.side, self.side) for b in (puzzle, answer)))
