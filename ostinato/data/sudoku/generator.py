"""Generate random Sudokus with exactly one solution and a given number of givens.

Many boards are handled at once, with candidate digits as bit masks. Boards stand side by side in an
array [cells, boards] of uint16; bit d - 1 of an entry says that the cell may still hold digit d.
One numpy call then does a step of the logic for every board.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Integer, UInt8, UInt16

from ostinato.data.sudoku.board import BLANK, Board

BATCH = 1024  # boards at once: enough to hide numpy's overhead, few enough for the cache
PATIENCE = 5000  # boards tried in a row without success before a number of givens is given up


def generate(
    sudoku: Board, count: int, givens: tuple[int, int], seed: int
) -> tuple[UInt8[np.ndarray, "count cells"], UInt8[np.ndarray, "count cells"]]:
    """Return tokens of `count` puzzles and of their solutions; a seed always gives the same ones.

    The number of givens is drawn uniformly from `givens` (both ends included) for each puzzle. A
    puzzle starts from a random solved board; cells are removed in random order as long as the
    solution stays unique. Uniqueness is checked exactly, so some puzzles need guesses. Raises
    ValueError if the number of givens cannot be reached.
    """
    check_givens(sudoku, givens)
    low, high = givens
    rng = np.random.default_rng(seed)
    wishes = rng.integers(low, high, size=count, endpoint=True)
    puzzles = np.zeros((count, sudoku.seq_len), dtype=np.uint8)
    solutions = np.zeros_like(puzzles)
    open_wishes = np.arange(count)
    failures, attempts = 0, 1
    while open_wishes.size:
        # Hard wishes remain, so ever more boards try the same wish, up to a fair batch.
        tries = open_wishes[:BATCH].repeat(min(attempts, max(1, BATCH // 4 // open_wishes.size)))
        attempts *= 4
        grids = solved_boards(sudoku, len(tries), rng)
        boards = remove_cells(sudoku, grids, wishes[tries], rng)
        reached = (boards > BLANK).sum(axis=1) == wishes[tries]
        met, first = np.unique(tries[reached], return_index=True)
        puzzles[met], solutions[met] = boards[reached][first], grids[reached][first]
        open_wishes = np.setdiff1d(open_wishes, met)
        failures = 0 if met.size else failures + len(tries)
        if failures >= PATIENCE:
            raise ValueError(
                f"found no {sudoku.name} puzzle with {wishes[open_wishes].min()} givens "
                f"in {failures} boards: raise the smallest number of givens ({low})"
            )
    return puzzles, solutions


def check_givens(sudoku: Board, givens: tuple[int, int]) -> None:
    """Raise ValueError if no puzzle can have so few or so many givens."""
    low, high = givens
    if not sudoku.fewest_givens <= low <= high <= sudoku.seq_len:
        raise ValueError(
            f"givens from {low} to {high} are impossible for {sudoku.name}: choose a range "
            f"within {sudoku.fewest_givens} to {sudoku.seq_len}"
        )


def solved_boards(
    sudoku: Board, count: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "count cells"]:
    """Draw solved boards: put random digits in the most constrained cells, and drop dead ends."""
    boards = np.zeros((0, sudoku.seq_len), dtype=np.uint8)
    while (missing := count - len(boards)) > 0:
        # About one board in ten runs into a dead end.
        boards = np.concatenate([boards, _fill(sudoku, missing + missing // 8 + 8, rng)])
    return rng.permutation(boards)[:count]  # the quickly filled ones come first


def _fill(
    sudoku: Board, attempts: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "boards cells"]:
    candidates = np.full((sudoku.seq_len, attempts), full_mask(sudoku))
    done = []
    while candidates.shape[1]:
        remaining, possible, solved = sweep(sudoku, candidates)
        done.append(tokens_of(sudoku, candidates[:, solved]))
        pending = possible & ~solved
        stalled = np.flatnonzero(pending & (remaining == candidates).all(axis=0))
        if stalled.size:
            cell = most_constrained(sudoku, remaining[:, stalled], rng)
            allowed = remaining[cell, stalled]
            bits = np.uint16(1) << np.arange(sudoku.size, dtype=np.uint16)
            draw = rng.random((stalled.size, sudoku.size)) * ((allowed[:, None] & bits) != 0)
            remaining[cell, stalled] = bits[draw.argmax(axis=1)]
        candidates = remaining[:, pending]
    return np.concatenate(done)


def remove_cells(
    sudoku: Board,
    grids: UInt8[np.ndarray, "boards cells"],
    wishes: Integer[np.ndarray, " boards"],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "boards cells"]:
    """Blank cells in random order, down to `wishes` givens or until no cell can be removed.

    A cell can be removed if the other givens allow no solution with another digit in it, so that
    the solution stays unique.
    """
    puzzles = grids.copy()
    order = rng.permuted(np.tile(np.arange(sudoku.seq_len), (len(grids), 1)), axis=1)
    left = np.full(len(grids), sudoku.seq_len)
    for cells in order.T:
        boards = np.flatnonzero(left > wishes)
        if not boards.size:
            break
        cell = cells[boards]
        candidates = candidates_of(sudoku, puzzles[boards])
        candidates[cell, np.arange(boards.size)] ^= full_mask(sudoku)
        removable = ~solvable(sudoku, candidates)
        puzzles[boards[removable], cell[removable]] = BLANK
        left[boards[removable]] -= 1
    return puzzles


Candidates = UInt16[np.ndarray, "cells boards"]
"""Bit d - 1 of an entry: the cell may still hold digit d."""


def full_mask(sudoku: Board) -> np.uint16:
    """Return the mask in which all digits are possible."""
    return np.uint16(2**sudoku.size - 1)


def candidates_of(sudoku: Board, tokens: Integer[np.ndarray, "boards cells"]) -> Candidates:
    """Return one candidate where a digit is given, and all elsewhere, without any conclusions."""
    bits = np.full(sudoku.vocab_size, full_mask(sudoku))
    bits[BLANK + 1 :] = 1 << np.arange(sudoku.size)
    return np.ascontiguousarray(bits[tokens.T])


def tokens_of(sudoku: Board, candidates: Candidates) -> Integer[np.ndarray, "boards cells"]:
    """Return the digits of cells with one candidate, and blanks elsewhere."""
    token = np.full(2**sudoku.size, BLANK, dtype=np.uint8)
    token[1 << np.arange(sudoku.size)] = BLANK + 1 + np.arange(sudoku.size)
    return np.ascontiguousarray(token[candidates].T)


def sweep(
    sudoku: Board, candidates: Candidates
) -> tuple[Candidates, Bool[np.ndarray, " boards"], Bool[np.ndarray, " boards"]]:
    """Apply one round of singles; return new candidates, possible boards and solved boards.

    A cell with one candidate removes it from its row, column and box; a digit with one place in a
    unit takes that place. A board is impossible if a cell has no candidate, or a unit no place for
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
    """Tell exactly, by singles and branching, which boards have a solution in their candidates."""
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
    """Find the open cell with the fewest candidates; with `rng`, a random one among equals."""
    count = np.bitwise_count(candidates).astype(np.float32)
    count[count < 2] = np.inf
    if rng is not None:
        count += rng.random(count.shape, dtype=np.float32) / 2
    return count.argmin(axis=0)
