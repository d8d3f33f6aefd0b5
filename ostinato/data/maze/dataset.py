"""The settings of a maze data set, and its preparation on disk."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ostinato.data.build_once import build_once
from ostinato.data.csv_files import hub_files, local_files, sha256
from ostinato.data.maze.generator import default_length, generate
from ostinato.data.maze.rules import Maze
from ostinato.data.maze.table import Rows, labelled, read_csv, signatures
from ostinato.numbers import Natural, Seed, check_numbers

ON_HUB = "maze-30x30-hard-1k"
HUB_DATA_SET = f"sapientinc/{ON_HUB}"
BUILD = 1  # raise it whenever the same settings would give other files
SATURATED = 1 / 1000  # of the mazes generated at a time is new: practically all have been found


@dataclass(frozen=True)
class MazeData:
    """A maze data set: random mazes, or rows of CSV files."""

    size: int = 30
    """Side of the mazes, from 3 to 64."""
    source: str = "generated"
    """`generated`; `maze-30x30-hard-1k` (Maze-Hard, from the Hub); a CSV file; or a folder with
    train.csv and perhaps validation.csv and test.csv. Columns: question, answer."""
    min_length: int | None = None
    """Steps that the shortest path of a generated maze takes at least; by default 111 (30x30), else
    as many as a row has cells."""
    unique: bool = False
    """Generate only mazes with a single shortest path, so that the label is the only answer."""
    perfect: bool = False
    """Generate perfect mazes: corridors without loops, so that only one way leads to the goal."""
    num_train: Natural = 1000
    """Training mazes. Here and below, 0 takes all rows of a CSV file."""
    num_validation: Natural = 200
    """Mazes to choose checkpoints by."""
    num_test: Natural = 1000
    """Mazes for the final score; taken from training rows where the source has none."""
    validate_on: Literal["held-out", "generated"] = "held-out"
    """Where the source has no validation mazes: take them from its training rows, or generate them
    and leave all rows to training, as the originals do."""
    augment: bool = True
    """Apply a random symmetry of the square to a training maze each time it is loaded."""
    data_seed: Seed = 0
    """Seed of the mazes and of the choice of rows."""

    def __post_init__(self):
        maze = self.maze
        check_numbers(self)
        if self.source == "generated" and self.validate_on == "generated":
            raise ValueError("validate_on is for mazes in files: leave it out, all are generated")
        generated = [split for split in self.counts if self._generates(split)]
        for name, default in (("min_length", None), ("unique", False), ("perfect", False)):
            if not generated and getattr(self, name) != default:
                raise ValueError(
                    f"{name} is for generated mazes: leave it out with source={self.source!r}"
                )
        if self.perfect and self.unique:
            raise ValueError("unique does nothing with perfect, whose mazes have a single path")
        if self.perfect and self.size % 2 == 0:
            raise ValueError(f"perfect mazes have an odd size, not {self.size}: add one")
        for split in generated:
            if self.counts[split] < 1:
                raise ValueError(f"generated mazes need a number: set num_{split} to at least 1")
        if not 1 <= self.length < maze.seq_len:
            raise ValueError(
                f"no {maze.name} has a shortest path of {self.length} steps: set min_length from 1 "
                f"to less than {maze.seq_len}"
            )
        if self.source == ON_HUB and self.size != 30:
            raise ValueError(f"{ON_HUB} holds 30x30 mazes: set size=30, not {self.size}")

    @property
    def maze(self) -> Maze:
        return Maze(self.size)

    @property
    def length(self) -> int:
        """Least number of steps of the shortest path of generated mazes."""
        return default_length(self.size) if self.min_length is None else self.min_length

    @property
    def counts(self) -> dict[str, int]:
        """Mazes by split."""
        return {"train": self.num_train, "validation": self.num_validation, "test": self.num_test}

    def _generates(self, split: str) -> bool:
        on_demand = split == "validation" and self.validate_on == "generated"
        return self.source == "generated" or on_demand

    def prepare(self, root: Path, report: Callable[[str], None]) -> Path:
        """The folder under `root` with these data, in the format of `ostinato.data.puzzles`.

        It is built on the first call and used again later; its name holds a hash of the settings
        and of local CSV files. No maze is a symmetric copy of another, in its own or another split.
        Raises ValueError for a missing or faulty source, and where there are too few mazes.
        """
        facts = asdict(self) | {"min_length": self.length, "build": BUILD}
        del facts["augment"]  # the files do not depend on it
        if self.source not in ("generated", ON_HUB):
            facts["source"] = {split: sha256(path) for split, path in self._local_files().items()}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        folder = Path(root) / f"{self.maze.name}-{Path(self.source).stem}-{digest[:12]}"

        def build(place: Path) -> None:
            for split, rows in self._splits(report).items():
                source = "generated" if self._generates(split) else self.source
                rows.puzzle_set(source=source, seed=self.data_seed).save(place, split)
                report(f"{split}: {len(rows)} mazes")

        return build_once(folder, build, report)

    def _local_files(self) -> dict[str, Path]:
        return local_files(self.source, f"generated, {ON_HUB}")

    def _splits(self, report: Callable[[str], None]) -> dict[str, Rows]:
        rng = np.random.default_rng(self.data_seed)
        seen: set[bytes] = set()
        if self.source == "generated":
            rows = self._generated(sum(self.counts.values()), rng, seen, report)
            pieces = np.split(np.arange(len(rows)), np.cumsum(list(self.counts.values()))[:-1])
            return {s: rows.take(piece) for s, piece in zip(self.counts, pieces, strict=True)}

        files = hub_files(HUB_DATA_SET) if self.source == ON_HUB else self._local_files()
        splits: dict[str, Rows] = {}
        for split in ("test", "validation"):
            if split in files:
                rows = self._fresh(read_csv(self.maze, files[split], report), seen, split, report)
                chosen = rng.permutation(len(rows))[: self._count(split, len(rows)) or None]
                splits[split] = rows.take(np.sort(chosen))
        rows = self._fresh(read_csv(self.maze, files["train"], report), seen, "train", report)
        order = rng.permutation(len(rows))
        for split in ("test", "validation"):
            if split in splits:
                continue
            if self._generates(split):
                splits[split] = self._generated(self.counts[split], rng, seen, report)
            elif not self.counts[split]:
                raise ValueError(f"there is no {split}.csv: set num_{split} to at least 1")
            else:
                # From the back, so that the training rows do not depend on how many are held out
                count = self._count(split, len(order))
                splits[split] = rows.take(np.sort(order[-count:]))
                order = order[:-count]
        chosen = order[: self._count("train", len(order)) or None]
        splits["train"] = rows.take(np.sort(chosen))
        return {split: splits[split] for split in self.counts}

    def _count(self, split: str, available: int) -> int:
        count = self.counts[split]
        if not available or count > available:
            raise ValueError(f"only {available} mazes are left for {split}: lower num_{split}")
        return count

    def _fresh(
        self, rows: Rows, seen: set[bytes], split: str, report: Callable[[str], None]
    ) -> Rows:
        """The rows that are no symmetric copies of what was seen, which then includes them."""
        fresh = []
        for row, signature in enumerate(signatures(self.maze, rows.inputs)):
            if signature not in seen:
                fresh.append(row)
                seen.add(signature)
        if len(fresh) < len(rows):
            report(f"{split}: {len(rows) - len(fresh)} symmetric copies dropped")
        return rows.take(np.array(fresh, int))

    def _generated(
        self,
        count: int,
        rng: np.random.Generator,
        seen: set[bytes],
        report: Callable[[str], None],
    ) -> Rows:
        """Random mazes, all different from each other and from what was seen."""
        maze, known = self.maze, len(seen)
        inputs = np.zeros((0, maze.seq_len), np.uint8)
        while len(inputs) < count:
            missing = max(count - len(inputs), 64)
            tokens = generate(maze, missing, self.length, rng, self.unique, self.perfect, report)
            new = np.zeros(len(tokens), bool)
            for row, signature in enumerate(signatures(maze, tokens)):
                new[row] = signature not in seen
                seen.add(signature)
            inputs = np.concatenate([inputs, tokens[new]])
            if len(inputs) < count and new.mean() < SATURATED:
                raise ValueError(
                    f"found only {len(seen) - known} different mazes of {maze.name} with at least "
                    f"{self.length} steps, not {count}: ask for fewer, or lower min_length"
                )
        # Rare ones tend to be found late, so mix before splitting
        return labelled(maze, inputs[rng.permutation(count)])
