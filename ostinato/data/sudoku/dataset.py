"""`SudokuData`: the settings of a Sudoku data set."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ostinato.data.built import GENERATED, BuiltData, Report, Seen
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.sudoku.generator import check_givens, generate
from ostinato.data.sudoku.rules import Sudoku
from ostinato.data.tables import Rows
from ostinato.numbers import Natural, check_numbers

EXTREME = "sudoku-extreme"
GIVENS = {4: (4, 10), 6: (12, 24), 9: (32, 44), 16: (130, 180)}
"""Size → default range of the number of givens of a generated puzzle."""
CHUNK = 8192  # puzzles generated between two lines of the report
SATURATED = 1 / 1000  # if fewer of a chunk are new, practically all puzzles have been found


@dataclass(frozen=True)
class SudokuData(BuiltData):
    """Describe a Sudoku data set: random puzzles, or rows of CSV files.

    The source may also be `sudoku-extreme`, the data set on the Hub.
    """

    ON_HUB: ClassVar[dict[str, str]] = {EXTREME: "sapientinc/sudoku-extreme"}

    size: int = 9
    """Side of the board: 4, 6, 9 or 16."""
    min_givens: int | None = None
    """Minimum number of givens of a generated puzzle. By default 4 (4x4), 12 (6x6), 32
    (9x9) or 130 (16x16)."""
    max_givens: int | None = None
    """Maximum number of givens of a generated puzzle. By default 10 (4x4), 24 (6x6), 44
    (9x9) or 180 (16x16)."""
    num_generated: Natural = 0
    """Number of generated puzzles to add to the training rows of a CSV source."""
    num_aug: Natural = 0
    """Number of symmetric copies of each training puzzle to build in advance, as HRM and TRM do
    (1000)."""

    def __post_init__(self):
        check_numbers(self)
        sudoku = self.task
        if self.num_aug and self.augment:
            raise ValueError(
                f"num_aug={self.num_aug} builds the symmetric copies in advance: set augment=False "
                "with it, or num_aug=0 to draw symmetries at load time"
            )
        if self.source == GENERATED or self.num_generated:
            check_givens(sudoku, self.givens)
        if self.source == GENERATED and self.num_generated:
            raise ValueError("num_generated is for CSV sources: set num_train for generated data")
        super().__post_init__()
        chosen = (self.min_givens, self.max_givens) != (None, None)
        if chosen and self.source != GENERATED and not self.num_generated:
            raise ValueError(
                "the givens are chosen for generated puzzles only: leave out min_givens and "
                f"max_givens with source={self.source!r}, or set num_generated"
            )
        if self.source == EXTREME and self.size != 9:
            raise ValueError(f"{EXTREME} holds 9x9 puzzles: set size=9, not {self.size}")

    @property
    def task(self) -> Sudoku:
        return Sudoku(self.size)

    @property
    def givens(self) -> tuple[int, int]:
        """Return the minimum and maximum number of givens of generated puzzles."""
        low, high = GIVENS[self.size]
        return (
            low if self.min_givens is None else self.min_givens,
            high if self.max_givens is None else self.max_givens,
        )

    def facts(self) -> dict[str, Any]:
        facts = super().facts() | {"givens": self.givens}
        del facts["min_givens"], facts["max_givens"]
        return facts

    def generate(self, count: int, rng: np.random.Generator, seen: Seen, report: Report) -> Rows:
        parts: list[Rows] = []
        found = number = 0
        while found < count:
            number = min(max(count - found, 2 * number), CHUNK)
            drawn = generate(self.task, number, self.givens, int(rng.integers(2**63)))
            rows = Rows.unrated(*drawn)
            fresh, signatures = self.fresh(rows, np.arange(number), seen)
            parts.append(rows.take(fresh))
            seen = np.concatenate([seen, signatures[fresh]])
            found += len(fresh)
            report(f"generated {min(found, count)} of {count} {self.task.name} puzzles")
            if found < count and number == CHUNK and len(fresh) < SATURATED * CHUNK:
                raise ValueError(
                    f"found only {found} different {self.task.name} puzzles with {self.givens[0]} "
                    f"to {self.givens[1]} givens, not {count}: ask for fewer or widen the range "
                    "of givens"
                )
        # Rare kinds tend to be found late, so shuffle before cutting to `count`
        return Rows.join(parts).take(rng.permutation(found)[:count])

    def enlarge(self, rows: Rows, rng: np.random.Generator, seen: Seen, report: Report) -> Rows:
        if not self.num_generated:
            return rows
        return Rows.join([rows, self.generate(self.num_generated, rng, seen, report)])

    def puzzle_set(self, split: str, rows: Rows, report: Report) -> PuzzleSet:
        """Make a split of the data set, with symmetric copies if they are built in advance."""
        if split != "train" or not self.num_aug:
            return super().puzzle_set(split, rows, report)
        generator = torch.Generator().manual_seed(self.data_seed)
        inputs, labels = torch.from_numpy(rows.inputs), torch.from_numpy(rows.labels)
        variants = [(inputs, labels)]
        variants += [self.task.augment(inputs, labels, generator) for _ in range(self.num_aug)]
        stacked = (
            torch.stack(tokens, dim=1).flatten(0, 1) for tokens in zip(*variants, strict=True)
        )
        inputs, labels = (tokens.numpy() for tokens in stacked)
        with_copies = Rows(inputs, labels, rows.ratings.repeat(1 + self.num_aug))
        ratings, rated_by = self.task.rate(with_copies, None)
        report(f"train: {len(rows)} puzzles with {self.num_aug} copies each")
        return self.task.puzzle_set(
            with_copies,
            ratings,
            rated_by,
            copies=1 + self.num_aug,
            source=self.source,
            seed=self.data_seed,
            subset_sha256=self.task.sha256(rows),
        )
