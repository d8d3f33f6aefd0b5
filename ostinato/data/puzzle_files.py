"""Read files of puzzles: text files, with one puzzle per line or as boards, and CSV tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from ostinato.data.tables import csv_rows

STANDARD_INPUT = Path("-")
COLUMNS = ("question", "puzzle")
"""Possible names of the CSV column that holds the puzzles."""


@dataclass(frozen=True)
class WrittenPuzzle:
    """Hold a puzzle as it is written, unchecked."""

    text: str
    place: str
    """File and line for messages, such as "puzzles.txt:7"."""


Split = Callable[[Iterator[str]], Iterator[tuple[int, str]]]
"""Lines → the puzzles in them, each with the number of its first line."""


def one_a_line(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    """Yield one puzzle per line; `#` begins a comment."""
    for number, line in enumerate(lines, start=1):
        if text := line.partition("#")[0].strip():
            yield number, text


def read_puzzles(path: Path, split: Split = one_a_line) -> Iterator[WrittenPuzzle]:
    """Yield the puzzles of a file, or of standard input if `path` is `-`, reading as needed.

    The file is a CSV table whose first line names a column "question" or "puzzle", or any other
    text, in which `split` finds the puzzles. Raises ValueError if the file cannot be read or holds
    no puzzle, or if a table is damaged or lacks such a column.
    """
    name, file = ("standard input", 0) if path == STANDARD_INPUT else (str(path), path)
    try:
        # utf-8-sig: spreadsheets begin their files with a byte order mark
        with open(
            file, encoding="utf-8-sig", errors="replace", newline="", closefd=file != 0
        ) as lines:
            puzzle = None
            for puzzle in _puzzles(lines, name, split):
                yield puzzle
    except OSError as error:
        raise ValueError(f"cannot read {name} ({error.strerror}): give another file") from None
    if puzzle is None:
        raise ValueError(f"{name} holds no puzzle: write one a line")


def _puzzles(lines: Iterator[str], name: str, split: Split) -> Iterator[WrittenPuzzle]:
    before: list[str] = []  # comments and empty lines
    for number, line in enumerate(lines, start=1):
        before.append(line)
        if not line.partition("#")[0].strip():
            continue
        ((_, cells),) = csv_rows([line], name, number - 1)
        header = [cell.strip().lower() for cell in cells]
        if any(column in header for column in COLUMNS):
            column = next(header.index(column) for column in COLUMNS if column in header)
            rows = csv_rows(chain([line], lines), name, number - 1)
            for place, row in islice(rows, 1, None):
                yield WrittenPuzzle(row[column], f"{name}:{place}")
            return
        if len(header) > 1:
            raise ValueError(
                f"{name}:{number}: the table has no column {' or '.join(COLUMNS)}: "
                "name one in its first line"
            )
        break
    try:
        for number, text in split(chain(before, lines)):
            yield WrittenPuzzle(text, f"{name}:{number}")
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
