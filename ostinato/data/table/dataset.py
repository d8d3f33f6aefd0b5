"""Define `TableData`, the settings of a data set that is known only from tables."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from ostinato.data.built import BuiltData, Report, Seen
from ostinato.data.records import SUFFIXES
from ostinato.data.table.gym import SOURCE, GymTable, drawn_table
from ostinato.data.table.survey import Survey, survey
from ostinato.data.table.task import Table
from ostinato.data.tables import Rows
from ostinato.files import home_path
from ostinato.numbers import Natural, check_numbers

Size = Literal["tiny", "small", "full"]
HELD_OUT = 1000
"""Most rows to hold out for validation, and for the test; a tenth of the rows if that is fewer."""
DRAWN = 5000
"""Rows for training that reasoning-gym draws, unless another number is asked for."""
SPLITS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
"""Split → names of its file in a folder, without the ending."""
CONVERT = "from datasets import load_from_disk as d; d('{0}')['train'].to_csv('{0}/train.csv')"


@dataclass(frozen=True)
class TableData(BuiltData):
    """Describe a data set that is known only from tables of questions and answers.

    The look of a puzzle is found in the tables: symbols, sizes, blanks.
    """

    source: str = ""
    """A table (.csv, .tsv, .jsonl or .parquet), or a folder with train, perhaps validation and
    test. Columns: question, answer (or puzzle, solution and the like). Or a task that
    reasoning-gym draws, such as reasoning-gym:n_queens or reasoning-gym:n_queens,n=6."""
    num_train: Natural = 0
    """Rows for training; 0: all."""
    num_validation: Natural = 0
    """Rows to choose checkpoints by; 0: all of its file or, without one, a tenth of the training
    rows, at most 1000, which are held out."""
    num_test: Natural = 0
    """Rows for the final score; 0: as for validation."""
    size: Size = "tiny"
    """Size of the model and of its training: tiny for minutes of a CPU, small for hours, full
    for a GPU. Settings given on their own win."""
    symmetries: str = ""
    """Changes that keep a puzzle equivalent: "square" (turned and mirrored),
    "turns", "mirror" (left and right), "tokens:1-9" (renamed); several with commas between."""
    separator: str = "auto"
    """Separator of two symbols: "none", "space", "comma" or other text. "auto": found."""
    question_column: str = ""
    """Column of the questions, if it has another name."""
    answer_column: str = ""
    """Column of the answers."""
    width: Natural = 0
    """Cells in a row of the board, where puzzles are written on one line; 0: found."""

    def __post_init__(self):
        check_numbers(self)

    @cached_property
    def found(self) -> Survey:
        """Survey the files."""
        return survey(self.files(), self.separator, self.columns)

    @property
    def is_drawn(self) -> bool:
        """Tell whether reasoning-gym draws the table."""
        return self.source.startswith(SOURCE)

    @property
    def columns(self) -> tuple[str, str]:
        return self.question_column, self.answer_column

    @cached_property
    def task(self) -> Table:
        found = self.found
        try:
            table = found.task(self.symmetries, self.width, self.columns)
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from None
        if self.is_drawn:
            known = {field.name: getattr(table, field.name) for field in fields(table)}
            return GymTable(**known, gym=self.source)
        return table

    @property
    def counts(self) -> dict[str, int]:
        counts = super().counts
        for split in ("validation", "test"):
            if split not in self.found.rows and not counts[split]:
                counts[split] = max(1, min(HELD_OUT, self.found.rows["train"] // 10))
        return counts

    def facts(self) -> dict[str, object]:
        facts = super().facts() | {"task": self.task.name, "counts": self.counts}
        del facts["size"], facts["symmetries"], facts["separator"], facts["width"]
        return facts

    def files(self) -> dict[str, Path]:
        """Find the tables by split. Raises ValueError, with the remedy, if there are none."""
        if self.is_drawn:
            wanted = (self.num_train or DRAWN) + self.num_validation + self.num_test
            return {"train": drawn_table(self.source, wanted * 5 // 4, self.data_seed)}
        path = home_path(self.source)
        if not self.source:
            raise ValueError(
                "no table: give a file, or a folder with train.csv, with --data; or let "
                "reasoning-gym draw one with --source reasoning-gym:n_queens"
            )
        if path.is_dir():
            found = {
                split: place
                for split, names in SPLITS.items()
                for name in reversed(names)
                for suffix in reversed(SUFFIXES)
                if (place := path / f"{name}{suffix}").is_file()
            }
            if "train" in found:
                return found
            if any(path.rglob("*.arrow")):
                command = CONVERT.format(path)
                raise ValueError(f'{path} is of "datasets": convert it: python -c "{command}"')
            raise ValueError(f"{path}: no train.csv in this folder; add it or name a table")
        if not path.is_file():
            raise ValueError(f"there is no {path}: give a table, or a folder with train.csv")
        return {"train": path}

    def generate(self, count: int, rng: np.random.Generator, seen: Seen, report: Report) -> Rows:
        raise AssertionError("a table draws no puzzles")
