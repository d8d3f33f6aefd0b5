"""Read a table from end to end, and find what kind of puzzle it holds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from ostinato.data.records import Cells, read_cells
from ostinato.data.table.layout import Board, Layout, find_layout
from ostinato.data.table.symmetry import declared
from ostinato.data.table.task import MOST_CELLS, MOST_SYMBOLS, Table

SAMPLE = 100
"""Rows from which the layout is found."""
ALWAYS = 10
"""A symbol is a given if answers keep it in at least this many cells and replace it in none."""
EXAMPLES = 3
SMALLEST_SQUARE = 16
"""Fewest cells of a line that is drawn as a square, if it can be."""


@dataclass
class Survey:
    """Collect the facts that are found in the files of a table."""

    layout: Layout
    rows: dict[str, int] = field(default_factory=dict)
    """Split → rows."""
    question_sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    answer_sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    question_symbols: set[str] = field(default_factory=set)
    answer_symbols: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    """Symbols of questions that an answer of the same size replaces."""
    given: Counter[str] = field(default_factory=Counter)
    """Number of times that each symbol of a question is kept in its place by the answer."""
    duplicates: int = 0
    """Rows that repeat the question and answer of an earlier row."""
    examples: list[tuple[str, str]] = field(default_factory=list)

    def add(self, question: Board, answer: Board) -> None:
        """Count a row. Raises ValueError if there are too many symbols."""
        sizes = [(len(board), len(board[0])) for board in (question, answer)]
        self.question_sizes[sizes[0]] += 1
        self.answer_sizes[sizes[1]] += 1
        for before, after in zip(question, answer, strict=False):
            self.question_symbols.update(before)
            self.answer_symbols.update(after)
            if sizes[0] == sizes[1]:
                pairs = list(zip(before, after, strict=True))
                self.replaced.update(a for a, b in pairs if a != b)
                self.given.update(a for a, b in pairs if a == b)
        for row in (*question[len(answer) :], *answer[len(question) :]):
            (self.question_symbols if len(question) > len(answer) else self.answer_symbols).update(
                row
            )
        if len(symbols := self.question_symbols | self.answer_symbols) > MOST_SYMBOLS:
            raise ValueError(
                f"{len(symbols):,} different symbols so far, more than {MOST_SYMBOLS:,}: choose "
                "another --separator, or train a language model if this is text"
            )

    @property
    def blanks(self) -> tuple[str, ...]:
        """Return the symbols that answers replace if they keep all others; empty if they do not."""
        if len(self.question_sizes) != 1 or self.question_sizes != self.answer_sizes:
            return ()
        kept = self.question_symbols - self.replaced
        sure = kept and min(self.given[symbol] for symbol in kept) >= ALWAYS
        return tuple(in_order(self.replaced)) if sure else ()

    def task(self, spec: str, width: int, columns: tuple[str, str]) -> Table:
        """Return the kind of puzzle. Raises ValueError for symmetries that do not fit."""
        sizes = [*self.question_sizes, *self.answer_sizes]
        rows, cols = max(size[0] for size in sizes), max(size[1] for size in sizes)
        side = math.isqrt(cols)
        if self.layout.is_flat and len(set(sizes)) == 1:
            if not width and side**2 == cols and (cols >= SMALLEST_SQUARE or spec):
                width = side
            if width and cols % width:
                raise ValueError(f"rows of {width} do not divide {cols} cells: change --width")
            rows, cols = (cols // width, width) if width else (1, cols)
        elif width:
            raise ValueError(
                "--width is for puzzles on a line, all of the same length: leave it out"
            )
        if rows * cols > MOST_CELLS:
            raise ValueError(
                f"{rows * cols:,} cells, more than {MOST_CELLS:,}: cut the puzzles, or choose "
                "another --separator"
            )
        whole = {(1, rows * cols)} if self.layout.is_flat else {(rows, cols)}
        symbols = tuple(in_order(self.question_symbols | self.answer_symbols))
        table = Table(
            known_symbols=symbols,
            rows=rows,
            cols=cols,
            form=self.layout.form,
            separator=self.layout.separator,
            question_size=next(iter(self.question_sizes))
            if len(self.question_sizes) == 1
            else None,
            closed=self.answer_sizes.keys() != whole,
            blanks=self.blanks,
            columns=columns,
        )
        declared(spec, table.symbols, rows, cols)
        return replace(table, spec=spec)


def survey(
    files: Mapping[str, Path], separator: str = "auto", columns: tuple[str, str] = ("", "")
) -> Survey:
    """Read all files, by split, and find out what they hold.

    Raises ValueError, with file and line, for rows that cannot be read, and for a question that has
    two answers in a file or in two of them; and for files without rows.
    """
    sample = [
        text
        for path in files.values()
        for cells in islice(read_cells(path, *columns), SAMPLE)
        for text in (cells.question, cells.answer)
    ]
    found = Survey(find_layout(sample, separator))
    answers: dict[str, tuple[str, str]] = {}
    for split, path in files.items():
        for place, cells in placed(path, read_cells(path, *columns)):
            try:
                found.add(found.layout.read(cells.question), found.layout.read(cells.answer))
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
            answer, first = answers.setdefault(cells.question, (cells.answer, place))
            if answer != cells.answer:
                raise ValueError(
                    f"{place}: another answer to the question of {first}: leave one of them out"
                )
            found.duplicates += first != place
            found.rows[split] = found.rows.get(split, 0) + 1
            if len(found.examples) < EXAMPLES:
                found.examples.append((cells.question, cells.answer))
        if split not in found.rows:
            raise ValueError(f"{path}: no rows; give a file with at least one puzzle")
    return found


def placed(path: Path, lines: Iterable[Cells]) -> Iterator[tuple[str, Cells]]:
    """Add file and line to each row."""
    return ((f"{path}:{cells.line}", cells) for cells in lines)


def in_order(symbols: Iterable[str]) -> list[str]:
    """Sort symbols: numbers by their value, then the others as in a dictionary."""
    return sorted(symbols, key=lambda s: (0, int(s), s) if s.isdecimal() else (1, 0, s))
