"""Mazes seen another way: distances by relaxation, paths by trying all."""

import numpy as np

STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1))


def board_of(text: str) -> np.ndarray:
    """Characters of a board written with lines."""
    return np.array([list(line) for line in text.strip("\n").split("\n")])


def distances(board: np.ndarray) -> np.ndarray:
    """Steps from S to every cell; infinite for walls and what cannot be reached.

    Relaxation (Bellman and Ford) over the whole board until nothing changes any more.
    """
    found = np.where(board == "S", 0.0, np.inf)
    while True:
        padded = np.pad(found, 1, constant_values=np.inf)
        around = [padded[2:, 1:-1], padded[:-2, 1:-1], padded[1:-1, 2:], padded[1:-1, :-2]]
        new = np.where(board == "#", np.inf, np.minimum(found, np.min(around, axis=0) + 1))
        if (new == found).all():
            return found
        found = new


def length(board: np.ndarray) -> float:
    """Steps of the shortest path from S to G."""
    return float(distances(board)[board == "G"][0])


def simple_paths(board: np.ndarray) -> list[list[tuple[int, int]]]:
    """Every way from S to G that visits no cell twice."""
    rows, cols = board.shape
    (start,) = np.argwhere(board == "S").tolist()
    found = []

    def walk(path: list[tuple[int, int]]) -> None:
        row, col = path[-1]
        if board[row, col] == "G":
            found.append(path)
            return
        for down, right in STEPS:
            cell = row + down, col + right
            inside = 0 <= cell[0] < rows and 0 <= cell[1] < cols
            if inside and cell not in path and board[cell] != "#":
                walk([*path, cell])

    walk([tuple(start)])
    return found


def touches_itself(path: list[tuple[int, int]]) -> bool:
    """Tell whether two cells of a path are neighbours without following each other."""
    return any(
        abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1
        for place, a in enumerate(path)
        for b in path[place + 2 :]
    )


def marked(board: np.ndarray, cells: list[tuple[int, int]]) -> np.ndarray:
    """The board with an o in each of these cells that is free."""
    new = board.copy()
    for cell in cells:
        if new[cell] not in "SG":
            new[cell] = "o"
    return new


def in_words(board: np.ndarray) -> str:
    return "".join(board.ravel().tolist())
