"""Build a data set of ARC tasks and their variants, as TRM's released builder does.

Every task occurs unchanged and in up to `num_aug` random variants, all different. Training shows
all pairs of the training tasks and the demonstrations of the evaluation tasks. A pair has a random
place on the canvas, the same for input and output; one pair of every variant is in the corner, as
in the test split. That split holds the tests of the evaluation tasks in all their variants.

The variants of a task depend only on the seed and the task: not on other tasks, nor on the order of
files, which determines the ids in TRM.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64, UInt8

from ostinato.data.arc.sources import ArcTask, Pair, Variant
from ostinato.data.drawn_rows import drawn_rows
from ostinato.data.grids import COLOURS, PAD, VOCAB_SIZE, Grid
from ostinato.data.metadata import Metadata
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.symmetries import transform

BLANK = "<blank>"
"""Name of id 0, which fills up batches."""
TRIES = 5
"""Variants drawn for each one wanted. A task with few different variants gets fewer."""
VALIDATION_VARIANTS = 16
"""Variants of each validation task to evaluate: all would take long, and one says too little."""
UNKNOWN = np.zeros((0, 0), np.uint8)
"""Grid in place of an unknown answer: all labels are pads, which are not supervised."""


@dataclass(frozen=True, eq=False)
class Variants:
    """Hold the variants of one task; the first is the task itself."""

    symmetries: UInt8[np.ndarray, " variants"]
    colours: UInt8[np.ndarray, "variants 10"]

    def names(self, task: str) -> list[str]:
        """Return the names of the variants."""
        permutations = (self.colours + ord("0")).tobytes().decode()
        return [
            str(Variant(task, symmetry, permutations[COLOURS * n : COLOURS * (n + 1)]))
            for n, symmetry in enumerate(self.symmetries.tolist())
        ]


def draw_variants(task: ArcTask, num_aug: int, rng: np.random.Generator) -> Variants:
    """Return the task and up to `num_aug` different variants, from `TRIES` times as many draws."""
    tries = TRIES * num_aug
    symmetries = np.zeros(1 + tries, np.uint8)
    symmetries[1:] = rng.integers(8, size=tries)
    colours = np.tile(np.arange(COLOURS, dtype=np.uint8), (1 + tries, 1))
    colours[1:, 1:] = rng.permuted(colours[1:, 1:], axis=1)

    grids = [grid for pair in task.pairs for grid in (pair.input, pair.output) if grid is not None]
    views = [[np.ascontiguousarray(transform(grid, s)) for grid in grids] for s in range(8)]
    shapes = [bytes(side for grid in view for side in grid.shape) for view in views]
    cells = [np.concatenate([grid.ravel() for grid in view]) for view in views]
    seen: set[bytes] = set()
    chosen = []
    for number, (symmetry, names) in enumerate(zip(symmetries.tolist(), colours, strict=True)):
        # Equal shapes and colours mean equal grids, so no separator is needed
        content = shapes[symmetry] + names[cells[symmetry]].tobytes()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            chosen.append(number)
            if len(chosen) > num_aug:
                break
    return Variants(symmetries[chosen], colours[chosen])


def draw_corners(
    pairs: Sequence[Pair], symmetries: UInt8[np.ndarray, " variants"], side: int, rng
) -> UInt8[np.ndarray, "variants pairs 2"]:
    """Draw a place for each pair of each variant; one pair of each variant is in the corner."""
    upright = np.array([np.max([g.shape for g in grids_of(pair)], axis=0) for pair in pairs])
    swapped = np.isin(symmetries, [1, 3, 6, 7])[:, None, None]
    room = side + 1 - np.where(swapped, upright[:, ::-1], upright)
    corners = (rng.random(room.shape) * room).astype(np.uint8)
    corners[np.arange(len(corners)), rng.integers(len(pairs), size=len(corners))] = 0
    return corners


def grids_of(pair: Pair) -> tuple[Grid, Grid]:
    """Return input and output; `UNKNOWN` stands for a missing output."""
    return pair.input, UNKNOWN if pair.output is None else pair.output


@dataclass
class Split:
    """Collect a split group by group."""

    grids: list[Grid] = field(default_factory=list)
    first_pairs: list[np.ndarray] = field(default_factory=list)
    symmetries: list[np.ndarray] = field(default_factory=list)
    colours: list[np.ndarray] = field(default_factory=list)
    corners: list[np.ndarray] = field(default_factory=list)
    identifiers: list[np.ndarray] = field(default_factory=list)
    sizes: list[np.ndarray] = field(default_factory=list)
    """Number of examples of each puzzle."""

    def add(
        self,
        pairs: Sequence[Pair],
        variants: Variants,
        identifiers: Int64[np.ndarray, " variants"],
        corners: UInt8[np.ndarray, "variants pairs 2"],
    ) -> None:
        """Add a task's variants as puzzles of these pairs."""
        count = len(identifiers)
        self.first_pairs.append(np.full(count, len(self.grids) // 2, np.int32))
        self.grids += [grid for pair in pairs for grid in grids_of(pair)]
        self.symmetries.append(variants.symmetries[:count])
        self.colours.append(variants.colours[:count])
        self.corners.append(corners.reshape(-1, 2))
        self.identifiers.append(identifiers)
        self.sizes.append(np.full(count, len(pairs)))

    def puzzles(self, num_identifiers: int, side: int, **notes: object) -> PuzzleSet:
        """Make the split, with rows that are drawn on access."""
        indices = np.concatenate([[0], np.cumsum(np.concatenate(self.sizes))]).astype(np.int32)
        groups = np.cumsum([0] + [len(ids) for ids in self.identifiers])
        files = {
            "grids": np.concatenate([grid.ravel() for grid in self.grids]),
            "shapes": np.array([grid.shape for grid in self.grids], np.uint8),
            "first_pairs": np.concatenate(self.first_pairs),
            "symmetries": np.concatenate(self.symmetries),
            "colours": np.concatenate(self.colours),
            "corners": np.concatenate(self.corners),
        }
        inputs, labels = drawn_rows(files, indices, side)
        metadata = Metadata(
            pad_id=PAD,
            ignore_label_id=PAD,
            vocab_size=VOCAB_SIZE,
            seq_len=side**2,
            num_puzzle_identifiers=num_identifiers,
            task="arc",
            notes=notes,
        )
        return PuzzleSet.assemble(
            metadata, inputs, labels, np.concatenate(self.identifiers), indices, groups
        )


@dataclass(frozen=True, eq=False)
class ArcSets:
    """Hold a built data set."""

    names: list[str]
    """Name of each puzzle id, `BLANK` first: the content of `identifiers.json`."""
    splits: dict[str, PuzzleSet]
    """Splits train, validation and test."""


def build(
    training: Sequence[ArcTask],
    held_out: Sequence[ArcTask],
    evaluation: Sequence[ArcTask],
    num_aug: int,
    side: int,
    seed: int,
    **notes: object,
) -> ArcSets:
    """Build the splits of these tasks on canvases of `side` rows.

    Training has all pairs of `training` and the demonstrations of the other tasks. Validation has
    the tests of `held_out` in a few variants, and test those of `evaluation` in all. Raises
    ValueError if two tasks have the same name, or if one has a fault: a grid that is too large, a
    demonstration without output, or equal inputs with different outputs.
    """
    roles = {"train": training, "validation": held_out, "test": evaluation}
    by_name = {task.name: (split, task) for split, tasks in roles.items() for task in tasks}
    if len(by_name) < sum(map(len, roles.values())):
        raise ValueError("two tasks have the same name: leave one of them out")
    splits = {split: Split() for split in roles}
    names = [BLANK]
    faults = [fault for name in sorted(by_name) if (fault := fault_of(by_name[name][1], side))]
    if faults:
        raise ValueError(faults[0] + f" (the first of {len(faults)})" * (len(faults) > 1))
    for name, (role, task) in sorted(by_name.items()):
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
        rng = np.random.default_rng([seed, key])
        variants = draw_variants(task, num_aug, rng)
        identifiers = len(names) + np.arange(len(variants.symmetries))
        names += variants.names(name)
        shown = task.pairs if role == "train" else task.train
        corners = draw_corners(shown, variants.symmetries, side, rng)
        splits["train"].add(shown, variants, identifiers, corners)
        if role != "train":
            tested = identifiers[: None if role == "test" else VALIDATION_VARIANTS]
            corner = np.zeros((len(tested), len(task.test), 2), np.uint8)
            splits[role].add(task.test, variants, tested, corner)
    return ArcSets(
        names,
        {
            split: part.puzzles(len(names), side, seed=seed, num_aug=num_aug, **notes)
            for split, part in splits.items()
            if part.grids
        },
    )


def fault_of(task: ArcTask, side: int) -> str | None:
    """Say why a task cannot be trained on with a canvas of `side` rows; None if it can."""
    if not task.train or not task.test:
        return f"task {task.name} has no demonstrations or no tests: leave it out"
    largest = max(max(grid.shape) for pair in task.pairs for grid in grids_of(pair))
    if largest > side:
        return (
            f"task {task.name} has a grid of {largest} rows or columns: set canvas to {largest} "
            "or more, or leave the task out"
        )
    for number, pair in enumerate(task.train, 1):
        if pair.output is None:
            return f"task {task.name}: demonstration {number} has no output; add it or leave it out"
    known = [pair for pair in task.pairs if pair.output is not None]
    for number, pair in enumerate(known):
        for earlier in known[:number]:
            if np.array_equal(earlier.input, pair.input) and not np.array_equal(
                grids_of(earlier)[1], grids_of(pair)[1]
            ):
                return f"task {task.name} gives two outputs for the same input; leave one out"
    return None
