"""Perfect mazes: corridors without loops, so that a single way leads from any cell to any other."""

import numpy as np
from jaxtyping import Bool


def perfect_mazes(
    count: int, size: int, rng: np.random.Generator
) -> Bool[np.ndarray, "mazes size size"]:
    """The free cells of random mazes of an odd `size`.

    Every second cell of every second row is a room. The walls between neighbouring rooms fall in
    random order, each if its rooms are not yet connected: a spanning tree of minimum weight, with
    random weights (Kruskal 1956).
    """
    assert size % 2, "rooms would touch the border on two sides alone"
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
    """The room that stands for all that `room` is connected with."""
    while parents[room] != room:
        parents[room] = parents[parents[room]]
        room = parents[room]
    return room
