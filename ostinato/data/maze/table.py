"""Mazes with the path of their label, and how to tell the symmetric copies among them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Integer, UInt8

from ostinato.data.contradictions import check_examples
from ostinato.data.csv_files import read_rows
from ostinato.data.dihedral import sources
from ostinato.data.maze.paths import PATH, shortest_path
from ostinato.data.maze.rules import SYMBOLS, Maze
from ostinato.data.puzzles import PuzzleSet


@dataclass(frozen=True, eq=False)
class Rows:
    """Mazes with an answer."""

    maze: Maze
    inputs: UInt8[np.ndarray, "rows cells"]
    labels: UInt8[np.ndarray, "rows cells"]
    lengths: Int[np.ndarray, " rows"]
    """Steps of the shortest path."""

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Integer[np.ndarray, " chosen"]) -> Rows:
        return Rows(self.maze, self.inputs[rows], self.labels[rows], self.lengths[rows])

    def puzzle_set(self, source: str, seed: int | None = None) -> PuzzleSet:
        """The mazes as a split of a data set, rated by the length of their shortest path."""
        digest = hashlib.sha256(self.inputs.tobytes() + self.labels.tobytes()).hexdigest()
        return PuzzleSet.of_examples(
            self.maze.name,
            self.inputs,
            self.labels,
            self.maze.vocab_size,
            ratings=self.lengths,
            rated_by="shortest path",
            subset_sha256=digest,
            source=source,
            seed=seed,
        )


def labelled(maze: Maze, inputs: UInt8[np.ndarray, "rows cells"]) -> Rows:
    """Mazes with the shortest path that the labels of Maze-Hard show (`paths.shortest_path`)."""
    labels, lengths = inputs.copy(), np.zeros(len(inputs), int)
    for row, tokens in enumerate(inputs):
        path = shortest_path(tokens)
        assert path is not None
        labels[row, path[1:-1]] = PATH
        lengths[row] = len(path) - 1
    return Rows(maze, inputs, labels, lengths)


def read_csv(maze: Maze, path: Path, report: Callable[[str], None]) -> Rows:
    """All rows of a file with the columns question and answer, written with "# SGo" or "#.SGo".

    Raises ValueError, with file and line, for a maze that cannot be read, for an answer that is no
    shortest path, and for a file without rows.
    """
    inputs, labels, lines = [], [], []
    for row in read_rows(path):
        try:
            inputs.append(maze.parse(row.question))
            labels.append(maze.tokens(row.answer, SYMBOLS[1:]))
            lines.append(row.line)
        except ValueError as error:
            raise ValueError(f"{path}:{row.line}: {error}") from None
    if not inputs:
        raise ValueError(f"{path}: no rows; give a file with at least one maze")
    questions, answers = np.stack(inputs), np.stack(labels)
    check_examples(maze, questions, answers, lambda row: f"{path}:{lines[row]}", report)
    return Rows(maze, questions, answers, (answers == PATH).sum(1) + 1)


def signatures(maze: Maze, inputs: UInt8[np.ndarray, "rows cells"]) -> list[bytes]:
    """The least of the eight images of each maze: symmetric copies share it, other mazes do not."""
    images = inputs[:, sources(maze.size)]
    return [min(image.tobytes() for image in row) for row in images]
