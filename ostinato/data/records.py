"""Read tables: CSV with any usual delimiter and encoding, JSONL, Parquet."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

QUESTIONS = ("question", "questions", "puzzle", "puzzles", "quiz", "quizzes", "input", "inputs")
ANSWERS = ("answer", "answers", "solution", "solutions", "output", "outputs")
RATINGS = ("rating", "difficulty")
"""Names of columns, in any case."""
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
"""Kinds of files that hold tables; a file of another kind is read as CSV."""


class Cells(NamedTuple):
    """Hold the cells of one row of a table, unchecked."""

    line: int
    question: str
    answer: str
    rating: str
    """Rating as written; empty if there is none."""

    def rated(self) -> float:
        """Return the rating as a number, NaN if there is none. Raises ValueError for a word."""
        try:
            return float(self.rating) if self.rating.strip() else math.nan
        except ValueError:
            message = f"rating {self.rating!r} is no number: correct it or leave it empty"
            raise ValueError(message) from None


def read_cells(path: Path, question: str = "", answer: str = "") -> Iterator[Cells]:
    """Read the lines of a table one by one.

    The columns are those of `QUESTIONS`, `ANSWERS` and `RATINGS`, or are named `question` and
    `answer`. Raises ValueError, with file and line, for a missing column, a line of another length
    and a file that cannot be read.
    """
    readers = {".jsonl": _json_rows, ".parquet": _parquet_rows}
    rows = readers.get(path.suffix.lower(), _csv_rows)(path)
    try:
        line, header = next(rows, (1, []))
        places = [
            place_of(header, (name,) if name else known)
            for name, known in ((question, QUESTIONS), (answer, ANSWERS), ("", RATINGS))
        ]
        for place, name in zip(places, (question or "question", answer or "answer"), strict=False):
            if place is None:
                raise ValueError(
                    f"{path}:{line}: no column {name!r} in {','.join(header)!r}: the first line "
                    "must name the columns question, answer and, if there are ratings, rating"
                )
        for line, row in rows:
            if len(row) != len(header):
                raise ValueError(
                    f"{path}:{line}: {len(row)} values for {len(header)} columns; correct the line"
                )
            yield Cells(line, *("" if place is None else row[place] for place in places))
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror}): give another file") from None
    except UnicodeError as error:
        raise ValueError(f"cannot read {path} ({error}): save it as UTF-8") from None


def place_of(header: list[str], names: tuple[str, ...]) -> int | None:
    """Find the first of `names` among the columns, in any case."""
    columns = [column.strip().lower() for column in header]
    return next((columns.index(name.lower()) for name in names if name.lower() in columns), None)


def is_table(path: Path) -> bool:
    """Return whether a file holds a table: by its ending, or as its first line names columns."""
    if path.suffix.lower() in SUFFIXES:
        return True
    with path.open(encoding=encoding_of(path), errors="replace") as file:
        header = file.readline()
    return place_of(header.split(delimiter_of(header)), QUESTIONS) is not None


def encoding_of(path: Path) -> str:
    """Return the encoding that the mark at the start of a file names, UTF-8 without one.

    A file that can be read only once, such as a pipe, is not opened for this.
    """
    if not path.is_file():
        return "utf-8-sig"
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def delimiter_of(header: str) -> str:
    """Return what separates the columns of a first line: a tab, a semicolon or a comma."""
    return max(",;\t", key=header.count)


def csv_rows(
    lines: Iterable[str], source: str, delimiter: str = ",", before: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table, its header first, each with the number of its last line.

    `before` is the number of lines of the file before these. Raises ValueError, with file and line,
    for a line that is no CSV, and for one of another length than the header.
    """
    reader, width = csv.reader(lines, delimiter=delimiter), 0
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


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read the lines of a CSV file, the first being the header; skip empty ones."""
    with path.open(newline="", encoding=encoding_of(path), errors="replace") as file:
        delimiter = delimiter_of(file.readline())
        file.seek(0)
        yield from csv_rows(file, str(path), delimiter)


def _json_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read the objects of a JSONL file, the names of the first being the header."""
    header: list[str] | None = None
    with path.open(encoding=encoding_of(path), errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}:{number}: no JSON ({error}): correct it") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number}: no object: write one a line, with its columns")
            if header is None:
                header = list(row)
                yield number, header
            yield number, [_text(row[name]) for name in header if name in row]


def _parquet_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read the rows of a Parquet file."""
    try:
        from pyarrow import ArrowException, parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        remedy = 'pip install "ostinato[parquet]"'
        raise ValueError(f"{path}: Parquet needs pyarrow: {remedy}") from None
    try:
        table = parquet.ParquetFile(path)
        yield 0, table.schema_arrow.names
        number = 0
        for batch in table.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield number, [_text(value) for value in row.values()]
    except ArrowException as error:
        raise ValueError(f"{path}: not readable ({error}): write it again") from None


def _text(value: object) -> str:
    """Write a value of JSON or Parquet as a CSV file would hold it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
