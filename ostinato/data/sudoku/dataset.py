"""The settings of a Sudoku data set, and its preparation on disk."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ostinato.data.build_once import build_once
from ostinato.data.csv_files import hub_files, local_files, sha256
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.sudoku.generator import check_givens
from ostinato.data.sudoku.rules import Sudoku
from ostinato.data.sudoku.splits import csv_splits, generated_splits
from ostinato.data.sudoku.symmetry import augment
from ostinato.data.sudoku.table import Rows, ratings_of
from ostinato.numbers import Natural, Seed, check_numbers

HUB_DATA_SET = "sapientinc/sudoku-extreme"
GIVENS = {4: (4, 10), 6: (12, 24), 9: (32, 44)}
BUILD = 1  # raise it whenever the same settings would give other files


@dataclass(frozen=True)
class SudokuData:
    """A Sudoku data set: random puzzles, or rows of CSV files."""

    size: int = 9
    """Side of the board: 4, 6 or 9."""
    source: str = "generated"
    """`generated`; `sudoku-extreme` (from the Hub); a CSV file; or a folder with train.csv and
    perhaps validation.csv and test.csv. Columns: question, answer, rating (may be empty)."""
    min_givens: int | None = None
    """Fewest givens of a generated puzzle; by default 4 (4x4), 12 (6x6) or 32 (9x9)."""
    max_givens: int | None = None
    """Most givens of a generated puzzle; by default 10 (4x4), 24 (6x6) or 44 (9x9)."""
    num_train: Natural = 1000
    """Training puzzles, without copies. Here and below, 0 takes all rows of a CSV file."""
    num_validation: Natural = 1000
    """Puzzles to choose checkpoints by; taken from training rows where the source has none."""
    num_test: Natural = 1000
    """Puzzles for the final score; taken from training rows where the source has none."""
    num_generated: Natural = 0
    """Random puzzles with min_givens to max_givens that join the training rows of a CSV source."""
    num_aug: Natural = 0
    """Symmetric copies of each training puzzle, built in advance as the originals do (1000)."""
    augment: bool = True
    """Apply a random symmetry to a training puzzle each time it is loaded."""
    data_seed: Seed = 0
    """Seed of the puzzles, of the choice of rows and of the copies built in advance."""

    def __post_init__(self):
        sudoku = Sudoku(self.size)
        check_numbers(self)
        if self.num_aug and self.augment:
            raise ValueError(
                f"num_aug={self.num_aug} builds the symmetric copies in advance: set augment=False "
                "with it, or num_aug=0 to draw symmetries at load time"
            )
        if self.source == "generated" or self.num_generated:
            check_givens(sudoku, self.givens)
        if self.source == "generated":
            if self.num_generated:
                raise ValueError(
                    "num_generated is for CSV sources: generated data have num_train of them"
                )
            if 0 in self.counts.values():
                raise ValueError(
                    "generated data need a number of puzzles: set num_train, num_validation and "
                    "num_test to at least 1"
                )
        elif not self.num_generated and (self.min_givens, self.max_givens) != (None, None):
            raise ValueError(
                f"the givens are chosen for generated puzzles only: leave out min_givens and "
                f"max_givens with source={self.source!r}, or set num_generated"
            )
        if self.source == "sudoku-extreme" and self.size != 9:
            raise ValueError(f"sudoku-extreme holds 9x9 puzzles: set size=9, not {self.size}")

    @property
    def sudoku(self) -> Sudoku:
        return Sudoku(self.size)

    @property
    def givens(self) -> tuple[int, int]:
        """Fewest and most givens of generated puzzles."""
        low, high = GIVENS[self.size]
        return (
            low if self.min_givens is None else self.min_givens,
            high if self.max_givens is None else self.max_givens,
        )

    @property
    def counts(self) -> dict[str, int]:
        """Puzzles by split."""
        return {"train": self.num_train, "validation": self.num_validation, "test": self.num_test}

    def prepare(self, root: Path, report: Callable[[str], None]) -> Path:
        """The folder under `root` with these data, in the format of `ostinato.data.puzzles`.

        It is built on the first call and used again later; its name holds a hash of the settings
        and of local CSV files. An interrupted build leaves nothing behind that would be used.
        Raises ValueError for a missing or faulty source, and where there are too few puzzles.
        """
        facts = asdict(self) | {"givens": self.givens, "build": BUILD}
        for name in ("augment", "min_givens", "max_givens"):
            del facts[name]  # the files do not depend on the first; the others are in givens
        if self.source not in ("generated", "sudoku-extreme"):
            files = self._local_files()
            facts["source"] = {split: sha256(path) for split, path in files.items()}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        folder = Path(root) / f"{self.sudoku.name}-{Path(self.source).stem}-{digest[:12]}"
        return build_once(folder, lambda place: self._build(place, report), report)

    def _local_files(self) -> dict[str, Path]:
        return local_files(self.source, "generated, sudoku-extreme")

    def _build(self, folder: Path, report: Callable[[str], None]) -> None:
        seed = self.data_seed
        if self.source == "generated":
            splits = generated_splits(self.sudoku, self.counts, self.givens, seed, report)
        else:
            on_hub = self.source == "sudoku-extreme"
            files = hub_files(HUB_DATA_SET) if on_hub else self._local_files()
            splits = csv_splits(
                self.sudoku, files, self.counts, seed, report, self.num_generated, self.givens
            )
        for split, rows in splits.items():
            copies = self.num_aug if split == "train" else 0
            ratings, rated_by = ratings_of(rows, report if split != "train" else None)
            inputs, labels = _with_copies(rows, copies, seed)
            PuzzleSet.of_examples(
                self.sudoku.name,
                inputs,
                labels,
                self.sudoku.vocab_size,
                ratings=None if ratings is None else ratings.repeat(1 + copies),
                copies=1 + copies,
                source=self.source,
                seed=seed,
                subset_sha256=rows.sha256(),
                rated_by=rated_by,
            ).save(folder, split)
            report(f"{split}: {len(rows)} puzzles" + f" with {copies} copies each" * (copies > 0))


def _with_copies(rows: Rows, copies: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each puzzle followed by its symmetric copies."""
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = torch.from_numpy(rows.inputs), torch.from_numpy(rows.labels)
    variants = [(inputs, labels)]
    variants += [augment(rows.sudoku, inputs, labels, generator) for _ in range(copies)]
    stacked = (torch.stack(tokens, dim=1).flatten(0, 1) for tokens in zip(*variants, strict=True))
    inputs, labels = (tokens.numpy() for tokens in stacked)
    return inputs, labels
