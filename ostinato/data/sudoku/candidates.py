"""Many boards at once: candidate digits as bit masks, and an exact search over all of them.

Boards stand side by side in an array [cells, boards] of uint16; bit d - 1 of an entry says that
the cell may still hold digit d. One numpy call then does a step of the logic for every board.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Integer, UInt16

from ostinato.data.sudoku.board import BLANK, Board

Candidates = UInt16[np.ndarray, "cells boards"]


def full_mask(sudoku: Board) -> np.uint16:
    """All digits are possible."""
    return np.uint16(2**sudoku.size - 1)


def candidates_of(sudoku: Board, tokens: Integer[np.ndarray, "boards cells"]) -> Candidates:
    """One candidate where a digit is given, all of them elsewhere; no conclusions drawn yet."""
    bits = np.full(sudoku.vocab_size, full_mask(sudoku))
    bits[BLANK + 1 :] = 1 << np.arange(sudoku.size)
    return np.ascontiguousarray(bits[tokens.T])


def tokens_of(sudoku: Board, candidates: Candidates) -> Integer[np.ndarray, "boards cells"]:
    """The digits of the cells with one candidate, blanks elsewhere."""
    token = np.full(2**sudoku.size, BLANK, dtype=np.uint8)
    token[1 << np.arange(sudoku.size)] = BLANK + 1 + np.arange(sudoku.size)
    return np.ascontiguousarray(token[candidates].T)


def sweep(
    sudoku: Board, candidates: Candidates
) -> tuple[Candidates, Bool[np.ndarray, " boards"], Bool[np.ndarray, " boards"]]:
    """One round of singles: the new candidates, and which boards are possible and which solved.

    A cell with one candidate takes it from its row, column and box; a digit with one place in a
    unit takes that place. A board is impossible if a cell has no candidate or a unit no place for
    some digit. It is solved if every cell had a single candidate and every unit all digits.
    """
    is_open = (candidates & (candidates - np.uint16(1))) != 0
    settled = candidates * ~is_open
    members = candidates[sudoku.units.T]  # the first cell of every unit, then the second, …
    once = np.zeros(members.shape[1:], dtype=np.uint16)
    twice = np.zeros_like(once)
    for member in members:
        twice |= once & member
        once |= member
    taken = np.bitwise_or.reduce(settled[sudoku.units.T], axis=0)
    possible = (once == full_mask(sudoku)).all(axis=0)
    solved = possible & ~is_open.any(axis=0)

    only_place = once & ~twice
    row, col, box = sudoku.cell_units.T
    forced = candidates & (only_place[row] | only_place[col] | only_place[box])
    remaining = np.where(forced != 0, forced, candidates)
    remaining &= ~(taken[row] | taken[col] | taken[box])
    remaining |= settled
    possible &= remaining.all(axis=0)
    return remaining, possible, solved


def solvable(sudoku: Board, candidates: Candidates) -> Bool[np.ndarray, " boards"]:
    """Whether each board has a solution within its candidates: exact, by singles and branching."""
    found = np.zeros(candidates.shape[1], dtype=bool)
    owner = np.arange(candidates.shape[1])
    while owner.size:
        remaining, possible, solved = sweep(sudoku, candidates)
        found[owner[solved]] = True
        pending = possible & ~found[owner]
        stalled = pending & (remaining == candidates).all(axis=0)
        moving = pending & ~stalled
        if stalled.any():
            stuck = remaining[:, stalled]
            cell, columns = most_constrained(sudoku, stuck), np.arange(stuck.shape[1])
            digit = stuck[cell, columns] & -stuck[cell, columns]
            other = stuck.copy()
            other[cell, columns] ^= digit
            stuck[cell, columns] = digit
            candidates = np.concatenate([remaining[:, moving], stuck, other], axis=1)
            owner = np.concatenate([owner[moving], owner[stalled], owner[stalled]])
        else:
            candidates, owner = remaining[:, moving], owner[moving]
    return found


def most_constrained(
    sudoku: Board, candidates: Candidates, rng: np.random.Generator | None = None
) -> Integer[np.ndarray, " boards"]:
    """The open cell with the fewest candidates; with `rng`, a random one among equals."""
    count = np.bitwise_count(candidates).astype(np.float32)
    count[count < 2] = np.inf
    if rng is not None:
        count += rng.random(count.shape, dtype=np.float32) / 2
    return count.argmin(axis=0)
