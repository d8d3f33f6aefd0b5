"""Tables of puzzles with their answers: rows in memory, and the CSV files that hold them.

The columns are those of the HRM authors' data sets: question, answer and optionally rating.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from ostinato.files import home_path
from ostinato.hub import fetch_all


@dataclass(frozen=True, eq=False)
class Rows:
    """Hold puzzles with their answers."""

    inputs: UInt8[np.ndarray, "rows cells"]
    labels: UInt8[np.ndarray, "rows cells"]
    ratings: Float32[np.ndarray, " rows"]
    """Difficulty of each row; NaN if it has no rating."""

    @classmethod
    def unrated(cls, inputs: np.ndarray, labels: np.ndarray) -> Rows:
        return cls(inputs, labels, np.full(len(inputs), np.nan, np.float32))

    @classmethod
    def join(cls, parts: Sequence[Rows]) -> Rows:
        """Join parts one after the other."""
        names = ("inputs", "labels", "ratings")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Integer[np.ndarray, " chosen"]) -> Rows:
        return Rows(self.inputs[rows], self.labels[rows], self.ratings[rows])


class Cells(NamedTuple):
    """Hold an unchecked line of a table."""

    line: int
    question: str
    answer: str
    rating: str
    """Empty if there is none."""

    def rated(self) -> float:
        """Return the rating as a number, or NaN if there is none. Raises ValueError for a word."""
        try:
            return float(self.rating) if self.rating.strip() else math.nan
        except ValueError:
            message = f"rating {self.rating!r} is no number: correct it or leave it empty"
            raise ValueError(message) from None


def csv_rows(lines: Iterable[str], source: str, before: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table, its header first, each with the number of its last line.

    `before` is the number of lines of the file before these. Raises ValueError, with file and line,
    for a line that is not CSV or whose length differs from the header's.
    """
    reader, width = csv.reader(lines), 0
    try:
        for row in filter(None, reader):  # an empty line has no values
            width = width or len(row)
            place = before + reader.line_num
            if len(row) != width:
                raise ValueError(
                    f"{source}:{place}: {len(row)} values for {width} columns; correct the line"
                )
            yield place, row
    except csv.Error as error:
        place = before + reader.line_num
        raise ValueError(f"{source}:{place}: no CSV ({error}); correct the line") from None


def read_cells(path: Path) -> Iterator[Cells]:
    """Read the lines of a table one by one.

    Raises ValueError, with file and line, for a missing column or a line of another length.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv_rows(file, str(path))
        _, header = next(rows, (0, []))
        for column in ("question", "answer"):
            if column not in header:
                raise ValueError(
                    f"{path}:1: no column {column!r} in {','.join(header)!r}: the first line must "
                    "name the columns question, answer and, if there are ratings, rating"
                )
        question, answer = header.index("question"), header.index("answer")
        rating = header.index("rating") if "rating" in header else None
        for line, row in rows:
            yield Cells(line, row[question], row[answer], "" if rating is None else row[rating])


def local_files(source: str, others: str) -> dict[str, Path]:
    """Find the CSV files of a source by split: one file, or a folder with train.csv.

    Raises ValueError if there are none; its message lists `others`, the sources that are not files.
    """
    path = home_path(source)
    if path.is_dir():
        found = {split: path / f"{split}.csv" for split in ("train", "validation", "test")}
        found = {split: file for split, file in found.items() if file.is_file()}
        if "train" not in found:
            raise ValueError(f"{path}: no train.csv in this folder; add it or name a CSV file")
        return found
    if not path.is_file():
        raise ValueError(
            f"no data source {source!r}: give {others}, a CSV file, or a folder with train.csv"
        )
    return {"train": path}


def hub_files(data_set: str) -> dict[str, Path]:
    """Fetch train.csv and test.csv of a data set on the Hub, unless they are in its cache."""
    names = ["train.csv", "test.csv"]
    remedy = "set source to a folder with its train.csv and test.csv"
    return {path.stem: path for path in fetch_all(data_set, names, remedy)}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
