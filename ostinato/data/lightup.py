"""Light Up (Akari): put lamps so that every free cell is lit and no lamp shines on another.

.  free cell, and in an answer one without a lamp
o  lamp (in answers)
#  wall; 0 to 4: wall with as many lamps next to it (above, below, left and right)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Integer

from ostinato.data.grid import Grid, Mistake

WALLS = (0.15, 0.35)
"""Range from which each puzzle's chance that a cell is a wall is drawn."""


class Rule(NamedTuple):
    """Require that, of some cells given as bits, a number between two bounds have lamps."""

    cells: int
    least: int
    most: int


@dataclass(frozen=True)
class LightUp(Grid):
    """Put lamps so that every free cell is lit and no lamp shines on another."""

    size: int = 7
    """Side of the board, from 5 to 9."""

    kind: ClassVar[str] = "lightup"
    sizes: ClassVar[Sequence[int]] = range(5, 10)
    letters: ClassVar[str] = ".#01234o"
    fills: ClassVar[str] = ".o"

    @cached_property
    def neighbours(self) -> list[list[int]]:
        """List the cells above, below, left and right of each cell."""
        numbers = np.pad(
            np.arange(self.seq_len).reshape(self.size, self.size), 1, constant_values=-1
        )
        around = [numbers[:-2, 1:-1], numbers[2:, 1:-1], numbers[1:-1, :-2], numbers[1:-1, 2:]]
        cells = np.stack(around, -1).reshape(-1, 4).tolist()
        return [[other for other in four if other >= 0] for four in cells]

    def runs(self, board: Sequence[str]) -> list[list[int]]:
        """Find the cells in a row or column between walls, as far as a lamp shines."""
        found, cells = [], np.arange(self.seq_len).reshape(self.size, self.size)
        for line in (*cells.tolist(), *cells.T.tolist()):
            run: list[int] = []
            for cell in (*line, -1):
                if cell >= 0 and board[cell] in self.fills:
                    run.append(cell)
                elif run:
                    found.append(run)
                    run = []
        return found

    def mistakes(
        self, puzzle: Integer[np.ndarray, "side side"], answer: Integer[np.ndarray, "side side"]
    ) -> Iterator[Mistake]:
        board = [self.symbols[token] for token in answer.ravel().tolist()]
        lit: set[int] = set()
        for run in self.runs(board):
            lamps = [cell for cell in run if board[cell] == "o"]
            if lamps:
                lit.update(run)
            if len(lamps) > 1:
                yield f"the lamps in {self.place(lamps[0])} and {self.place(lamps[1])} meet", lamps
        for cell, symbol in enumerate(board):
            lamps = [other for other in self.neighbours[cell] if board[other] == "o"]
            if symbol.isdecimal() and len(lamps) != int(symbol):
                yield f"{len(lamps)} lamps are next to the {symbol} in {self.place(cell)}", [cell]
        for cell, symbol in enumerate(board):
            if symbol == "." and cell not in lit:
                yield f"{self.place(cell)} is dark", [cell]

    def generate(self, rng: np.random.Generator) -> tuple[str, str] | None:
        """Draw walls, and lamps in dark cells until there are none; then leave out numbers.

        The attempt fails if there are other answers though all walls have numbers.
        """
        walls = rng.random(self.seq_len) < rng.uniform(*WALLS)
        board = ["#" if wall else "." for wall in walls]
        shines: dict[int, set[int]] = {}
        for run in self.runs(board):
            for cell in run:
                shines.setdefault(cell, set()).update(run)
        dark, answer = set(shines), board.copy()
        for cell in rng.permutation(list(shines)).tolist():
            if cell in dark:
                answer[cell] = "o"
                dark -= shines[cell]
        for cell in np.flatnonzero(walls).tolist():
            board[cell] = str(sum(answer[other] == "o" for other in self.neighbours[cell]))
        if not shines or self.count(board) != 1:
            return None
        for cell in rng.permutation(np.flatnonzero(walls)).tolist():
            number, board[cell] = board[cell], "#"
            if self.count(board) != 1:
                board[cell] = number
        answer = [lamp if lamp == "o" else given for lamp, given in zip(answer, board, strict=True)]
        return "".join(board), "".join(answer)

    def count(self, board: Sequence[str]) -> int:
        """Count the answers, up to 2."""
        rules, shines = [], {}
        for run in self.runs(board):
            bits = sum(1 << cell for cell in run)
            rules.append(Rule(bits, 0, 1))
            for cell in run:
                shines[cell] = shines.get(cell, 0) | bits
        rules += [Rule(bits, 1, self.seq_len) for bits in shines.values()]
        for cell, symbol in enumerate(board):
            if symbol.isdecimal():
                bits = sum(1 << other for other in self.neighbours[cell] if other in shines)
                rules.append(Rule(bits, int(symbol), int(symbol)))
        return count(rules, 0, sum(1 << cell for cell in shines))


def count(rules: Sequence[Rule], lamps: int, open_cells: int, limit: int = 2) -> int:
    """Count the ways to add lamps in the open cells to the `lamps` that keep all rules."""
    changed = True
    while changed:
        changed = False
        for cells, least, most in rules:
            free = cells & open_cells
            have = (cells & lamps).bit_count()
            if have > most or have + free.bit_count() < least:
                return 0
            if not free:
                continue
            if have == most:
                open_cells ^= free
                changed = True
            elif have + free.bit_count() == least:
                lamps |= free
                open_cells ^= free
                changed = True
    if not open_cells:
        return 1
    bit = open_cells & -open_cells
    found = count(rules, lamps | bit, open_cells ^ bit, limit)
    return found if found >= limit else found + count(rules, lamps, open_cells ^ bit, limit - found)
