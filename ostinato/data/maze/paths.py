"""Ways through a maze: the shortest one, and the one that an answer marks.

A maze is a flat array of tokens, row by row; cells are numbered the same way. Every step goes to
one of the four cells next to it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

PAD, WALL, FREE, START, GOAL, PATH = range(6)
"""Tokens. Source: the Maze builders of HRM and TRM, which number the characters "# SGo" from 1."""


def shortest_path(maze: Integer[np.ndarray, " cells"]) -> list[int] | None:
    """The cells from start to goal, both included, along one of the shortest ways; None if no way.

    Of several it is the one that breadth-first search finds when it looks down, left, right, up in
    this order: the rule that reproduces the labels of Maze-Hard.
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
    """Whether exactly one way from start to goal takes as few steps as possible."""
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
    """Where the marks of an answer lead."""

    cells: list[int]
    """From the start on, as far as there is exactly one way to go on."""
    ways_on: int
    """How many ways lead on from the last of the cells: 0 if it is the goal."""


def follow(answer: Integer[np.ndarray, " cells"]) -> Route:
    """Walk from the start along marked cells (path and goal), which must be there exactly once.

    The walk ends at the goal, at a fork or at a dead end. It never meets a fork that it chose
    among: so a path that touches itself, where marks alone do not say which way it goes, ends where
    that begins. A shortest path never touches itself.
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
    """The cells with a border of False around them, as a list, and how many a row has then."""
    size = math.isqrt(len(cells))
    return size + 2, np.pad(cells.reshape(size, size), 1).ravel().tolist()


def _padded(cell: int, wide: int) -> int:
    row, col = divmod(cell, wide - 2)
    return (row + 1) * wide + col + 1


def _unpadded(cell: int, wide: int) -> int:
    row, col = divmod(cell, wide)
    return (row - 1) * (wide - 2) + col - 1
