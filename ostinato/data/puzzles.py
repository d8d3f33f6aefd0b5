"""Puzzle data sets on disk; `batches.py` makes training and test batches of them.

The files are those of the official HRM and TRM projects, so data sets built by their scripts load
here and ours load there. A split is a folder with `dataset.json` and one file per array:

    all__inputs.npy, all__labels.npy   tokens, [examples, seq]
    all__puzzle_indices.npy            puzzle p holds the examples indices[p] to indices[p + 1]
    all__puzzle_identifiers.npy        the row of each puzzle in the puzzle embedding
    all__group_indices.npy             group g holds the puzzles indices[g] to indices[g + 1]
    all__ratings.npy                   the difficulty of each example (ours; optional)

Our ARC data sets have the files of `data/drawn_rows.py` in place of inputs and labels.

A group is a base puzzle with all its augmented variants; a puzzle has one example (Sudoku, Maze)
or several (ARC: the pairs of a task).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Integer, Real

from ostinato.data.drawn_rows import FILES as DRAWN_FILES
from ostinato.data.drawn_rows import DrawnRows, drawn_rows
from ostinato.data.metadata import Metadata, write_array
from ostinato.decoding import read_npy, rises


@dataclass(frozen=True, eq=False)
class PuzzleSet:
    """Hold one split of a data set. `load`, `assemble` and `of_examples` make and check it."""

    metadata: Metadata
    inputs: Integer[np.ndarray, "examples seq"] | DrawnRows
    labels: Integer[np.ndarray, "examples seq"] | DrawnRows
    puzzle_identifiers: Int32[np.ndarray, " puzzles"]
    puzzle_indices: Int32[np.ndarray, " puzzles+1"]
    group_indices: Int32[np.ndarray, " groups_plus_1"]
    ratings: Float32[np.ndarray, " examples"] | None = None

    @classmethod
    def load(cls, folder: Path, split: str) -> PuzzleSet:
        """Read `folder/split`; the tokens stay on disk (memory-mapped) until used.

        Raises ValueError, with file and remedy, if anything is missing or wrong.
        """
        place = Path(folder) / split
        if not (place / "dataset.json").is_file():
            found = sorted(path.parent.name for path in Path(folder).glob("*/dataset.json"))
            remedy = f"it has {', '.join(found)}" if found else "build or download the data set"
            raise ValueError(f"{folder}: no split {split!r} (no {split}/dataset.json); {remedy}")
        metadata = Metadata.load(place / "dataset.json")
        parts = [_load_part(metadata, place, name) for name in metadata.sets]
        puzzles = parts[0] if len(parts) == 1 else _concatenate(parts, place)
        if metadata.total_groups not in (0, puzzles.num_groups):
            raise ValueError(
                f"{place / 'dataset.json'}: total_groups is {metadata.total_groups}, the arrays "
                f"have {puzzles.num_groups}; the files do not belong together, build them again"
            )
        return puzzles

    @classmethod
    def assemble(
        cls,
        metadata: Metadata,
        inputs: np.ndarray | DrawnRows,
        labels: np.ndarray | DrawnRows,
        puzzle_identifiers: np.ndarray,
        puzzle_indices: np.ndarray,
        group_indices: np.ndarray,
        ratings: np.ndarray | None = None,
        name_of: Callable[[str], str] = str,
    ) -> PuzzleSet:
        """Check arrays and join them with metadata, whose counts are taken from the arrays.

        Raises ValueError if shapes, order or values are wrong; its message calls an array
        `name_of(array)`.
        """
        arrays = {
            "inputs": inputs,
            "labels": labels,
            "puzzle_identifiers": puzzle_identifiers,
            "puzzle_indices": puzzle_indices,
            "group_indices": group_indices,
        }
        fault = _first_fault(metadata, arrays if ratings is None else arrays | {"ratings": ratings})
        if fault:
            raise ValueError(f"{name_of(fault[0])}: {fault[1]}")
        counted = replace(
            metadata,
            total_groups=len(group_indices) - 1,
            mean_puzzle_examples=len(inputs) / len(puzzle_identifiers),
            total_puzzles=len(puzzle_identifiers),
            sets=("all",),
        )
        return cls(
            counted,
            inputs,
            labels,
            puzzle_identifiers.astype(np.int32),
            puzzle_indices.astype(np.int32),
            group_indices.astype(np.int32),
            None if ratings is None else ratings.astype(np.float32),
        )

    @classmethod
    def of_examples(
        cls,
        task: str,
        inputs: Integer[np.ndarray, "examples seq"],
        labels: Integer[np.ndarray, "examples seq"],
        vocab_size: int,
        ratings: Real[np.ndarray, " examples"] | None = None,
        copies: int = 1,
        **notes: object,
    ) -> PuzzleSet:
        """Make a split of puzzles with one example each, all with id 0.

        `copies` consecutive puzzles form a group. Raises ValueError if shapes or values are wrong,
        or if the last group is not full.
        """
        if copies < 1 or len(inputs) % copies:
            raise ValueError(
                f"{len(inputs)} examples make no whole groups of {copies}; "
                "give every puzzle followed by the same number of copies"
            )
        metadata = Metadata(
            vocab_size=vocab_size,
            seq_len=inputs.shape[-1],
            num_puzzle_identifiers=1,
            task=task,
            notes=notes,
        )
        puzzles = cls.assemble(
            metadata,
            inputs,
            labels,
            puzzle_identifiers=np.zeros(len(inputs), np.int32),
            puzzle_indices=np.arange(len(inputs) + 1),
            group_indices=np.arange(0, len(inputs) + 1, copies),
            ratings=ratings,
        )
        small = np.min_scalar_type(vocab_size - 1)
        return replace(puzzles, inputs=inputs.astype(small), labels=labels.astype(small))

    def save(self, folder: Path, split: str, drawn: bool = True) -> None:
        """Write `folder/split`. An interrupted save leaves no `dataset.json` and so cannot load.

        Without `drawn`, rows that are drawn from grids are written as tokens, the layout of HRM and
        TRM.
        """
        place = Path(folder) / split
        place.mkdir(parents=True, exist_ok=True)
        (place / "dataset.json").unlink(missing_ok=True)
        files = self.files() if drawn else self.arrays()
        for name in {*_ARRAYS, "ratings", *DRAWN_FILES} - files.keys():
            (place / f"all__{name}.npy").unlink(missing_ok=True)
        for key, array in files.items():
            # A set loaded from this folder is memory-mapped: replace its files, never write into
            # them.
            write_array(place / f"all__{key}.npy", array)
        self.metadata.save(place / "dataset.json")

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.inputs)

    @property
    def num_groups(self) -> int:
        """Count the base puzzles, each of which an epoch visits once."""
        return len(self.group_indices) - 1

    @property
    def epoch_examples(self) -> float:
        """Count an epoch's examples as HRM and TRM do: groups · mean examples of a puzzle."""
        return self.num_groups * self.metadata.mean_puzzle_examples

    @cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256 of arrays and metadata, which detects a changed set on resuming."""
        facts = asdict(replace(self.metadata, task="", notes={}))
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for key, array in self.files().items():
            digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def arrays(self) -> dict[str, Any]:
        """Return the arrays by the names of their files, without ratings if there are none."""
        arrays = {key: getattr(self, key) for key in _ARRAYS}
        return arrays if self.ratings is None else arrays | {"ratings": self.ratings}

    def files(self) -> dict[str, np.ndarray]:
        """Return the arrays to store; drawn rows are stored as the arrays they are drawn from."""
        files = self.arrays()
        if isinstance(self.inputs, DrawnRows):
            del files["inputs"], files["labels"]
            files |= self.inputs.drawings.files()
        return files


_ARRAYS = ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")
_TABLES = ("inputs", "labels", "shapes", "colours", "corners")
"""Two-dimensional arrays, with one row per example, puzzle or grid; the others are flat."""


def _load_part(metadata: Metadata, place: Path, set_name: str) -> PuzzleSet:
    def name_of(key: str) -> str:
        return str(place / f"{set_name}__{key}.npy")

    drawn = Path(name_of(DRAWN_FILES[0])).exists()
    tokens = DRAWN_FILES if drawn else ("inputs", "labels")
    missing = {"ratings"}
    if "num_puzzles" in metadata.notes:  # nano-trm, where each puzzle is a group of one example
        missing |= {"puzzle_indices", "group_indices"}
    arrays: dict[str, Any] = {}
    for key in (*tokens, *_ARRAYS[2:], "ratings"):
        path, kinds = Path(name_of(key)), "iuf" if key == "ratings" else "iu"
        if path.exists() or key not in missing:
            arrays[key] = read_npy(path, kinds, ndim=2 if key in _TABLES else 1)
    for key in missing - {"ratings"} - arrays.keys():
        arrays[key] = np.arange(len(arrays["puzzle_identifiers"]) + 1)
    if drawn:
        files = {key: arrays.pop(key) for key in DRAWN_FILES}
        side = math.isqrt(metadata.seq_len)
        try:
            rows = drawn_rows(files, arrays["puzzle_indices"], side)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        arrays["inputs"], arrays["labels"] = rows
    return PuzzleSet.assemble(metadata, **arrays, name_of=name_of)


def _concatenate(parts: list[PuzzleSet], place: Path) -> PuzzleSet:
    """Join sets one after the other; indices continue where the previous set ended."""
    if len({part.ratings is None for part in parts}) > 1:
        raise ValueError(f"{place}: only some sets have ratings; give all of them ratings, or none")
    arrays: dict[str, Any] = {
        key: np.concatenate([part.arrays()[key] for part in parts]) for key in parts[0].arrays()
    }
    for key in ("puzzle_indices", "group_indices"):
        sizes = [np.diff(part.arrays()[key]) for part in parts]
        arrays[key] = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    return PuzzleSet.assemble(parts[0].metadata, **arrays)


def _first_fault(metadata: Metadata, arrays: dict[str, Any]) -> tuple[str, str] | None:
    """Return the first array that is wrong and its fault, or None."""
    examples, num_puzzles, bounds = (
        (arrays[key].shape or (1,))[0] for key in ("inputs", "puzzle_identifiers", "group_indices")
    )
    if not examples:
        return "inputs", "no example; build the data set again with at least one"
    shapes = {
        "inputs": (examples, metadata.seq_len),
        "labels": (examples, metadata.seq_len),
        "puzzle_identifiers": (num_puzzles,),
        "puzzle_indices": (num_puzzles + 1,),
        "group_indices": (max(bounds, 2),),
        "ratings": (examples,),
    }
    for key, array in arrays.items():
        if array.shape != shapes[key]:
            return key, f"shape {array.shape} is not {shapes[key]}; build the data set again"
        if not np.issubdtype(array.dtype, np.number if key == "ratings" else np.integer):
            return key, f"dtype {array.dtype} does not fit; build the data set again"
    for key, end in (("puzzle_indices", examples), ("group_indices", num_puzzles)):
        if not rises(arrays[key].astype(np.int64), end):
            return key, f"does not increase from 0 to {end}; build the data set again"
    for key, setting in (
        ("inputs", "vocab_size"),
        ("labels", "vocab_size"),
        ("puzzle_identifiers", "num_puzzle_identifiers"),
    ):
        if isinstance(arrays[key], DrawnRows):
            continue  # the arrays they are drawn from have been checked
        size = getattr(metadata, setting)
        ignored = metadata.ignore_label_id if key == "labels" else None
        wrong = _value_outside(arrays[key], size, ignored)
        if wrong is not None:
            return key, f"{wrong} is not in 0..{size - 1}; correct it or {setting} in dataset.json"
    return None


def _value_outside(array: np.ndarray, size: int, ignored: int | None) -> int | None:
    """Return a value outside 0..size-1 other than `ignored`, or None; never copy a big array."""
    for block in np.array_split(array, max(1, array.size >> 24)):
        if block.min() >= 0 and block.max() < size:
            continue
        wrong = block[(block < 0) | (block >= size)]
        wrong = wrong[wrong != ignored] if ignored is not None else wrong
        if wrong.size:
            return int(wrong[0])
    return None
