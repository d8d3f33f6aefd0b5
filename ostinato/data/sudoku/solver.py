"""Solve single boards exactly: singles on bit masks, then guesses.

The solver measures difficulty: a puzzle's rating is the number of guesses it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np
from jaxtyping import Integer, UInt8

from ostinato.data.sudoku.board import BLANK, Board


@dataclass(frozen=True)
class Solution:
    """Hold a solved board."""

    tokens: UInt8[np.ndarray, " cells"]
    """Board with a digit in every cell."""
    guesses: int
    """Number of guesses up to this solution; 0 if singles were enough."""


def solve(sudoku: Board, tokens: Integer[np.ndarray, " cells"]) -> Solution | None:
    """Return the first solution in the solver's fixed order, or None if there is none.

    Singles need no guess: cells with a single possible digit, and digits with a single possible
    cell in a row, column or box. A guess is the lowest digit in the first of the cells with the
    fewest possibilities; if it fails, the digit is ruled out.
    """
    return next(solutions(sudoku, tokens), None)


class TooManyGuesses(Exception):
    """The search reached its limit of guesses before it was complete."""


def count_solutions(sudoku: Board, tokens: Integer[np.ndarray, " cells"], limit: int = 2) -> int:
    """Count the solutions up to `limit`. A proper puzzle has 1 with the default limit of 2."""
    return sum(1 for _ in islice(solutions(sudoku, tokens), limit))


def rate(sudoku: Board, tokens: Integer[np.ndarray, " cells"]) -> int:
    """Count the guesses that `solve` needs. Raises ValueError for a puzzle without solution."""
    solution = solve(sudoku, tokens)
    if solution is None:
        raise ValueError(f"a puzzle without solution has no rating: {sudoku.format(tokens)}")
    return solution.guesses


def solutions(
    sudoku: Board, tokens: Integer[np.ndarray, " cells"], max_guesses: int | None = None
) -> Iterator[Solution]:
    """Yield every solution, depth first. Raises TooManyGuesses after `max_guesses`."""
    peers, units = _peers(sudoku), sudoku.units.tolist()
    board = [2**sudoku.size - 1] * sudoku.seq_len
    for cell, token in enumerate(np.asarray(tokens).tolist()):
        if sudoku.is_digit(token):
            digit = 1 << (token - BLANK - 1)
            if not (board[cell] & digit and _narrow(board, peers, cell, digit)):
                return
    guesses = 0
    pending = [board]
    while pending:
        board = pending.pop()
        if not _place_hidden_singles(board, peers, units):
            continue
        cell = _most_constrained(board)
        if cell is None:
            digits = [possible.bit_length() + BLANK for possible in board]
            yield Solution(np.array(digits, dtype=np.uint8), guesses)
            continue
        if guesses == max_guesses:
            raise TooManyGuesses
        guesses += 1
        digit = board[cell] & -board[cell]
        without = board.copy()
        if _narrow(without, peers, cell, board[cell] ^ digit):
            pending.append(without)
        if _narrow(board, peers, cell, digit):
            pending.append(board)


def _narrow(board: list[int], peers: list[list[int]], cell: int, possible: int) -> bool:
    """Restrict a cell to `possible` and draw the conclusions; return False on a contradiction."""
    board[cell] = possible
    settled = [] if possible & (possible - 1) else [cell]
    while settled:
        cell = settled.pop()
        digit = board[cell]
        for peer in peers[cell]:
            possible = board[peer]
            if possible & digit:
                possible ^= digit
                if not possible:
                    return False
                board[peer] = possible
                if not possible & (possible - 1):
                    settled.append(peer)
    return True


def _place_hidden_singles(board: list[int], peers: list[list[int]], units: list[list[int]]) -> bool:
    """Place digits with one possible cell in a unit until none is left; False on a contradiction.

    Without these, some puzzles of 17 givens need 300 000 guesses; with them, at most a few hundred.
    """
    placed = True
    while placed:
        placed = False
        for cells in units:
            once = twice = settled = 0
            for cell in cells:
                possible = board[cell]
                twice |= once & possible
                once |= possible
                if not possible & (possible - 1):
                    settled |= possible
            if hidden := once & ~twice & ~settled:
                placed = True
                for cell in cells:
                    digit = board[cell] & hidden
                    if digit & (digit - 1) or (digit and not _narrow(board, peers, cell, digit)):
                        return False
    return True


def _most_constrained(board: list[int]) -> int | None:
    fewest, chosen = len(board), None
    for cell, possible in enumerate(board):
        if possible & (possible - 1) and (count := possible.bit_count()) < fewest:
            if count == 2:
                return cell
            fewest, chosen = count, cell
    return chosen


@cache
def _peers(sudoku: Board) -> list[list[int]]:
    """Return the cells that share a row, column or box with each cell."""
    together = sudoku.units[sudoku.cell_units].reshape(sudoku.seq_len, -1)
    return [sorted(set(cells) - {cell}) for cell, cells in enumerate(together.tolist())]
