"""Draw random mazes with a long shortest path, by trying very many at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, UInt8

from ostinato.data.maze.paths import (
    FREE,
    GOAL,
    PATH,
    START,
    WALL,
    far_cells,
    has_one_shortest_path,
    shortest_path,
)
from ostinato.data.maze.rules import Maze
from ostinato.data.tables import Rows

WALLS = (0.3, 0.5)
"""Range of the probability that a cell is a wall, drawn once per maze. Source: Maze-Hard."""
AT_ONCE = 2**21
"""Cells of the mazes tried together: a few million keep numpy busy and the caches warm."""
PATIENCE = 20_000_000
"""Mazes tried in vain before a length counts as too great."""
PATIENCE_FOR_PERFECT = 20_000
"""The same for perfect mazes, which have long paths far more often."""


def default_length(size: int) -> int:
    """Return the default minimum length: more than 110 for 30x30 as in Maze-Hard, else the size."""
    return 111 if size == 30 else size


def generate(
    maze: Maze,
    count: int,
    min_length: int,
    rng: np.random.Generator,
    unique: bool = False,
    perfect: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> UInt8[np.ndarray, "count cells"]:
    """Draw mazes whose shortest path has at least `min_length` steps; with `unique`, only one.

    With `perfect`, mazes are corridors without loops (`perfect_mazes`). Otherwise the distribution
    is that of Maze-Hard, which this slow procedure defines:

    1. Draw a wall probability from `WALLS`, then a wall or none for each cell, then a start and a
       goal.
    2. Keep the maze if both are free and the shortest path is long enough (and, with `unique`, the
       only one).

    For 30x30 and 111 steps about one maze in 10^5 passes, but one start in 4000 has such goals. So
    the goal is drawn among the cells that are far enough, and a start with k of them is kept with a
    probability proportional to k. It reaches 1 when an eighth of the cells are far enough
    (`_far_share`), which never occurred for 30x30 and 111 steps. Raises ValueError if no maze of
    such length is found.
    """
    size = maze.size
    batch, patience = max(64, AT_ONCE // maze.seq_len), PATIENCE
    if perfect:  # these are made one by one
        batch, patience = min(batch, 2 * count + 64), PATIENCE_FOR_PERFECT
    found: list[np.ndarray] = []
    number = tried = 0
    while number < count:
        if perfect:
            free = perfect_mazes(batch, size, rng)
        else:
            free = rng.random((batch, size, size), np.float32) >= _chances(batch, rng)
        start = rng.integers(maze.seq_len, size=batch)
        kept, far = far_cells(free, start, min_length)
        goals = far.sum(1)
        lucky = rng.random(len(kept)) * _far_share(maze, min_length) < goals
        kept, far, goals = kept[lucky], far[lucky], goals[lucky]
        order = np.argsort(~far, axis=1, kind="stable")  # far cells first
        chosen = order[np.arange(len(kept)), (rng.random(len(kept)) * goals).astype(int)]
        tokens = np.where(free[kept].reshape(-1, maze.seq_len), FREE, WALL).astype(np.uint8)
        rows = np.arange(len(kept))
        tokens[rows, start[kept]], tokens[rows, chosen] = START, GOAL
        if unique:
            single = [has_one_shortest_path(row) for row in tokens]
            tokens = tokens[np.array(single, bool)]
        found.append(tokens)
        number, tried = number + len(tokens), tried + batch
        report(f"generated {min(number, count)} of {count} {maze.name} mazes")
        if not number and tried > patience:
            raise ValueError(
                f"found no {maze.name} with {'a single' if unique else 'a'} shortest path of "
                f"{min_length} steps: lower min_length{' or allow several' * unique}"
            )
    return np.concatenate(found)[:count]


def labelled(inputs: UInt8[np.ndarray, "rows cells"]) -> Rows:
    """Label mazes with the shortest path that Maze-Hard shows (`paths.shortest_path`)."""
    labels = inputs.copy()
    for row, tokens in enumerate(inputs):
        path = shortest_path(tokens)
        assert path is not None
        labels[row, path[1:-1]] = PATH
    return Rows.unrated(inputs, labels)


def _chances(batch: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(*WALLS, (batch, 1, 1)).astype(np.float32)


def _far_share(maze: Maze, min_length: int) -> int:
    """Return the number of far cells at which a start is always kept: all, or an eighth if rare."""
    return maze.seq_len if min_length <= 2 * maze.size else maze.seq_len // 8


def perfect_mazes(
    count: int, size: int, rng: np.random.Generator
) -> Bool[np.ndarray, "mazes size size"]:
    """Return the free cells of random mazes of an odd `size`.

    Every second cell of every second row is a room. Walls between neighbouring rooms are removed in
    random order, each only if its rooms are not connected yet. This gives a minimum spanning tree
    of random weights (Kruskal 1956).
    """
    assert size % 2, "rooms would touch the border on two sides only"
    free = np.zeros((count, size, size), bool)
    free[:, ::2, ::2] = True
    rooms = size // 2 + 1
    number = np.arange(rooms**2).reshape(rooms, rooms)
    across = np.stack([number[:, :-1], number[:, 1:]], -1).reshape(-1, 2)
    down = np.stack([number[:-1], number[1:]], -1).reshape(-1, 2)
    pairs = np.concatenate([across, down])
    # A wall is halfway between its rooms
    rows, cols = (pairs // rooms).sum(1), (pairs % rooms).sum(1)
    neighbours = pairs.tolist()
    for maze in free:
        parents = list(range(rooms**2))
        for wall in rng.permutation(len(neighbours)):
            first, second = (_root(parents, room) for room in neighbours[wall])
            if first != second:
                parents[first] = second
                maze[rows[wall], cols[wall]] = True
    return free


def _root(parents: list[int], room: int) -> int:
    """Return the representative of all rooms that `room` is connected with."""
    while parents[room] != room:
        parents[room] = parents[parents[room]]
        room = parents[room]
    return room
