"""Symmetries of a board as tensors: another view of a puzzle, and the way back for its answer."""

from typing import NamedTuple

import torch
from jaxtyping import Int64, Integer
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
