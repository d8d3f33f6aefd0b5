"""Read files of puzzles: text files, with one puzzle per line or as boards, and CSV tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from ostinato.data.records import QUESTIONS, csv_rows, delimiter_of, encoding_of, place_of

STANDARD_INPUT = Path("-")


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

    A CSV table, whose first line names a column such as "question" or "puzzle"; or any other text,
    in which `split` finds the puzzles. Raises ValueError if the file cannot be read, holds no
    puzzle, or is a table that is damaged or lacks such a column.
    """
    name, file = ("standard input", 0) if path == STANDARD_INPUT else (str(path), path)
    try:
        encoding = encoding_of(path)
        with open(
            file, encoding=encoding, errors="replace", newline="", closefd=file != 0
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
        delimiter = delimiter_of(line)
        ((_, header),) = csv_rows([line], name, delimiter, number - 1)
        if (column := place_of(header, QUESTIONS)) is not None:
            rows = csv_rows(chain([line], lines), name, delimiter, number - 1)
            for place, row in islice(rows, 1, None):
                yield WrittenPuzzle(row[column], f"{name}:{place}")
            return
        if delimiter == "," and len(header) > 1:
            raise ValueError(
                f"{name}:{number}: the table has no column question or puzzle: "
                "name one in its first line"
            )
        break
    try:
        for number, text in split(chain(before, lines)):
            yield WrittenPuzzle(text, f"{name}:{number}")
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
