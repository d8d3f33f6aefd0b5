"""Symmetries of a board as tensors, and the eight symmetries of the square.

A symmetry gives another view of a puzzle; its inverse takes the answer back. HRM and TRM number the
symmetries of the square so (`dihedral_transform` in both released codes):

    0  identity                      4  mirrored left to right
    1  a quarter turn to the left    5  mirrored top to bottom
    2  half a turn                   6  transposed
    3  a quarter turn to the right   7  turned to the left, then mirrored left to right
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, Integer, Shaped
from torch import Tensor


class Symmetries(NamedTuple):
    """Hold a symmetry for every row of a batch, which moves cells and renames tokens.

    It covers every permutation of cells and tokens that keeps the rules: the digits, bands and
    stacks of a Sudoku, the turns and mirrors of a maze.
    """

    source: Int64[Tensor, "batch cells"]
    """Cell that each cell takes its token from."""
    names: Int64[Tensor, "batch vocab"]
    """New name of each token."""

    def apply(self, tokens: Integer[Tensor, "batch cells"]) -> Integer[Tensor, "batch cells"]:
        """Apply the symmetries to boards. Negative values (ignored labels) only move."""
        moved = tokens.gather(1, self.source)
        renamed = self.names.gather(1, moved.long().clamp(min=0)).to(moved.dtype)
        return torch.where(moved >= 0, renamed, moved)

    def inverse(self) -> "Symmetries":
        """Return the symmetries that undo these."""
        return Symmetries(self.source.argsort(1), self.names.argsort(1))


INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)
"""Inverse of each symmetry of the square."""
TURNING = (1, 3, 6, 7)
"""Symmetries that turn columns into rows."""


def transform(grid: Shaped[np.ndarray, "*batch rows cols"], number: int) -> np.ndarray:
    """Return a view of a grid, or of a batch of them, under symmetry `number` (see the module).

    A rectangle may change its shape. Raises ValueError for a number outside 0 to 7.
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
    raise ValueError(f"there is no symmetry {number}: give one from 0 to 7")


def undo(grid: Shaped[np.ndarray, "*batch rows cols"], number: int) -> np.ndarray:
    """Undo symmetry `number`: `undo(transform(grid, number), number)` equals `grid`."""
    return transform(grid, INVERSE[number])


def sources(size: int) -> Int64[np.ndarray, "8 cells"]:
    """Return, for each symmetry of a square of `size` rows, the old cell that each cell shows."""
    cells = np.arange(size**2).reshape(size, size)
    return np.stack([transform(cells, number).ravel() for number in range(8)])
