"""The eight symmetries of the square, under the numbers that HRM and TRM give them.

    0  as it is                        4  mirrored, left and right changed
    1  a quarter turn to the left      5  mirrored, top and bottom changed
    2  half a turn                     6  transposed
    3  a quarter turn to the right     7  turned to the left, then mirrored as by 4

Source: `dihedral_transform` in both released codes.
"""

import numpy as np
from jaxtyping import Int64, Shaped

INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)
"""Which symmetry undoes each one."""
TURNING = (1, 3, 6, 7)
"""The symmetries that make rows of columns."""


def transform(grid: Shaped[np.ndarray, "*batch rows cols"], number: int) -> np.ndarray:
    """The grid, or a batch of them, after symmetry `number`: a view. Rectangles may change shape.

    Raises ValueError for a number outside 0 to 7.
    """
    match number:
        case 0:
            return grid
        case 1 | 2 | 3:
            return np.rot90(grid, number, axes=(-2, -1))
        case 4:
            return grid[..., ::-1]
        case 5:
            return grid[..., ::-1, :]
        case 6:
            return grid.swapaxes(-2, -1)
        case 7:
            return np.rot90(grid, axes=(-2, -1))[..., ::-1]
    raise ValueError(f"there is no symmetry {number}: the square has those from 0 to 7")


def undo(grid: Shaped[np.ndarray, "*batch rows cols"], number: int) -> np.ndarray:
    """The grid before symmetry `number`: `undo(transform(grid, number), number)` is `grid`."""
    return transform(grid, INVERSE[number])


def sources(size: int) -> Int64[np.ndarray, "8 cells"]:
    """For each symmetry of a square of `size` rows, which cell of the old grid each cell shows."""
    cells = np.arange(size**2).reshape(size, size)
    return np.stack([transform(cells, number).ravel() for number in range(8)])
