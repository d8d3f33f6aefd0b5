"""Symmetries of a board as tensors: another view of a puzzle, and the way back for its answer."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, Integer, Shaped
from torch import Tensor


class Symmetries(NamedTuple):
    """A symmetry for every row of a batch: cells change places, and tokens their names.

    Whatever permutes cells and tokens without touching the rules can be written so: the digits,
    bands and stacks of a Sudoku, the turns and mirrors of a maze.
    """

    source: Int64[Tensor, "batch cells"]
    """The cell whose token comes to stand in each cell."""
    names: Int64[Tensor, "batch vocab"]
    """The new name of each token."""

    def apply(self, tokens: Integer[Tensor, "batch cells"]) -> Integer[Tensor, "batch cells"]:
        """The boards as their symmetries show them; negative values (ignored labels) just move."""
        moved = tokens.gather(1, self.source)
        renamed = self.names.gather(1, moved.long().clamp(min=0)).to(moved.dtype)
        return torch.where(moved >= 0, renamed, moved)

    def inverse(self) -> "Symmetries":
        """The symmetries that undo these."""
        return Symmetries(self.source.argsort(1), self.names.argsort(1))


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
