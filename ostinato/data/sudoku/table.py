"""Rows of puzzles, and the CSV files that hold them (the format of Sudoku-Extreme)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from ostinato.data.contradictions import check_examples
from ostinato.data.csv_files import read_rows
from ostinato.data.sudoku.rules import BLANK, Sudoku
from ostinato.data.sudoku.solver import rate

FOREIGN = 255  # stands for a character that is neither digit nor blank


@dataclass(frozen=True, eq=False)
class Rows:
    """Puzzles with their solutions."""

    sudoku: Sudoku
    inputs: UInt8[np.ndarray, "rows cells"]
    labels: UInt8[np.ndarray, "rows cells"]
    ratings: Float32[np.ndarray, " rows"]
    """NaN where a row has no rating."""

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Integer[np.ndarray, " chosen"]) -> Rows:
        return Rows(self.sudoku, self.inputs[rows], self.labels[rows], self.ratings[rows])

    def sha256(self) -> str:
        """Of the lines "question,answer" in order, with `.` for blanks and a line feed each."""
        symbols = np.full(self.sudoku.vocab_size, ord("."), dtype=np.uint8)
        symbols[BLANK + 1 :] = ord("1") + np.arange(self.sudoku.size)
        comma, line_feed = np.frombuffer(b",\n", dtype=np.uint8)
        lines = np.insert(symbols[self.inputs], self.sudoku.seq_len, comma, axis=1)
        lines = np.concatenate([lines, symbols[self.labels]], axis=1)
        lines = np.insert(lines, lines.shape[1], line_feed, axis=1)
        return hashlib.sha256(lines.tobytes()).hexdigest()


def join(parts: list[Rows]) -> Rows:
    """All rows, one part after the other."""
    inputs, labels, ratings = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("inputs", "labels", "ratings")
    )
    return Rows(parts[0].sudoku, inputs, labels, ratings)


def ratings_of(
    rows: Rows, report: Callable[[str], None] | None
) -> tuple[Float32[np.ndarray, " rows"] | None, str | None]:
    """The ratings, and who gave them: the "source" or, where some lack, our solver's "guesses".

    Only with `report`, which is told now and then how far it is, does our solver rate them.
    """
    if not np.isnan(rows.ratings).any():
        return rows.ratings, "source"
    if report is None:
        return None, None
    guesses = np.zeros(len(rows), dtype=np.float32)
    for row, puzzle in enumerate(rows.inputs):
        guesses[row] = rate(rows.sudoku, puzzle)
        if (row + 1) % 2000 == 0:
            report(f"{row + 1} of {len(rows)} puzzles rated")
    return guesses, "guesses"


def read_csv(sudoku: Sudoku, path: Path, report: Callable[[str], None]) -> Rows:
    """All rows of a file with the columns question and answer, and perhaps rating (may be empty).

    Raises ValueError, with file and line, for a missing column, a wrong length, a foreign
    character, and for rows that `check_examples` refuses.
    """
    parts, lines = [], []
    rows = read_rows(path)
    while chunk := list(islice(rows, 100_000)):
        parts.append(_parse(sudoku, path, *zip(*chunk, strict=True)))
        lines += [row.line for row in chunk]
        if len(parts) % 10 == 0:
            report(f"{path.name}: {sum(map(len, parts))} rows read")
    if not parts:
        raise ValueError(f"{path}: no rows; give a file with at least one puzzle")
    found = join(parts)
    check_examples(sudoku, found.inputs, found.labels, lambda row: f"{path}:{lines[row]}", report)
    return found


def _parse(
    sudoku: Sudoku,
    path: Path,
    lines: tuple[int, ...],
    questions: tuple[str, ...],
    answers: tuple[str, ...],
    ratings: tuple[str, ...],
) -> Rows:
    def fail(row: int, fault: str):
        raise ValueError(f"{path}:{lines[row]}: {fault}")

    boards = []
    for name, texts in (("question", questions), ("answer", answers)):
        for row, text in enumerate(texts):
            if len(text) != sudoku.seq_len:
                fail(
                    row,
                    f"{name} of {len(text)} characters; a {sudoku.size}x{sudoku.size} Sudoku "
                    f"has {sudoku.seq_len}: correct it or the size",
                )
        symbols = np.frombuffer("".join(texts).encode("ascii", "replace"), dtype=np.uint8)
        tokens = _token_of_symbol(sudoku)[symbols].reshape(len(texts), sudoku.seq_len)
        for row, cell in np.argwhere(tokens == FOREIGN)[:1].tolist():
            fail(
                row,
                f"character {texts[row][cell]!r} at position {cell + 1} of {name}: use the digits "
                f"1 to {sudoku.size}, and . or 0 for blanks",
            )
        boards.append(tokens)
    inputs, labels = boards
    values = np.full(len(lines), np.nan, dtype=np.float32)
    for row, rating in enumerate(ratings):
        if rating.strip():
            try:
                values[row] = float(rating)
            except ValueError:
                fail(row, f"rating {rating!r} is no number: correct it or leave it empty")
    return Rows(sudoku, inputs, labels, values)


def _token_of_symbol(sudoku: Sudoku) -> UInt8[np.ndarray, "256"]:
    token = np.full(256, FOREIGN, dtype=np.uint8)
    token[[ord("."), ord("0")]] = BLANK
    token[ord("1") + np.arange(sudoku.size)] = BLANK + 1 + np.arange(sudoku.size)
    return token
