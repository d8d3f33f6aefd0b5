"""A reference for the other Sudoku tests, written without the package, and known facts about it.

Boards are strings of digits and dots.
"""

from collections.abc import Iterator
from functools import cache
from itertools import permutations, product

import numpy as np

KNOWN_PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
KNOWN_ANSWER = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3), 16: (4, 4)}


@cache
def peers(size: int) -> list[set[int]]:
    """The cells that must differ from each cell."""

    def related(a: int, b: int) -> bool:
        (row_a, col_a), (row_b, col_b) = divmod(a, size), divmod(b, size)
        rows, cols = BOXES[size]
        box = row_a // rows == row_b // rows and col_a // cols == col_b // cols
        return a != b and (row_a == row_b or col_a == col_b or box)

    cells = range(size**2)
    return [{b for b in cells if related(a, b)} for a in cells]


def is_solved(board: str, size: int) -> bool:
    return "." not in board and all(
        board[cell] not in {board[peer] for peer in peers(size)[cell]} for cell in range(size**2)
    )


def solutions(board: str, size: int) -> Iterator[str]:
    """All solutions, by trying every digit that no peer holds, most constrained cell first."""
    allowed = {}
    for cell in range(size**2):
        if board[cell] == ".":
            taken = {board[peer] for peer in peers(size)[cell]}
            allowed[cell] = [d for d in "123456789ABCDEFG"[:size] if d not in taken]
    if not allowed:
        yield board
        return
    cell = min(allowed, key=lambda cell: len(allowed[cell]))
    for digit in allowed[cell]:
        yield from solutions(board[:cell] + digit + board[cell + 1 :], size)


@cache
def grids_4x4() -> list[str]:
    return list(solutions("." * 16, 4))


@cache
def symmetries_4x4() -> tuple[np.ndarray, np.ndarray]:
    """128 orders of the cells (rows, columns, transposition), and 24 new names for characters."""
    lines = [line for line in permutations(range(4)) if line[0] // 2 == line[1] // 2]
    orders = []
    for rows, cols in product(lines, lines):
        orders.append([4 * row + col for row in rows for col in cols])
        orders.append([4 * col + row for row in rows for col in cols])
    names = np.tile(np.arange(256, dtype=np.uint8), (24, 1))
    names[:, ord("1") : ord("5")] = list(permutations(b"1234"))
    return np.array(orders), names


def images_4x4(board: str) -> set[str]:
    """Every symmetric copy of a board; of two boards side by side if it has 32 characters."""
    orders, names = symmetries_4x4()
    cells = np.concatenate([orders + start for start in range(0, len(board), 16)], axis=1)
    images = names[:, np.frombuffer(board.encode(), np.uint8)[cells]]
    text = images.tobytes().decode()
    return {text[start : start + len(board)] for start in range(0, len(text), len(board))}


def test_there_are_288_grids_of_4x4():
    assert len(grids_4x4()) == len(set(grids_4x4())) == 288
    assert all(is_solved(grid, 4) for grid in grids_4x4())


def test_there_are_3072_symmetries_of_4x4_and_two_classes_of_grids():
    orders, names = symmetries_4x4()
    assert len(np.unique(orders, axis=0)) * len(np.unique(names, axis=0)) == 3072
    first = images_4x4(grids_4x4()[0])
    rest = set(grids_4x4()) - first
    assert first < set(grids_4x4())
    assert images_4x4(min(rest)) == rest


def test_the_brute_force_solver_finds_all_solutions():
    assert len(list(solutions("1" + "." * 15, 4))) == 288 / 4
    assert list(solutions("11" + "." * 14, 4)) == []
    assert list(solutions(KNOWN_PUZZLE, 9)) == [KNOWN_ANSWER]
