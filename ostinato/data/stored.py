"""Data sets on disk that were built elsewhere, for instance by the scripts of HRM and TRM."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer

from ostinato.data.build_once import build_once
from ostinato.data.built import PuzzleData
from ostinato.data.contradictions import check_examples
from ostinato.data.drawn_rows import DrawnRows
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.task import Task
from ostinato.data.tasks import TASKS, find_task
from ostinato.files import atomic, home_path
from ostinato.numbers import Natural, Seed, check_numbers

BUILD = 1  # raise it whenever the same data set and settings would give different files
SAMPLE = 200  # examples checked to recognise a kind of puzzle
MOST = 0.5  # share that must obey its rules; the others are then faulty, not of another kind


@dataclass(frozen=True)
class StoredData(PuzzleData):
    """Describe a data set on disk, in the format of `ostinato.data.puzzles`."""

    path: str
    """Folder with train/, test/ and optionally validation/."""
    augment: bool = True
    """Apply a random symmetry to a training puzzle each time it is loaded, if the kind of puzzle is
    known. Variants stored in the data set are used in any case."""
    num_validation: Natural = 0
    """Number of base puzzles held out from train/ if there is no validation/. 0: a tenth, at most
    1000."""
    data_seed: Seed = 0
    """Seed for choosing the held-out puzzles."""

    def __post_init__(self):
        check_numbers(self)

    def prepare(self, root: Path, report: Callable[[str], None]) -> Path:
        """Return the data set's own folder if nothing is missing in it, else a completed copy.

        The copy, below `root`, has a validation split held out from train/, and names the kind of
        puzzle if the original does not and the examples show it. Its name holds a hash of content
        and settings, and later calls reuse it. Nothing is ever taken from test/. Raises ValueError
        if there is no training data, if files are faulty, if `check` refuses their content, or if
        too few puzzles can be held out.
        """
        source = home_path(self.path)
        splits = load_splits(source)
        for split, puzzles in splits.items():
            check(puzzles, f"{source / split}", report)
        train = splits["train"]
        task = train.metadata.task or recognise(train)
        if self.augment and find_task(task) is None:
            report(f"{source}: no symmetries are known for these puzzles, so none are applied")
        if "validation" in splits and self.num_validation:
            raise ValueError(f"{source} has a validation split: leave num_validation at 0")
        complete = (source / "validation").exists()  # nano-trm calls it val
        if complete and task == train.metadata.task:
            report(f"data are in {source}")
            return source

        facts: dict[str, object] = {"task": task, "build": BUILD}
        facts |= {split: puzzles.fingerprint for split, puzzles in splits.items()}
        held_out = None
        if "validation" not in splits:
            held_out = self.choose(source, train, splits.get("test"))
            facts |= {"held_out": held_out.tolist()}
            report(
                f"{source} has no validation split: {held_out.sum():,} of its {train.num_groups:,} "
                "training puzzles are held out for it"
            )

        def build(folder: Path) -> None:
            if held_out is not None:
                splits["validation"] = first_variants(train, np.flatnonzero(held_out))
                splits["train"] = take_groups(train, np.flatnonzero(~held_out))
            for split, puzzles in splits.items():
                notes = puzzles.metadata.notes | {"copied_from": str(source)}
                metadata = replace(puzzles.metadata, task=task, notes=notes)
                replace(puzzles, metadata=metadata).save(folder, split)
            for path in source.glob("*.json"):  # the names of ARC's puzzle ids, for instance
                with atomic(folder / path.name) as file:
                    file.write(path.read_bytes())

        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return build_once(Path(root) / f"{source.name}-{digest[:12]}", build, report)

    def choose(
        self, source: Path, train: PuzzleSet, test: PuzzleSet | None
    ) -> Bool[np.ndarray, " groups"]:
        """Choose the groups of `train` to hold out.

        If puzzles have ids of their own (as in ARC), groups that share one with test/ stay in
        training: they teach the rows of the puzzle embedding that test/ needs.
        """
        free = np.ones(train.num_groups, bool)
        if test is not None and train.metadata.num_puzzle_identifiers > 1:
            shared = np.isin(train.puzzle_identifiers, test.puzzle_identifiers)
            free = ~np.logical_or.reduceat(shared, train.group_indices[:-1])
        candidates = np.flatnonzero(free)
        count = self.num_validation or max(1, min(1000, train.num_groups // 10))
        if count > len(candidates) or count >= train.num_groups:
            raise ValueError(
                f"{source}: {count} of {train.num_groups} training puzzles cannot be held out for "
                "validation: lower num_validation, or add a validation split"
            )
        chosen = np.zeros(train.num_groups, bool)
        rng = np.random.default_rng(self.data_seed)
        chosen[rng.permutation(candidates)[:count]] = True
        return chosen


def load_splits(folder: Path) -> dict[str, PuzzleSet]:
    """Load the splits of a data set by name. Raises ValueError if train/ is missing."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: give one that holds train/ and test/")
    if any(folder.glob("*.csv")) and not any(folder.glob("*/dataset.json")):
        raise ValueError(f"{folder} holds CSV files: train on them with --source {folder}")
    splits = {"train": PuzzleSet.load(folder, "train")}
    for split, name in (("validation", "validation"), ("validation", "val"), ("test", "test")):
        if split not in splits and (folder / name / "dataset.json").exists():
            splits[split] = PuzzleSet.load(folder, name)
    return splits


