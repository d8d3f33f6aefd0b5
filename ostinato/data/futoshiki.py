"""Futoshiki: each digit once in every row and column, and all signs between cells true.

The board has a character for every cell and for every place between two of them:

    1 to 9   digit               <  >   left of it is less, or more
    .        blank cell          ^  v   above it is less, or more
                                 -      no sign
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import ClassVar

import numpy as np
from jaxtyping import Integer

from ostinato.data.grid import Grid, Mistake
from ostinato.data.group import Group
from ostinato.data.symmetries import sources, transform

SIGNS = (0.15, 0.6)
"""Range from which each puzzle's share of places between cells with a sign is drawn."""
SMALLER = {"<": (1, 0), ">": (1, 2), "^": (0, 1), "v": (2, 1)}
"""Sign → place of the smaller cell in the square of 3×3 around it."""


@dataclass(frozen=True)
class Futoshiki(Grid):
    """Fill in digits, each once in every row and column, so that all signs are true."""

    size: int = 5
    """Cells in a row, from 4 to 9."""

    kind: ClassVar[str] = "futoshiki"
    sizes: ClassVar[Sequence[int]] = range(4, 10)

    @property
    def side(self) -> int:
        return 2 * self.size - 1

    @property
    def fills(self) -> str:
        return "123456789"[: self.size]

    @property
    def letters(self) -> str:
        return f".{self.fills}<>^v-"

    def picture(self, symbol: str) -> str:
        return " " if symbol == "-" else symbol

    @cached_property
    def group(self) -> Group:
        """Return the square's symmetries, with digits unchanged or reversed; signs turn along."""
        moves, renames = [], []
        for number, move in enumerate(sources(self.side)):
            for reverse in (False, True):
                names = np.arange(self.vocab_size)
                if reverse:
                    digits = [self.tokens[digit] for digit in self.fills]
                    names[digits] = digits[::-1]
                for sign, (row, col) in SMALLER.items():
                    around = np.zeros((3, 3), int)
                    around[row, col] = 1
                    if reverse:
                        around = around[::-1, ::-1]
                    turned = transform(around, number)
                    names[self.tokens[sign]] = next(
                        self.tokens[other] for other, place in SMALLER.items() if turned[place]
                    )
                moves.append(move)
                renames.append(names)
        return Group(np.stack(moves), np.stack(renames))

    def pairs(self, board: np.ndarray) -> list[tuple[int, int]]:
        """Find the pairs of cells, numbered on the board, whose first cell is less by a sign."""
        found = []
        for row, col in np.argwhere(board > self.tokens[self.fills[-1]]).tolist():
            sign = self.symbols[board[row, col]]
            if sign in SMALLER:
                down, right = (place - 1 for place in SMALLER[sign])
                less, more = ((row + s * down) * self.side + col + s * right for s in (1, -1))
                found.append((less, more))
        return found

    def mistakes(
        self, puzzle: Integer[np.ndarray, "side side"], answer: Integer[np.ndarray, "side side"]
    ) -> Iterator[Mistake]:
        numbers = np.arange(self.seq_len).reshape(self.side, self.side)[::2, ::2]
        flat = answer.ravel()
        for what, lines in (("row", numbers), ("column", numbers.T)):
            for line, cells in enumerate(lines.tolist(), start=1):
                for one, other in combinations(cells, 2):
                    if flat[one] == flat[other]:
                        digit = self.symbols[flat[one]]
                        yield f"digit {digit} stands twice in {what} {line}", [one, other]
        for less, more in self.pairs(answer):
            if flat[less] >= flat[more]:
                one, other = self.symbols[flat[less]], self.symbols[flat[more]]
                yield f"{one} is not less than {other} at {self.place(less)}", [less, more]

    def generate(self, rng: np.random.Generator) -> tuple[str, str] | None:
        """Draw a Latin square and some true signs; then leave out digits that are not needed."""
        size = self.size
        full = (1 << size) - 1
        peers = peers_of(size)
        answer = next(solutions([full] * size**2, peers, [], rng))
        board = np.full((self.side, self.side), "-")
        board[::2, ::2] = np.array([str(mask.bit_length()) for mask in answer]).reshape(size, size)
        digits = np.array([mask.bit_length() for mask in answer]).reshape(size, size)
        share, signs = rng.uniform(*SIGNS), []
        for row, col in zip(*np.nonzero(rng.random((size, size)) < share), strict=True):
            if col + 1 < size:
                board[2 * row, 2 * col + 1] = (
                    "<" if digits[row, col] < digits[row, col + 1] else ">"
                )
                pair = [row * size + col, row * size + col + 1]
                signs.append(sorted(map(int, pair), key=lambda cell: digits.flat[cell]))
        for row, col in zip(*np.nonzero(rng.random((size, size)) < share), strict=True):
            if row + 1 < size:
                board[2 * row + 1, 2 * col] = (
                    "^" if digits[row, col] < digits[row + 1, col] else "v"
                )
                pair = [row * size + col, (row + 1) * size + col]
                signs.append(sorted(map(int, pair), key=lambda cell: digits.flat[cell]))
        solved = "".join(board.ravel())
        masks = list(answer)
        for cell in rng.permutation(size**2).tolist():
            masks[cell] = full
            found = solutions(masks, peers, signs)
            if next(found, None) is not None and next(found, None) is None:
                board[2 * (cell // size), 2 * (cell % size)] = "."
            else:
                masks[cell] = answer[cell]
        return "".join(board.ravel()), solved


def peers_of(size: int) -> list[list[int]]:
    """List the other cells in the row and the column of each cell."""
    cells = range(size**2)
    return [
        [
            other
            for other in cells
            if other != cell and (other // size == cell // size or other % size == cell % size)
        ]
        for cell in cells
    ]


def solutions(
    masks: Sequence[int],
    peers: Sequence[Sequence[int]],
    signs: Sequence[Sequence[int]],
    rng: np.random.Generator | None = None,
) -> Iterator[list[int]]:
    """Find all answers, with one bit per cell; `masks` has a bit for each digit a cell may hold.

    Of each pair of `signs` the first cell is less. With `rng` they come in random order.
    """
    masks = list(masks)
    changed = True
    while changed:
        changed = False
        for cell, mask in enumerate(masks):
            if mask & (mask - 1) == 0:
                if not mask:
                    return
                for peer in peers[cell]:
                    if masks[peer] & mask:
                        masks[peer] ^= mask
                        changed = True
        for less, more in signs:
            low, high = masks[less], masks[more]
            if not low or not high:
                return
            low &= (1 << (high.bit_length() - 1)) - 1
            high &= -((masks[less] & -masks[less]) << 1)
            if (low, high) != (masks[less], masks[more]):
                masks[less], masks[more] = low, high
                changed = True
    open_cells = [cell for cell, mask in enumerate(masks) if mask & (mask - 1)]
    if not open_cells:
        yield masks
        return
    cell = min(open_cells, key=lambda cell: masks[cell].bit_count())
    bits = [1 << bit for bit in range(masks[cell].bit_length()) if masks[cell] >> bit & 1]
    for bit in bits if rng is None else rng.permutation(bits).tolist():
        yield from solutions([*masks[:cell], bit, *masks[cell + 1 :]], peers, signs, rng)
