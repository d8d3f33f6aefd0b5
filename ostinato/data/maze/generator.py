"""Random mazes whose shortest path is long, found by trying very many at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int, UInt8, UInt64

from ostinato.data.maze.paths import FREE, GOAL, START, WALL, has_one_shortest_path
from ostinato.data.maze.perfect import perfect_mazes
from ostinato.data.maze.rules import Maze

WALLS = (0.3, 0.5)
"""Least and greatest chance that a cell is a wall, one chance for each maze. Source: Maze-Hard."""
AT_ONCE = 2**21
"""Cells of the mazes that are tried together: a few million keep numpy busy and the caches warm."""
PATIENCE = 20_000_000
"""Mazes tried in vain before a length is called too great."""
PATIENCE_FOR_PERFECT = 20_000
"""The same of perfect mazes, of which far more have long paths."""


def default_length(size: int) -> int:
    """Steps of the shortest path at least: more than 110 where Maze-Hard has it, else the size."""
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
    """Mazes whose shortest path has at least `min_length` steps; with `unique` there is only one.

    With `perfect` they are corridors without loops (`perfect_mazes`). Else the distribution is
    that of Maze-Hard, and of this slow procedure: draw a chance for walls from `WALLS`, a wall
    or none for each cell by that chance, two cells as start and goal; keep the maze if both are
    free and the shortest path is long enough (and, with `unique`, the only one). About one in
    10^5 is, for 30x30 and 111 steps, but one start in 4000 has such goals: so goals are drawn
    from those that are far enough, and a start with k of them is kept with a chance
    proportional to k. The chance reaches 1 where an eighth of the cells are far enough
    (`_far_share`): for 30x30 and 111 steps none of many had as many. Raises ValueError if no
    maze of such length is found.
    """
    size = maze.size
    batch, patience = max(64, AT_ONCE // maze.seq_len), PATIENCE
    if perfect:  # made one by one
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


def _chances(batch: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(*WALLS, (batch, 1, 1)).astype(np.float32)


def _far_share(maze: Maze, min_length: int) -> int:
    """With so many far cells a start is kept in any case: all, or an eighth if that is rare."""
    return maze.seq_len if min_length <= 2 * maze.size else maze.seq_len // 8


def far_cells(
    free: Bool[np.ndarray, "mazes size size"], start: Int[np.ndarray, " mazes"], length: int
) -> tuple[Int[np.ndarray, " kept"], Bool[np.ndarray, "kept cells"]]:
    """The mazes in which some cell is `length` or more steps away from the start; which cells are.

    Breadth-first search in all mazes at a time, with one integer for each of their rows: a shift
    moves the whole front of a row to the left or right. Mazes that are seen through are dropped.
    """
    mazes, size, _ = free.shape
    unseen = _as_bits(free)
    kept = np.arange(mazes)
    row, col = np.divmod(start, size)
    front = np.zeros_like(unseen)
    front[row, kept] = np.uint64(1) << col.astype(np.uint64)
    front &= unseen
    unseen ^= front
    for step in range(length):
        front = _next_front(front, unseen)
        if step % 8 == 7 or step == length - 1:
            going = front.any(axis=0)
            front, unseen, kept = front[:, going], unseen[:, going], kept[going]
    far = front.copy()
    while front.any():
        front = _next_front(front, unseen)
        far |= front
    bits = far.T[:, :, None] >> np.arange(size, dtype=np.uint64) & np.uint64(1)
    return kept, bits.reshape(len(kept), size**2).astype(bool)


def distances(
    is_open: Bool[np.ndarray, "mazes cells"],
    start: Int[np.ndarray, " mazes"],
    goal: Int[np.ndarray, " mazes"],
) -> Int[np.ndarray, " mazes"]:
    """Count the steps of the shortest way from start to goal in each maze; -1 if there is none."""
    size = math.isqrt(is_open.shape[1])
    unseen = _as_bits(is_open.reshape(-1, size, size))
    found, going = np.full(len(start), -1), np.arange(len(start))
    front, goals = np.zeros_like(unseen), np.zeros_like(unseen)
    for bits, cell in ((front, start), (goals, goal)):
        bits[cell // size, going] = np.uint64(1) << (cell % size).astype(np.uint64)
    unseen &= ~front
    step = 0
    while len(going):
        found[going[(front & goals).any(axis=0)]] = step
        if step % 8 == 0:
            on = (found[going] < 0) & front.any(axis=0)
            front, unseen, goals, going = front[:, on], unseen[:, on], goals[:, on], going[on]
        front = _next_front(front, unseen)
        step += 1
    return found


def _next_front(
    front: UInt64[np.ndarray, "size mazes"], unseen: UInt64[np.ndarray, "size mazes"]
) -> UInt64[np.ndarray, "size mazes"]:
    """The unseen cells next to the front, which are taken out of `unseen`."""
    one = np.uint64(1)
    new = front << one
    new |= front >> one
    new[1:] |= front[:-1]
    new[:-1] |= front[1:]
    new &= unseen
    unseen ^= new
    return new


def _as_bits(free: Bool[np.ndarray, "mazes size size"]) -> UInt64[np.ndarray, "size mazes"]:
    """Each row as an integer whose bit c is the cell of column c."""
    mazes, size, _ = free.shape
    rows = np.zeros((mazes, size, 8), np.uint8)
    packed = np.packbits(free, axis=2, bitorder="little")
    rows[:, :, : packed.shape[2]] = packed
    return np.ascontiguousarray(rows.view("<u8")[:, :, 0].T).astype(np.uint64)
