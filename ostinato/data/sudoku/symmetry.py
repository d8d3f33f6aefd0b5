"""Draw symmetries of Sudoku, and recognise the symmetric copies of a puzzle.

A symmetry renames the digits, and permutes the bands, the rows within each band, the stacks and the
columns within each stack. If the boxes are square, it may transpose the board first. Source: the
Sudoku builders of HRM and TRM.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Integer, UInt64

from ostinato.data.sudoku.board import BLANK, Board
from ostinato.data.symmetries import Symmetries

ROUNDS = 4  # rounds of refinement; three already tell apart all 4x4 puzzles that more rounds do


def draw_symmetries(sudoku: Board, batch: int, generator: torch.Generator) -> Symmetries:
    """Draw symmetries, uniform over the group, on the generator's device."""
    size, device = sudoku.size, generator.device
    # One sort gives all three orders. A key's high bits come from the first place of its band or
    # stack, its low bits are its own; the leader's number between them breaks ties.
    place = torch.arange(size, device=device)
    leader = torch.stack(
        [place - place % sudoku.box_rows, place - place % sudoku.box_cols, place * 0]
    )
    draws = torch.empty(batch, 3, size, dtype=torch.long, device=device).random_(
        generator=generator
    )
    group = draws.gather(2, leader.expand(batch, 3, size)) >> 32 << 32
    orders = (group + (leader << 28) + (draws & (2**28 - 1))).argsort(dim=2)
    rows, cols, digits = orders.unbind(1)

    row_step = torch.full((batch, 1), size, device=device)
    if sudoku.box_rows == sudoku.box_cols:
        transposed = torch.randint(2, (batch, 1), generator=generator, device=device)
        row_step = torch.where(transposed == 1, 1, size)
    col_step = size + 1 - row_step
    source = (rows * row_step)[:, :, None] + (cols * col_step)[:, None, :]
    others = torch.arange(BLANK + 1, device=device).expand(batch, -1)
    return Symmetries(source.flatten(1), torch.cat([others, digits + BLANK + 1], dim=1))


def signature(
    sudoku: Board,
    puzzles: Integer[np.ndarray, "puzzles cells"],
    solutions: Integer[np.ndarray, "puzzles cells"],
) -> UInt64[np.ndarray, " puzzles"]:
    """Compute a number that symmetric copies share and other puzzles almost never have.

    This is colour refinement: every cell starts as "given" or "blank" and repeatedly absorbs a hash
    of the colours in its row, column and box, and in the cells of the same digit. Sums make the
    order irrelevant. Puzzles that refinement cannot tell apart count as copies, which errs on the
    safe side for disjoint data sets.
    """
    chunks = [slice(start, start + 1024) for start in range(0, len(puzzles), 1024)]
    parts = [_refine(sudoku, puzzles[chunk] > BLANK, solutions[chunk]) for chunk in chunks]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _refine(
    sudoku: Board,
    given: Bool[np.ndarray, "puzzles cells"],
    solutions: Integer[np.ndarray, "puzzles cells"],
) -> UInt64[np.ndarray, " puzzles"]:
    size, box_rows, box_cols = sudoku.size, sudoku.box_rows, sudoku.box_cols
    count = len(given)
    by_digit = np.argsort(solutions, axis=1, kind="stable")
    digit_of = (solutions - (BLANK + 1)).astype(np.intp)
    colors = _mix(given + np.uint64(1))
    for _ in range(ROUNDS):
        board = colors.reshape(count, size, size)
        # Rows and columns are treated alike, so that a transposed board looks the same.
        rows, cols = _mix(board.sum(axis=2)), _mix(board.sum(axis=1))
        boxes = colors.reshape(count, box_cols, box_rows, box_rows, box_cols).sum(axis=(2, 4))
        boxes = _mix(boxes + np.uint64(1)).repeat(box_rows, axis=1).repeat(box_cols, axis=2)
        digits = np.take_along_axis(colors, by_digit, axis=1).reshape(count, size, size).sum(axis=2)
        digits = np.take_along_axis(_mix(digits + np.uint64(2)), digit_of, axis=1)
        board = _mix(board) + rows[:, :, None] + cols[:, None, :] + boxes
        colors = _mix(board.reshape(count, -1) + digits)
    return _mix(colors.sum(axis=1))


def _mix(x: np.ndarray) -> np.ndarray:
    """Scatter 64 bits over 64 bits, one to one (the finaliser of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
