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

PATIENCE_FOR_CARVED = 200
"""The same for carved mazes, in which every start is tried."""


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


def carved_mazes(
    count: int, size: int, rng: np.random.Generator
) -> Bool[np.ndarray, "mazes size size"]:
    """Return the free cells of perfect mazes as EqR builds them, in a border of walls.

    A walk carves corridors between rooms at odd rows and columns, and goes back where it is stuck.
    A maze of an even size has two walls at its lower and right borders.
    """
    free = np.zeros((count, size, size), bool)
    last = size - 2 if size % 2 else size - 3
    for maze in free:
        row, col = (1 + 2 * int(rng.integers((last + 1) // 2)) for _ in range(2))
        maze[row, col] = True
        walk = [(row, col)]
        while walk:
            row, col = walk[-1]
            ways = [
                (row + down, col + right)
                for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1))
                if 1 <= row + 2 * down <= last
                and 1 <= col + 2 * right <= last
                and not maze[row + 2 * down, col + 2 * right]
            ]
            if not ways:
                walk.pop()
                continue
            wall = ways[rng.integers(len(ways))]
            room = 2 * wall[0] - row, 2 * wall[1] - col
            maze[wall] = maze[room] = True
            walk.append(room)
    return free


def generate_carved(
    maze: Maze,
    count: int,
    lengths: tuple[int, int],
    rng: np.random.Generator,
    report: Callable[[str], None] = lambda line: None,
) -> UInt8[np.ndarray, "count cells"]:
    """Draw mazes like those of EqR's Maze-Unique: each has a single path from start to goal.

    The number of its steps is uniform from the least to the most. Source: the builder of EqR
    (arXiv 2605.21488). Raises ValueError if there are no such paths.
    """
    found: list[np.ndarray] = []
    wish, tried = int(rng.integers(lengths[0], lengths[1] + 1)), 0
    while len(found) < count:
        free = carved_mazes(1, maze.size, rng)
        for start in rng.permutation(np.flatnonzero(free)):
            _, far = far_cells(free, start[None], wish)
            _, farther = far_cells(free, start[None], wish + 1)
            goals = np.flatnonzero(far.any(0) & ~farther.any(0))
            if len(goals):
                tokens = np.where(free.ravel(), FREE, WALL).astype(np.uint8)
                tokens[start], tokens[rng.choice(goals)] = START, GOAL
                found.append(tokens)
                wish, tried = int(rng.integers(lengths[0], lengths[1] + 1)), 0
                break
        tried += 1
        if tried > PATIENCE_FOR_CARVED:
            raise ValueError(f"found no {maze.name} with a path of {wish} steps: lower max_length")
        if len(found) % 100 == 0:
            report(f"generated {len(found)} of {count} {maze.name} mazes")
    return np.stack(found)


def _root(parents: list[int], room: int) -> int:
    """Return the representative of all rooms that `room` is connected with."""
    while parents[room] != room:
        parents[room] = parents[parents[room]]
        room = parents[room]
    return room
