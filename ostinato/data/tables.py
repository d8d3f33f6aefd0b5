"""Puzzles with their answers: rows in memory, and where the files are that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Integer

from ostinato.files import home_path
from ostinato.hub import fetch_all


@dataclass(frozen=True, eq=False)
class Rows:
    """Hold puzzles with their answers."""

    inputs: Integer[np.ndarray, "rows cells"]
    labels: Integer[np.ndarray, "rows cells"]
    ratings: Float32[np.ndarray, " rows"]
    """Difficulty of each row; NaN if it has no rating."""

    @classmethod
    def unrated(cls, inputs: np.ndarray, labels: np.ndarray) -> Rows:
        return cls(inputs, labels, np.full(len(inputs), np.nan, np.float32))

    @classmethod
    def join(cls, parts: Sequence[Rows]) -> Rows:
        """Join parts one after the other."""
        names = ("inputs", "labels", "ratings")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Integer[np.ndarray, " chosen"]) -> Rows:
        return Rows(self.inputs[rows], self.labels[rows], self.ratings[rows])


def local_files(source: str, others: str) -> dict[str, Path]:
    """Find the CSV files of a source by split: one file, or a folder with train.csv.

    Raises ValueError if there are none; its message lists `others`, the sources that are not files.
    """
    path = home_path(source)
    if path.is_dir():
        found = {split: path / f"{split}.csv" for split in ("train", "validation", "test")}
        found = {split: file for split, file in found.items() if file.is_file()}
        if "train" not in found:
            raise ValueError(f"{path}: no train.csv in this folder; add it or name a CSV file")
        return found
    if not path.is_file():
        raise ValueError(
            f"no data source {source!r}: give {others}, a CSV file, or a folder with train.csv"
        )
    return {"train": path}


def hub_files(data_set: str) -> dict[str, Path]:
    """Fetch train.csv and test.csv of a data set on the Hub, unless they are in its cache."""
    names = ["train.csv", "test.csv"]
    remedy = "set source to a folder with its train.csv and test.csv"
    return {path.stem: path for path in fetch_all(data_set, names, remedy)}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
