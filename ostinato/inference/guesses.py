"""Boards with guesses: a tree. The rules say what is possible in it, and the model what is likely.

A model that sees through easy puzzles, but not through this one, may see through it once a few more
cells are filled in. So a cell is guessed, and where that is not enough another one, the likeliest
boards first. A board is given up where some cell can hold nothing any more.
"""

import heapq
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from ostinato.data.task import Task


class Board(NamedTuple):
    """A puzzle with some guesses filled in."""

    order: float
    """Minus the likelihood, so that the likeliest board is the least."""
    key: bytes
    """Tells boards of the same likelihood apart, whichever came first."""
    tokens: Integer[np.ndarray, " cells"]

    @property
    def likelihood(self) -> float:
        """How likely all of its guesses are, if the puzzle has a single answer, says the model."""
        return -self.order


class Guesses:
    """The boards of a puzzle that have not been thought about yet."""

    def __init__(self, task: Task):
        self.task = task
        self.boards: list[Board] = []

    def branch(
        self,
        tokens: Integer[np.ndarray, " cells"],
        probabilities: Float[np.ndarray, "cells vocab"],
        likelihood: float = 1.0,
    ) -> None:
        """Add what may come of a board: one cell filled in, in every way that is possible.

        It is the cell with the fewest possible tokens, a forced one counting as if it had two, as
        there is little to learn from it; of several, the one that the model is least sure of.
        """
        possible = self.task.possible(tokens)
        count = possible.sum(1)
        blank = ~possible[np.arange(len(tokens)), tokens]
        if not blank.any() or not count[blank].all():
            return
        share = np.where(possible, probabilities + 1e-9, 0)
        share /= share.sum(1, keepdims=True).clip(1e-9)
        cells = np.flatnonzero(blank)
        cell = min(cells, key=lambda cell: (max(count[cell], 2), share[cell].max()))
        for token in np.flatnonzero(possible[cell]):
            board = tokens.copy()
            board[cell] = token
            order = -likelihood * float(share[cell, token])
            heapq.heappush(self.boards, Board(order, board.tobytes(), board))

    def take(self, count: int) -> list[Board]:
        """The likeliest boards, or as many as there are."""
        return [heapq.heappop(self.boards) for _ in range(min(count, len(self.boards)))]
