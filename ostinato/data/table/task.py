"""Define `Table`, a kind of puzzle that is known only from examples; its name describes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Integer

from ostinato.data.group import Group
from ostinato.data.puzzle_files import one_a_line
from ostinato.data.records import Cells, read_cells
from ostinato.data.table.layout import Board, Form, Layout
from ostinato.data.table.symmetry import declared
from ostinato.data.tables import Rows
from ostinato.data.task import Mark, Task

PREFIX = "table:"
"""Prefix of the names of tables; their description follows in JSON."""
OUTSIDE = 0
"""Token of cells outside of a puzzle; as a label it is ignored."""
MOST_SYMBOLS = 4096
MOST_CELLS = 4096


@dataclass(frozen=True)
class Table(Task):
    """Answer questions like those of a table.

    A board lies in the upper left corner of a canvas of `rows` × `cols` cells; a line fills the
    canvas row by row. Token 0 is outside of the board; then come the symbols. If an answer leaves
    cells of the canvas free, a last token, the end, closes it: behind a line, or to the right of
    and below a grid. The cells beyond are ignored.
    """

    known_symbols: tuple[str, ...]
    """The symbols of the tokens from 1 on."""
    rows: int
    cols: int
    form: Form = "line"
    separator: str = ""
    """Separator of two symbols (see `Layout`)."""
    question_size: tuple[int, int] | None = None
    """Rows and columns of every question; None if they differ."""
    closed: bool = False
    """True if some answers do not fill the canvas."""
    blanks: tuple[str, ...] = ()
    """Symbols that an answer replaces, while it keeps all others; none: it may change all."""
    spec: str = ""
    """Declared symmetries (see `Group`)."""
    columns: tuple[str, str] = ("", "")
    """Names of the columns, if they are not the usual ones."""

    prefix: ClassVar[str] = PREFIX
    has_rules: ClassVar[bool] = False

    @classmethod
    def from_name(cls, name: str) -> Table:
        """Return the table that a name describes. Raises ValueError if it describes none."""
        try:
            facts: dict[str, Any] = json.loads(name.removeprefix(cls.prefix))
            for key in ("known_symbols", "question_size", "blanks", "columns"):
                facts[key] = tuple(facts[key]) if facts[key] is not None else None
            table = cls(**facts)
            sizes = (table.rows, table.cols, *(table.question_size or (1, 1)))
            if not all(type(size) is int and 0 < size <= MOST_CELLS for size in sizes):
                raise ValueError("impossible sizes")
            if not all(type(symbol) is str for symbol in (*table.known_symbols, *table.blanks)):
                raise ValueError("symbols that are no text")
            declared(table.spec, table.symbols, table.rows, table.cols)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"damaged description of a table ({error}): train it anew") from None
        return table

    @cached_property
    def name(self) -> str:
        return self.prefix + json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @property
    def title(self) -> str:
        return "table"

    @property
    def layout(self) -> Layout:
        return Layout(self.form, self.separator)

    @property
    def seq_len(self) -> int:
        return self.rows * self.cols

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        return ("", *self.known_symbols, *[""] * self.closed)

    @property
    def end(self) -> int:
        """Return the token that closes an answer."""
        return len(self.known_symbols) + 1

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Map each symbol to its token."""
        return {symbol: token for token, symbol in enumerate(self.known_symbols, start=1)}

    def place(self, board: Board, outside: int = OUTSIDE) -> Integer[np.ndarray, " cells"]:
        """Put the tokens of a board on the canvas. Raises ValueError if it does not fit."""
        rows, cols = len(board), len(board[0])
        flat = self.layout.is_flat
        if rows * cols > self.seq_len if flat else (rows > self.rows or cols > self.cols):
            most = f"{self.seq_len} cells" if flat else f"{self.rows}×{self.cols} cells"
            raise ValueError(f"{size_in_words((rows, cols))}: this table has at most {most}")
        dtype = np.min_scalar_type(self.vocab_size - 1)
        try:
            tokens = [[self.tokens[symbol] for symbol in row] for row in board]
        except KeyError as error:
            few = " ".join(self.known_symbols[:20])
            raise ValueError(f"unknown symbol {error}: this table has {few}") from None
        canvas = np.full((self.rows, self.cols), outside, dtype)
        if flat:
            canvas.reshape(-1)[: rows * cols] = tokens[0]
        else:
            canvas[:rows, :cols] = tokens
        return canvas.reshape(-1)

    def parse(self, text: str) -> Integer[np.ndarray, " cells"]:
        board = self.layout.read(text)
        size = len(board), len(board[0])
        if self.question_size not in (None, size):
            raise ValueError(
                f"{size_in_words(size)}: all puzzles of this table have "
                f"{size_in_words(self.question_size)}"
            )
        return self.place(board)

    def random_questions(
        self, count: int, rng: np.random.Generator
    ) -> Integer[np.ndarray, "count cells"]:
        """Put random symbols on boards of the usual size, to try a model on."""
        rows, cols = self.question_size or (self.rows, self.cols)
        symbols = np.array(self.known_symbols, object)
        boards = symbols[rng.integers(len(symbols), size=(count, rows, cols))]
        return np.stack([self.place(board.tolist()) for board in boards])

    def write(self, grid: Sequence[Sequence[object]]) -> str:
        rows = [list(map(str, row)) for row in grid]
        if self.layout.is_flat:
            rows = [[symbol for row in rows for symbol in row]]
        return self.layout.write(rows)

    def parse_answer(self, text: str) -> Integer[np.ndarray, " cells"]:
        """Read an answer, closed by the end where it leaves cells of the canvas free."""
        board = self.layout.read(text)
        canvas = self.place(board)
        if not self.closed and len(board) * len(board[0]) < self.seq_len:
            size = size_in_words((len(board), len(board[0])))
            raise ValueError(f"an answer of {size}: all answers of this table have {self.seq_len}")
        if self.layout.is_flat:
            canvas[len(board[0]) : len(board[0]) + 1] = self.end
        else:
            grid, rows, cols = canvas.reshape(self.rows, self.cols), len(board), len(board[0])
            grid[rows : rows + 1, :cols] = self.end
            grid[:rows, cols : cols + 1] = self.end
        return canvas

    def board(self, tokens: Integer[np.ndarray, " cells"]) -> list[list[int]]:
        """Return the tokens inside of a board, row by row, without those that the end cuts off."""
        if self.layout.is_flat:
            return [tokens[: self.first_outside(tokens)].tolist()]
        grid = tokens.reshape(self.rows, self.cols)
        rows, cols = self.first_outside(grid[:, 0]), self.first_outside(grid[0])
        return grid[:rows, :cols].tolist()

    def first_outside(self, tokens: Integer[np.ndarray, " cells"]) -> int:
        """Count the tokens before the end, or before the first that is outside."""
        ends = (tokens == OUTSIDE) | (tokens == self.end)
        return int(ends.argmax()) if ends.any() else len(tokens)

    def format(self, tokens: Integer[np.ndarray, " cells"]) -> str:
        board = self.board(tokens)
        return self.layout.write([[self.symbols[t] for t in row] for row in board])

    def draw(self, tokens: Integer[np.ndarray, " cells"], mark: Mark | None = None) -> str:
        board = self.board(tokens)
        width = self.cols
        if self.layout.is_flat and board[0]:
            board = [board[0][start : start + width] for start in range(0, len(board[0]), width)]
        widest = max(map(len, self.known_symbols))
        lines = []
        for row, cells in enumerate(board):
            texts = [self.symbols[token].rjust(widest) for token in cells]
            if mark is not None:
                texts = [mark(row * width + col, text) for col, text in enumerate(texts)]
            lines.append(" ".join(texts))
        return "\n".join(lines)

    def check(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> str | None:
        """Say which given an answer has changed, if the table's answers keep all givens; else None.

        No other rule of a table is known, so an answer without a fault may still be wrong.
        """
        for cell in np.flatnonzero(self.changed(puzzle, answer))[:1].tolist():
            given, now = (self.symbols[board[cell]] for board in (puzzle, answer))
            return f"the given {given} in cell {cell + 1} was changed to {now or 'nothing'}"
        return None

    def faults(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> Bool[np.ndarray, " cells"]:
        return self.changed(puzzle, answer)

    def changed(
        self,
        puzzle: Integer[np.ndarray, "*puzzles cells"],
        answer: Integer[np.ndarray, "*puzzles cells"],
    ) -> Bool[np.ndarray, "*puzzles cells"]:
        if not self.blanks:
            return np.zeros(puzzle.shape, bool)
        free = [OUTSIDE, *(self.tokens[symbol] for symbol in self.blanks)]
        return ~np.isin(puzzle, free) & (puzzle != answer)

    @cached_property
    def group(self) -> Group:
        return declared(self.spec, self.symbols, self.rows, self.cols)

    def boards(self, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
        """Find the puzzles in the lines of a file: one a line, or blocks between empty lines.

        `#` begins a comment unless the table has it as a symbol.
        """
        if self.form == "lines":
            numbered = enumerate((line.rstrip("\r\n") for line in lines), start=1)
            for inside, block in groupby(numbered, key=lambda line: bool(line[1].strip())):
                if inside:
                    first, *others = block
                    yield first[0], "\n".join([first[1], *(line for _, line in others)])
        elif any("#" in symbol for symbol in self.known_symbols):
            for number, line in enumerate(lines, start=1):
                if text := line.strip("\r\n"):
                    yield number, text
        else:
            yield from one_a_line(lines)

    def cells(self, path: Path) -> Iterator[Cells]:
        return read_cells(path, *self.columns)

    def sha256(self, rows: Rows) -> str:
        digest = hashlib.sha256()
        for question, answer in zip(rows.inputs, rows.labels, strict=True):
            digest.update(f"{self.format(question)},{self.format(answer)}\n".encode())
        return digest.hexdigest()


def size_in_words(size: tuple[int, int] | None) -> str:
    """Write (1, 5) as "5 cells" and (2, 3) as "2×3 cells"."""
    assert size is not None
    return f"{size[1]} cells" if size[0] == 1 else f"{size[0]}×{size[1]} cells"