def recognise(puzzles: PuzzleSet, share: float = 1.0) -> str:
    """Name the kind of puzzle whose shape and rules at least `share` of a sample obeys, or ""."""
    sample = np.linspace(0, len(puzzles) - 1, min(SAMPLE, len(puzzles))).astype(int)
    for name, task in TASKS.items():
        if fits(task, puzzles):
            wrong = task.wrong(puzzles.inputs[sample], puzzles.labels[sample])
            if 1 - wrong.mean() >= share:
                return name
    return ""


def fits(task: Task, puzzles: PuzzleSet) -> bool:
    """Tell whether the puzzles have the shape of `task`."""
    shape = puzzles.metadata.vocab_size, puzzles.metadata.seq_len
    return shape == (task.vocab_size, task.seq_len)


def check(puzzles: PuzzleSet, place: str, report: Callable[[str], None]) -> None:
    """Apply `check_examples` to a data set, by the rules of its kind.

    If it names no kind, take the one whose rules most of it obeys. Also raises ValueError for a
    kind that its shape does not fit.
    """
    if isinstance(puzzles.inputs, DrawnRows) or isinstance(puzzles.labels, DrawnRows):
        return  # ARC tasks, which the builder has checked
    task = TASKS.get(puzzles.metadata.task or recognise(puzzles, MOST))
    if task is not None and not fits(task, puzzles):
        raise ValueError(
            f"{place} does not have the shape of a {task.name}: correct its dataset.json"
        )
    check_examples(
        task,
        puzzles.inputs,
        puzzles.labels,
        lambda example: f"{place}, example {example}",
        report,
        np.repeat(puzzles.puzzle_identifiers, np.diff(puzzles.puzzle_indices)),
        puzzles.metadata.ignore_label_id,
    )


def take_groups(puzzles: PuzzleSet, groups: Integer[np.ndarray, " chosen"]) -> PuzzleSet:
    """Keep only these groups, in this order, with all their variants."""
    members, sizes = _members(puzzles.group_indices, groups)
    return _take(puzzles, members, sizes)


def first_variants(puzzles: PuzzleSet, groups: Integer[np.ndarray, " chosen"]) -> PuzzleSet:
    """Keep only the first variant of each of these groups, which is the puzzle itself."""
    return _take(puzzles, puzzles.group_indices[groups], np.ones(len(groups), int))


def _take(
    puzzles: PuzzleSet,
    chosen: Integer[np.ndarray, " chosen"],
    group_sizes: Integer[np.ndarray, " groups"],
) -> PuzzleSet:
    examples, sizes = _members(puzzles.puzzle_indices, chosen)
    return PuzzleSet.assemble(
        puzzles.metadata,
        puzzles.inputs[examples],
        puzzles.labels[examples],
        puzzle_identifiers=puzzles.puzzle_identifiers[chosen],
        puzzle_indices=np.concatenate([[0], np.cumsum(sizes)]),
        group_indices=np.concatenate([[0], np.cumsum(group_sizes)]),
        ratings=None if puzzles.ratings is None else puzzles.ratings[examples],
    )


def _members(
    bounds: Integer[np.ndarray, " owners_plus_1"], owners: Integer[np.ndarray, " chosen"]
) -> tuple[Integer[np.ndarray, " members"], Integer[np.ndarray, " chosen"]]:
    """Return the members of all `owners`, one owner after the other, and how many each has."""
    first = bounds[owners].astype(np.int64)
    sizes = bounds[owners + 1] - first
    begin = np.cumsum(sizes) - sizes
    return np.arange(sizes.sum()) + np.repeat(first - begin, sizes), sizes
