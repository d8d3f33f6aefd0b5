"""What a data set says of itself: the `dataset.json` of each split."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path

from ostinato.files import write_text


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The content of `dataset.json`. `PuzzleSet.assemble` counts groups and puzzles itself."""

    pad_id: int = 0
    """Input token of the rows that fill up the last test batch."""
    ignore_label_id: int | None = 0
    """Label that marks a position as unsupervised; None where every position is supervised."""
    blank_identifier_id: int = 0
    """Puzzle id of the rows that fill up the last test batch."""
    vocab_size: int
    """Tokens lie in 0..vocab_size-1."""
    seq_len: int
    """Tokens of an example."""
    num_puzzle_identifiers: int
    """Rows of the puzzle embedding."""
    total_groups: int = 0
    """Base puzzles."""
    mean_puzzle_examples: float = 1.0
    """Examples of a puzzle, on average."""
    total_puzzles: int = 0
    """Puzzles, every variant counted. (Some builders of the originals write the number of groups,
    others nothing.)"""
    sets: tuple[str, ...] = ("all",)
    """Prefixes of the array files; several are concatenated by `PuzzleSet.load`."""
    task: str = ""
    """The kind of puzzle, like "sudoku9"; empty where a foreign file does not say."""
    notes: dict[str, object] = field(default_factory=dict)
    """Anything else (source, seed, hash of a subset): the further keys of the file."""

    @classmethod
    def load(cls, path: Path) -> Metadata:
        """Read a `dataset.json`. Raises ValueError if it is unreadable or a field is wrong."""
        try:
            notes = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path}: not readable ({error}); build the data set again") from None
        known = {}
        for entry in fields(cls):
            if entry.name in notes and entry.name != "notes":
                known[entry.name] = value = notes.pop(entry.name)
                if not _is_valid(entry.name, value):
                    raise ValueError(f"{path}: {entry.name} cannot be {value!r}; correct it")
            elif entry.default is MISSING and entry.default_factory is MISSING:
                raise ValueError(f"{path}: {entry.name} is missing; is this a puzzle data set?")
        known["sets"] = tuple(known.get("sets", ("all",)))
        metadata = cls(**known, notes=notes)
        for key, size in (
            ("pad_id", "vocab_size"),
            ("blank_identifier_id", "num_puzzle_identifiers"),
        ):
            if getattr(metadata, key) >= getattr(metadata, size):
                raise ValueError(f"{path}: {key} is not smaller than {size}; correct it")
        return metadata

    def save(self, path: Path) -> None:
        """Write a `dataset.json`; the originals' loaders skip the keys they do not know."""
        content = asdict(self)
        notes = content.pop("notes")
        assert not content.keys() & notes.keys(), "a note has the name of a field"
        write_text(path, json.dumps(content | notes, indent=2) + "\n")


def _is_valid(key: str, value: object) -> bool:
    match key:
        case "sets":
            return isinstance(value, list) and bool(value) and all(type(n) is str for n in value)
        case "task":
            return isinstance(value, str)
        case "mean_puzzle_examples":
            return type(value) in (int, float)
        case "ignore_label_id":
            return value is None or type(value) is int
        case _:
            return type(value) is int and value >= 0
