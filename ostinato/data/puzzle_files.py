"""Puzzles as people keep them: files with one puzzle a line, and CSV tables."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STANDARD_INPUT = Path("-")
COLUMNS = ("question", "puzzle")
"""Names of the column of a CSV table that holds the puzzles."""


@dataclass(frozen=True)
class WrittenPuzzle:
    """A puzzle that nobody has checked yet."""

    text: str
    place: str
    """Where it stands, for messages: "puzzles.txt:7"."""


def read_puzzles(path: Path) -> Iterator[WrittenPuzzle]:
    """The puzzles of a file, or of standard input if `path` is `-`, read as they are asked for.

    One puzzle a line, where `#` begins a comment; or a CSV table, whose first line names a column
    "question" or "puzzle". Raises ValueError if the file cannot be read, holds no puzzle, or is a
    table that is damaged or lacks such a column.
    """
    name, file = ("standard input", 0) if path == STANDARD_INPUT else (str(path), path)
    try:
        # utf-8-sig: spreadsheets begin their files with a byte order mark
        with open(
            file, encoding="utf-8-sig", errors="replace", newline="", closefd=file != 0
        ) as lines:
            puzzle = None
            for puzzle in _puzzles(lines, name):
                yield puzzle
    except OSError as error:
        raise ValueError(f"cannot read {name} ({error.strerror}): give another file") from None
    except csv.Error as error:
        raise ValueError(f"{name} is no list of puzzles ({error}): give another file") from None
    if puzzle is None:
        raise ValueError(f"{name} holds no puzzle: write one a line")


def _puzzles(lines: Iterator[str], name: str) -> Iterator[WrittenPuzzle]:
    first = True
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if first:
            header = [cell.strip().lower() for cell in next(csv.reader([text]))]
            if any(column in header for column in COLUMNS):
                yield from _column(lines, name, header, number)
                return
            if len(header) > 1:
                raise ValueError(
                    f"{name}:{number}: the table has no column {' or '.join(COLUMNS)}: "
                    "name one in its first line"
                )
        first = False
        yield WrittenPuzzle(text, f"{name}:{number}")


def _column(
    lines: Iterator[str], name: str, header: list[str], header_line: int
) -> Iterator[WrittenPuzzle]:
    column = next(header.index(column) for column in COLUMNS if column in header)
    reader = csv.reader(lines)
    for row in reader:
        if not row:  # an empty line
            continue
        place = f"{name}:{header_line + reader.line_num}"
        if len(row) != len(header):
            raise ValueError(
                f"{place}: {len(row)} values for {len(header)} columns; correct the line"
            )
        yield WrittenPuzzle(row[column].strip(), place)
