"""Paths through a maze: the shortest one, and the one that an answer marks.

A maze is a flat array of tokens, row by row; cells are numbered the same way. A step goes to one of
the four neighbouring cells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt64

PAD, WALL, FREE, START, GOAL, PATH = range(6)
"""Tokens. The maze builders of HRM and TRM number the characters "# SGo" from 1."""


def shortest_path(maze: Integer[np.ndarray, " cells"]) -> list[int] | None:
    """Return the cells of a shortest path from start to goal, both included; None if there is none.

    Among several, it is the one that breadth-first search finds when it looks down, left, right and
    up in this order. This rule reproduces the labels of Maze-Hard.
    """
    wide, unseen = _with_border(maze > WALL)
    start, goal = (_padded(int(np.argmax(maze == token)), wide) for token in (START, GOAL))
    came_from = {start: start}
    unseen[start] = False
    queue = [start]
    for cell in queue:
        if cell == goal:
            path = [cell]
            while cell != start:
                cell = came_from[cell]
                path.append(cell)
            return [_unpadded(cell, wide) for cell in reversed(path)]
        for neighbour in (cell + wide, cell - 1, cell + 1, cell - wide):
            if unseen[neighbour]:
                unseen[neighbour] = False
                came_from[neighbour] = cell
                queue.append(neighbour)
    return None


def has_one_shortest_path(maze: Integer[np.ndarray, " cells"]) -> bool:
    """Tell whether the maze has exactly one shortest path."""
    wide, is_open = _with_border(maze > WALL)
    start, goal = (_padded(int(np.argmax(maze == token)), wide) for token in (START, GOAL))
    steps, ways = {start: 0}, {start: 1}
    queue = [start]
    for cell in queue:
        if cell == goal:
            return ways[goal] == 1
        for neighbour in (cell + wide, cell - 1, cell + 1, cell - wide):
            if is_open[neighbour]:
                if neighbour not in steps:
                    steps[neighbour], ways[neighbour] = steps[cell] + 1, 0
                    queue.append(neighbour)
                if steps[neighbour] == steps[cell] + 1:
                    ways[neighbour] += ways[cell]
    return False


class Route(NamedTuple):
    """Hold the path that the marks of an answer form."""

    cells: list[int]
    """Cells from the start on, as long as there is exactly one way to continue."""
    ways_on: int
    """Number of ways to continue from the last cell; 0 if it is the goal."""


def follow(answer: Integer[np.ndarray, " cells"]) -> Route:
    """Walk from the start along marked cells (path and goal). There must be one start and one goal.

    The walk ends at the goal, at a fork or at a dead end. It never chooses among ways. So a path
    that touches itself, whose direction the marks leave open, ends where it first touches. A
    shortest path never touches itself.
    """
    wide, marked = _with_border(answer > START)
    cell = _padded(int(np.argmax(answer == START)), wide)
    goal = _padded(int(np.argmax(answer == GOAL)), wide)
    cells = [cell]
    while True:
        marked[cell] = False
        ways = [n for n in (cell + wide, cell - 1, cell + 1, cell - wide) if marked[n]]
        if cell == goal or len(ways) != 1:
            ways_on = 0 if cell == goal else len(ways)
            return Route([_unpadded(cell, wide) for cell in cells], ways_on)
        (cell,) = ways
        cells.append(cell)


def _with_border(cells: np.ndarray) -> tuple[int, list[bool]]:
    """Return the width of a row with borders, and the cells with a border of False around them."""
    size = math.isqrt(len(cells))
    return size + 2, np.pad(cells.reshape(size, size), 1).ravel().tolist()


def _padded(cell: int, wide: int) -> int:
    row, col = divmod(cell, wide - 2)
    return (row + 1) * wide + col + 1


def _unpadded(cell: int, wide: int) -> int:
    row, col = divmod(cell, wide)
    return (row - 1) * (wide - 2) + col - 1


def far_cells(
    free: Bool[np.ndarray, "mazes size size"], start: Int[np.ndarray, " mazes"], length: int
) -> tuple[Int[np.ndarray, " kept"], Bool[np.ndarray, "kept cells"]]:
    """Find the mazes with a cell at least `length` steps from the start, and those cells.

    A breadth-first search runs in all mazes at once, with one integer for each row: a shift moves
    the whole front of a row to the left or right. Mazes that are fully explored are dropped.
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
    """Count the steps of the shortest path from start to goal in each maze; -1 if there is none."""
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
    """Return the unseen cells next to the front, and remove them from `unseen`."""
    one = np.uint64(1)
    new = front << one
    new |= front >> one
    new[1:] |= front[:-1]
    new[:-1] |= front[1:]
    new &= unseen
    unseen ^= new
    return new


def _as_bits(free: Bool[np.ndarray, "mazes size size"]) -> UInt64[np.ndarray, "size mazes"]:
    """Encode each row as an integer whose bit c is the cell of column c."""
    mazes, size, _ = free.shape
    rows = np.zeros((mazes, size, 8), np.uint8)
    packed = np.packbits(free, axis=2, bitorder="little")
    rows[:, :, : packed.shape[2]] = packed
    return np.ascontiguousarray(rows.view("<u8")[:, :, 0].T).astype(np.uint64)
