"""Puzzles to try a model on where no data set is at hand: generated, by difficulty."""

import itertools

import numpy as np
from jaxtyping import Integer

from ostinato.data import maze, sudoku
from ostinato.data.grid import Grid
from ostinato.data.table import Table
from ostinato.data.tasks import Task

GIVENS = {"easy": (0.44, 0.5), "medium": (0.36, 0.4), "hard": (0.29, 0.33)}
"""Sudoku: share of the cells that are given, the least and the most."""
LENGTHS = {"easy": 0.5, "medium": 1.0, "hard": 1.5}
"""Mazes: steps of the shortest path at least, in sides of the board."""
LEVELS = tuple(GIVENS)


def sample_puzzles(
    task: Task, level: str, count: int, seed: int = 0
) -> Integer[np.ndarray, "count cells"]:
    """Return `count` puzzles of a level, easy, medium or hard; the same seed gives the same ones.

    Raises ValueError for a kind of puzzle that cannot be generated.
    """
    if isinstance(task, sudoku.Sudoku):
        low, high = (round(share * task.seq_len) for share in GIVENS[level])
        return sudoku.generate(task, count, (low, high), seed)[0]
    if isinstance(task, maze.Maze):
        length = max(2, round(LENGTHS[level] * task.size))
        return maze.generate(task, count, length, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    if isinstance(task, Grid):
        drawn = (task.generate(rng) for _ in itertools.count())
        return np.stack(
            [task.parse(pair[0]) for pair in itertools.islice(filter(None, drawn), count)]
        )
    if isinstance(task, Table):
        return task.random_questions(count, rng)
    raise ValueError(f"there is no generator for {task.name}: give puzzles in a file")
