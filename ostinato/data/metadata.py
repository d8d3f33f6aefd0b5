"""The metadata of a data set: the `dataset.json` of each split."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from ostinato.decoding import convert, read_json
from ostinato.files import atomic, write_text

IGNORED = -100
"""Label that PyTorch's losses ignore."""
REMEDY = "correct it, or build the data set again"
Count = Annotated[int, Meta(ge=0, lt=2**31)]
Name = Annotated[str, Meta(pattern=r"^[\w.-]{1,64}$")]
"""A plain name, not a path: a foreign file must not lead to another folder."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Hold the content of `dataset.json`. `PuzzleSet.assemble` counts groups and puzzles itself."""

    pad_id: Count = 0
    """Input token of the rows that fill up the last test batch."""
    ignore_label_id: Annotated[int, Meta(ge=-(2**31), lt=2**31)] | None = 0
    """Label that marks a position as unsupervised; None if every position is supervised."""
    blank_identifier_id: Count = 0
    """Puzzle id of the rows that fill up the last test batch."""
    vocab_size: Count
    """Tokens lie in 0..vocab_size-1."""
    seq_len: Count
    """Number of tokens of an example."""
    num_puzzle_identifiers: Count
    """Number of rows of the puzzle embedding."""
    total_groups: Count = 0
    """Number of base puzzles."""
    mean_puzzle_examples: float = 1.0
    """Mean number of examples of a puzzle."""
    total_puzzles: Count = 0
    """Number of puzzles, counting every variant. Some builders of HRM and TRM write the number of
    groups, others nothing."""
    sets: Annotated[tuple[Name, ...], Meta(min_length=1)] = ("all",)
    """Prefixes of the array files; several are concatenated by `PuzzleSet.load`."""
    task: str = ""
    """Kind of puzzle, such as "sudoku9"; empty if a foreign file does not say."""
    notes: dict[str, object] = field(default_factory=dict)
    """All other keys of the file, such as source, seed and hash of a subset."""

    @classmethod
    def load(cls, path: Path) -> Metadata:
        """Read a `dataset.json`. Raises ValueError if it is unreadable or a field is wrong.

        nano-trm writes no number of puzzle ids: all of its puzzles have id 0, and -100 marks the
        labels to ignore.
        """
        notes = read_json(path, dict[str, Any], REMEDY)
        if "num_puzzle_identifiers" not in notes:
            notes = {"num_puzzle_identifiers": 1, "ignore_label_id": IGNORED} | notes
        names = {entry.name for entry in fields(cls)} - {"notes"}
        known = {name: notes.pop(name) for name in names & notes.keys()}
        metadata = replace(convert(known, cls, str(path), REMEDY), notes=notes)
        for key, size in (
            ("pad_id", "vocab_size"),
            ("blank_identifier_id", "num_puzzle_identifiers"),
        ):
            if getattr(metadata, key) >= getattr(metadata, size):
                raise ValueError(f"{path}: {key} is not smaller than {size}; correct it")
        return metadata

    def save(self, path: Path) -> None:
        """Write a `dataset.json`. The loaders of HRM and TRM skip keys that they do not know."""
        content = asdict(self)
        notes = content.pop("notes")
        assert not content.keys() & notes.keys(), "a note has the name of a field"
        write_text(path, json.dumps(content | notes, indent=2) + "\n")


ROWS_AT_ONCE = 4096


def write_array(path: Path, array: Any) -> None:
    """Write an array, or rows that are drawn on access, as `np.save` does.

    It never writes to a memory-mapped file: if the disk is full, the system kills a process that
    does.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": array.shape,
    }
    with atomic(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for begin in range(0, len(array), ROWS_AT_ONCE):
            file.write(np.ascontiguousarray(array[begin : begin + ROWS_AT_ONCE]).data)
