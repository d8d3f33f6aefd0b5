"""Read and write puzzles in the cells of a table: characters, words, lines, or lists in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Form = Literal["line", "lines", "list", "grid"]
Board = list[list[str]]
"""Symbols, row by row; a puzzle on one line is one row."""
LARGEST = 10_000
"""Most symbols of a board."""
SEPARATORS = {"none": "", "space": " ", "comma": ","}
"""Name → separator of two symbols; any other separator stands for itself."""


@dataclass(frozen=True)
class Layout:
    """Read and write boards in one form."""

    form: Form = "line"
    """"line": all symbols on one line; "lines": a line a row; "list" of symbols and "grid", a list
    of rows, in JSON."""
    separator: str = ""
    """Text between two symbols on a line; empty: every character is a symbol."""

    def read(self, text: str) -> Board:
        """Read a board. Raises ValueError if it is none, is empty, or has unequal rows."""
        if self.form in ("list", "grid"):
            rows = _read_json(text)
        elif self.form == "lines":
            rows = [self.split(line) for line in text.strip("\r\n").splitlines()]
        else:
            rows = [self.split(text.strip("\r\n"))]
        widths = {len(row) for row in rows}
        if len(widths) > 1:
            raise ValueError(
                f"a grid with rows of {min(widths)} and of {max(widths)} cells: make them equal"
            )
        if widths in (set(), {0}):
            raise ValueError("an empty cell: write a puzzle, or leave the row out")
        if len(rows) * widths.pop() > LARGEST:
            raise ValueError(f"more than {LARGEST:,} symbols: choose another --separator")
        return rows

    def split(self, line: str) -> list[str]:
        """Read the symbols of a line."""
        if not self.separator:
            return list(line)
        if self.separator == " ":
            return line.split()
        return [word.strip() for word in line.strip().split(self.separator)]

    def write(self, board: Sequence[Sequence[str]]) -> str:
        """Write a board as `read` reads it."""
        if self.form in ("list", "grid"):
            rows = [[_value(symbol) for symbol in row] for row in board]
            return json.dumps(rows if self.form == "grid" else rows[0], ensure_ascii=False)
        return "\n".join(self.separator.join(row) for row in board)

    def describe(self) -> str:
        """Say how a board is written."""
        words = {"": "characters", " ": "words between spaces", ",": "words between commas"}
        kind = words.get(self.separator, f"words between {self.separator!r}")
        json_lists = {"list": "JSON lists", "grid": "JSON lists of rows"}
        return {"line": kind, "lines": f"lines of {kind}", **json_lists}[self.form]

    @property
    def is_flat(self) -> bool:
        """Return whether a board is a single row of symbols, however it is drawn."""
        return self.form in ("line", "list")


def find_layout(texts: Sequence[str], separator: str = "auto") -> Layout:
    """Find the layout of a sample of cells; words are found by a separator common to all.

    A `separator` other than "auto" is taken as it is given (see `SEPARATORS`).
    """
    if all(text.lstrip().startswith("[") and _is_json(text) for text in texts):
        is_grid = any(text.lstrip().removeprefix("[").lstrip().startswith("[") for text in texts)
        return Layout("grid" if is_grid else "list")
    form = "lines" if any("\n" in text.strip("\r\n") for text in texts) else "line"
    if separator != "auto":
        return Layout(form, SEPARATORS.get(separator, separator))
    for mark in (",", " "):
        lines = [line for text in texts for line in text.strip().splitlines()]
        words = [line.split(mark) for line in lines]
        if any(len(line) > 1 for line in words) and all(word for line in words for word in line):
            return Layout(form, mark)
    return Layout(form)


def _is_json(text: str) -> bool:
    try:
        _read_json(text)
    except ValueError:
        return False
    return True


def _read_json(text: str) -> Board:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error}): write a list of rows") from None
    if not isinstance(rows, list):
        raise ValueError("no list: write a list of rows in JSON")
    if not any(isinstance(row, list) for row in rows):
        rows = [rows]
    if not all(isinstance(row, list) and not any(map(_is_nested, row)) for row in rows):
        raise ValueError("no list of rows: write a list of lists of symbols in JSON")
    return [
        [symbol if isinstance(symbol, str) else json.dumps(symbol) for symbol in r] for r in rows
    ]


def _is_nested(value: object) -> bool:
    return isinstance(value, (list, dict))


def _value(symbol: str) -> object:
    """Return the number that a symbol stands for, or itself."""
    try:
        return int(symbol) if str(int(symbol)) == symbol else symbol
    except ValueError:
        return symbol
