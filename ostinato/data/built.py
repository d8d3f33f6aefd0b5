"""Data sets built from settings: random puzzles or rows of CSV files, without symmetric copies."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Integer, UInt64

from ostinato.data.build_once import build_once
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.tables import Rows, hub_files, local_files, sha256
from ostinato.data.task import Task
from ostinato.files import file_name
from ostinato.numbers import Natural, Seed, check_numbers

GENERATED = "generated"
Report = Callable[[str], None]
Seen = UInt64[np.ndarray, " _"]
"""Signatures of puzzles; no further puzzle may be a symmetric copy of one of them."""


@dataclass(frozen=True)
class PuzzleData(ABC):
    """Describe a data set of puzzles by its settings."""

    @property
    @abstractmethod
    def augment(self) -> bool:
        """Tell whether training draws a random symmetry of a puzzle each time it is loaded."""

    @abstractmethod
    def prepare(self, root: Path, report: Report) -> Path:
        """Build the data set below `root`, unless it is there; return its folder."""


@dataclass(frozen=True, kw_only=True)
class BuiltData(PuzzleData):
    """Describe a data set of one kind: random puzzles, or rows of CSV files.

    A subclass names its `task`, draws random puzzles, and adds settings of its own.
    """

    ON_HUB: ClassVar[dict[str, str]] = {}
    """Name of a source → its data set on the Hub."""
    BUILD: ClassVar[int] = 1
    """Build version. Raise it whenever the same settings would give different files."""
    IN_ORDER: ClassVar[bool] = False
    """Keep chosen rows in the order of the file."""

    source: str = GENERATED
    """`generated`; a CSV file; or a folder with train.csv and perhaps validation.csv and test.csv.
    Columns: question, answer, rating (may be missing)."""
    num_train: Natural = 1000
    """Number of training puzzles. Here and below, 0 takes all rows of a CSV file."""
    num_validation: Natural = 1000
    """Number of puzzles to choose checkpoints by. Taken from the training rows if the source has no
    validation split."""
    num_test: Natural = 1000
    """Number of puzzles for the final score. Taken from the training rows if the source has no test
    split."""
    augment: bool = True
    """Apply a random symmetry to a training puzzle each time it is loaded."""
    data_seed: Seed = 0
    """Seed for drawing puzzles and choosing rows."""

    def __post_init__(self):
        check_numbers(self)
        for split in self.counts:
            if self.generates(split) and not self.counts[split]:
                raise ValueError(
                    f"generated data need a number of puzzles: set num_{split} to at least 1"
                )

    @property
    @abstractmethod
    def task(self) -> Task:
        """Return the kind of puzzle."""

    @abstractmethod
    def generate(self, count: int, rng: np.random.Generator, seen: Seen, report: Report) -> Rows:
        """Draw random puzzles that are not symmetric copies of each other or of those `seen`.

        Raises ValueError if there are not enough different puzzles.
        """

    def facts(self) -> dict[str, Any]:
        """List everything that the files depend on; the folder's name holds its hash."""
        facts = asdict(self) | {"build": self.BUILD}
        del facts["augment"]
        return facts

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of puzzles by split."""
        return {"train": self.num_train, "validation": self.num_validation, "test": self.num_test}

    def generates(self, split: str) -> bool:
        """Tell whether the puzzles of a split are generated."""
        return self.source == GENERATED

    def prepare(self, root: Path, report: Report) -> Path:
        """Build the data set below `root`, in the format of `ostinato.data.puzzles`.

        The first call builds it and later calls reuse it; its name holds a hash of the settings and
        of local CSV files. An interrupted build is never used. No puzzle is a symmetric copy of
        another one in any split. Raises ValueError for a missing or faulty source, and if there are
        too few puzzles.
        """
        facts = self.facts()
        if self.source != GENERATED and self.source not in self.ON_HUB:
            facts["source"] = {split: sha256(path) for split, path in self.files().items()}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        folder = Path(root) / f"{self.task.title}-{file_name(Path(self.source).stem)}-{digest[:12]}"

        def build(place: Path) -> None:
            for split, rows in self.splits(report).items():
                self.puzzle_set(split, rows, report).save(place, split)

        return build_once(folder, build, report)

    def files(self) -> dict[str, Path]:
        """Find the CSV files by split."""
        if self.source in self.ON_HUB:
            return hub_files(self.ON_HUB[self.source])
        return local_files(self.source, ", ".join([GENERATED, *self.ON_HUB]))

    def puzzle_set(self, split: str, rows: Rows, report: Report) -> PuzzleSet:
        """Make a split of the data set out of its rows."""
        ratings, rated_by = self.task.rate(rows, report if split != "train" else None)
        report(f"{split}: {len(rows)} puzzles")
        return self.task.puzzle_set(
            rows,
            ratings,
            rated_by,
            source=GENERATED if self.generates(split) else self.source,
            seed=self.data_seed,
            subset_sha256=self.task.sha256(rows),
        )

    def splits(self, report: Report) -> dict[str, Rows]:
        """Draw or choose the puzzles of every split.

        A split without a file is taken from the training rows. Symmetric copies are dropped:
        validation keeps no copy of a test row, and training none of any other row.
        """
        rng = np.random.default_rng(self.data_seed)
        seen: Seen = np.zeros(0, np.uint64)
        if self.source == GENERATED:
            rows = self.generate(sum(self.counts.values()), rng, seen, report)
            pieces = np.split(np.arange(len(rows)), np.cumsum(list(self.counts.values()))[:-1])
            return {s: rows.take(piece) for s, piece in zip(self.counts, pieces, strict=True)}

        files, splits = self.files(), {}
        for split in ("test", "validation"):
            if split in files:
                rows = self.task.read_rows(files[split], report)
                # All rows of the file count as seen, so that choosing more of them later is safe
                fresh, signatures = self.fresh(rows, np.arange(len(rows)), seen)
                seen = np.concatenate([seen, signatures])
                report_copies(report, split, len(rows) - len(fresh))
                self.check_enough(split, len(fresh))
                chosen = rng.permutation(fresh)[: self.counts[split] or None]
                splits[split] = rows.take(np.sort(chosen))

        rows = self.task.read_rows(files["train"], report)
        order = rng.permutation(len(rows))
        dropped = 0
        for split in ("test", "validation"):
            if split in splits or self.generates(split):
                continue
            if not self.counts[split]:
                raise ValueError(f"there is no {split}.csv: set num_{split} to at least 1")
            # From the back, so that the training rows do not depend on how many are held out
            chosen, seen, passed = self.take(rows, order[::-1], split, seen)
            splits[split] = rows.take(chosen)
            order = order[: len(order) - passed]
            dropped += passed - len(chosen)
        chosen, seen, passed = self.take(rows, order, "train", seen)
        splits["train"] = rows.take(chosen)
        report_copies(report, "train", dropped + passed - len(chosen))
        splits["train"] = self.enlarge(splits["train"], rng, seen, report)
        for split in self.counts.keys() - splits.keys():
            splits[split] = self.generate(self.counts[split], rng, seen, report)
        return {split: splits[split] for split in self.counts}

    def enlarge(self, rows: Rows, rng: np.random.Generator, seen: Seen, report: Report) -> Rows:
        """Add puzzles to the training rows of a file if the settings ask for it."""
        return rows

    def take(
        self, rows: Rows, order: Integer[np.ndarray, " rows"], split: str, seen: Seen
    ) -> tuple[Integer[np.ndarray, " chosen"], Seen, int]:
        """Take the first rows in `order` that are no copies, and count the rows gone through."""
        count = self.counts[split]
        wanted = window = count or len(order)
        while True:
            window = min(len(order), window + window // 8 + 64)
            fresh, signatures = self.fresh(rows, order[:window], seen)
            if len(fresh) >= wanted or window == len(order):
                break
        self.check_enough(split, len(fresh))
        fresh = fresh[:wanted]
        passed = int(fresh[-1]) + 1 if count else len(order)
        chosen = order[fresh]
        seen = np.concatenate([seen, signatures[fresh]])
        return (np.sort(chosen) if self.IN_ORDER else chosen), seen, passed

    def fresh(
        self, rows: Rows, order: Integer[np.ndarray, " rows"], seen: Seen
    ) -> tuple[Integer[np.ndarray, " fresh"], UInt64[np.ndarray, " rows"]]:
        """Find the places in `order` of rows that copy neither `seen` nor an earlier row."""
        signatures = self.task.signatures(rows.inputs[order], rows.labels[order])
        _, first = np.unique(np.concatenate([seen, signatures]), return_index=True)
        return np.sort(first[first >= len(seen)]) - len(seen), signatures

    def check_enough(self, split: str, available: int) -> None:
        """Raise ValueError if a split has fewer rows left than were asked for."""
        count = self.counts[split]
        if available < max(count, 1):
            asked, lower = (f", not {count}", f"lower num_{split} or ") if count else ("", "")
            raise ValueError(
                f"only {available} different puzzles are left for {split}{asked}: {lower}give a "
                "file with more rows"
            )


def report_copies(report: Report, split: str, dropped: int) -> None:
    """Report how many rows were dropped, if any."""
    if dropped:
        report(f"{split}: dropped {dropped} rows, symmetric copies of others")
