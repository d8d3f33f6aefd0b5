"""Grids of ARC as tokens on a square canvas, and back.

A token is 0 for an empty cell, 1 for an end, or colour + 2. A grid has ends in the row just below
it and in the column just right of it, unless these are off the canvas:

    5 6 1 0
    7 8 1 0        the grid 3 4 / 5 6 in the corner of a 4×4 canvas
    1 1 0 0
    0 0 0 0

Source: `np_grid_to_seq_translational_augment` and the evaluator's `_crop` in the released codes.
"""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from jaxtyping import Integer, UInt8

Grid: TypeAlias = UInt8[np.ndarray, "_ _"]
"""Colours, 0 to 9; rows and columns."""

PAD, END, FIRST_COLOUR = 0, 1, 2
COLOURS = 10
VOCAB_SIZE = FIRST_COLOUR + COLOURS
PALETTE = "#000000 #0074D9 #FF4136 #2ECC40 #FFDC00 #AAAAAA #F012BE #FF851B #7FDBFF #870C25".split()
"""The colours as the ARC Prize shows them: black, blue, red, green, yellow, grey, …"""
CANVAS = 30
"""Rows and columns of the canvas of HRM and TRM; no grid of ARC has more."""


def place(
    canvas: UInt8[np.ndarray, "side side"],
    tokens: UInt8[np.ndarray, "rows cols"],
    row: int,
    col: int,
) -> None:
    """Put a grid of colour tokens at (row, col) of an empty canvas, with its ends."""
    below, right = row + tokens.shape[0], col + tokens.shape[1]
    canvas[row:below, col:right] = tokens
    canvas[below : below + 1, col:right] = END
    canvas[row:below, right : right + 1] = END


def crops(tokens: Integer[np.ndarray, "batch cells"]) -> Iterator[Grid]:
    """Yield the grid of each row: the largest rectangle of only colours in the upper left corner.

    Among equally large ones, take the one with the fewest rows. The shape is (0, 0) if the corner
    is not a colour.
    """
    side = round(tokens.shape[1] ** 0.5)
    canvases = tokens.reshape(-1, side, side)
    coloured = (canvases >= FIRST_COLOUR) & (canvases < VOCAB_SIZE)
    lengths = np.logical_and.accumulate(coloured, axis=2).sum(2)  # coloured cells at a row's start
    widths = np.minimum.accumulate(lengths, axis=1)  # width of a rectangle down to this row
    areas = widths * np.arange(1, side + 1)
    last = areas.argmax(1)
    for canvas, row, width in zip(canvases, last, widths[np.arange(len(last)), last], strict=True):
        yield (canvas[: row + 1 if width else 0, :width] - FIRST_COLOUR).astype(np.uint8)
