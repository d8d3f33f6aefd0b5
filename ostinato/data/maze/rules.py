"""`Maze`: read, draw, check and rate mazes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Integer, UInt8

from ostinato.data.group import Group
from ostinato.data.maze.paths import FREE, GOAL, PATH, START, WALL, distances, follow, shortest_path
from ostinato.data.symmetries import sources
from ostinato.data.tables import Rows
from ostinato.data.task import Mark, Task

SIZES = range(3, 65)
SYMBOLS = "?#.SGo"
"""Character of each token on one line; a free cell may also be a space."""
PICTURES = ("??", "██", "  ", "S ", "G ", "• ")
"""Drawing of each token: two characters are about as wide as a line is high."""


@dataclass(frozen=True)
class Maze(Task):
    """Mark a shortest path from S to G through the free cells of a square maze."""

    size: int = 30
    """Side of the board, from 3 to 64."""

    def __post_init__(self):
        if self.size not in SIZES:
            raise ValueError(f"a maze of size {self.size} is not known: choose 3 to 64")

    @property
    def name(self) -> str:
        return f"maze{self.size}"

    @property
    def seq_len(self) -> int:
        return self.size**2

    @property
    def symbols(self) -> str:
        return SYMBOLS

    def parse(self, text: str) -> UInt8[np.ndarray, " cells"]:
        """Read a maze on one line or as a board: # for walls, . or space, one S and one G.

        Short lines of a board are filled up with free cells, because editors strip trailing spaces.
        Raises ValueError for any other form, and if no path leads from S to G.
        """
        tokens = self.tokens(text, SYMBOLS[1:5])
        for token in (START, GOAL):
            if (count := (tokens == token).sum()) != 1:
                raise ValueError(f"the maze has {count} {SYMBOLS[token]}: write exactly one")
        if shortest_path(tokens) is None:
            raise ValueError("no path leads from S to G: open one, or move S or G")
        return tokens

    def tokens(self, text: str, allowed: str) -> UInt8[np.ndarray, " cells"]:
        """Read a maze, or an answer, written with the `allowed` symbols and spaces.

        Raises ValueError for a wrong shape or another symbol.
        """
        lines = text.replace("\r", "").strip("\n").split("\n")
        if len(lines) > 1:
            lines = [line if len(line) > self.size else line.ljust(self.size) for line in lines]
            if len(lines) != self.size or {len(line) for line in lines} != {self.size}:
                raise ValueError(
                    f"a {self.size}x{self.size} maze has {self.size} lines of {self.size} "
                    f"characters, not {len(lines)} of up to {max(map(len, lines))}"
                )
        symbols = "".join(lines).replace(" ", SYMBOLS[FREE])
        if len(symbols) != self.seq_len:
            raise ValueError(
                f"a {self.size}x{self.size} maze has {self.seq_len} characters "
                f"(# . S G, or {self.size} lines of {self.size}), not {len(symbols)}"
            )
        for cell, symbol in enumerate(symbols):
            if symbol not in allowed:
                raise ValueError(
                    f"character {symbol!r} at {self.place(cell)} is not allowed: use # for walls, "
                    f". or a space for free cells, and {' '.join(allowed[2:])}"
                )
        return np.array([SYMBOLS.index(symbol) for symbol in symbols], dtype=np.uint8)

    def parse_answer(self, text: str) -> UInt8[np.ndarray, " cells"]:
        """Read a maze with marked cells, `o`."""
        return self.tokens(text, SYMBOLS[1:])

    def draw(self, tokens: Integer[np.ndarray, " cells"], mark: Mark | None = None) -> str:
        """Draw a board with two characters per cell."""
        symbols = [PICTURES[token] for token in tokens.tolist()]
        if mark is not None:
            symbols = [mark(cell, symbol) for cell, symbol in enumerate(symbols)]
        rows = [symbols[start : start + self.size] for start in range(0, self.seq_len, self.size)]
        return "\n".join("".join(row) for row in rows)

    def boards(self, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
        """Find the mazes in the lines of a file, each with the number of its first line.

        A maze is one line, or a board of as many lines as it has rows, after any number of empty
        lines. Raises ValueError for a board that ends early.
        """
        board: list[str] = []
        number = 0
        for number, line in enumerate(lines, start=1):
            line = line.rstrip("\r\n")
            if not board and len(line.strip()) > self.size:
                yield number, line
            elif line:
                board.append(line)
                if len(board) == self.size:
                    yield number - self.size + 1, "\n".join(board)
                    board = []
            elif board:
                break
        if board:
            raise ValueError(
                f"the maze before line {number} has {len(board)} rows, not {self.size}: "
                "write free cells as dots if a row has nothing else"
            )

    def place(self, cell: int) -> str:
        return f"row {cell // self.size + 1}, column {cell % self.size + 1}"

    def check(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> str | None:
        """Say in one sentence what is wrong with an answer; None if it marks a shortest path.

        Any shortest path solves a maze, not only the one in the data set's label.
        """
        if not is_maze(puzzle):
            return "the puzzle is no maze with one start and one goal"
        for cell in np.flatnonzero(self.changed(puzzle, answer))[:1].tolist():
            return f"{self.place(cell)} was changed from {SYMBOLS[puzzle[cell]]!r}"
        route, ways_on = follow(answer)
        end = self.place(route[-1])
        if ways_on:
            return f"the path forks at {end}"
        if answer[route[-1]] != GOAL:
            return f"the path ends at {end}"
        for cell in _strays(answer, route)[:1].tolist():
            return f"{self.place(cell)} is marked but not on the path"
        shortest = shortest_path(puzzle)
        assert shortest is not None
        if len(route) > len(shortest):
            return f"the path takes {len(route) - 1} steps, the shortest {len(shortest) - 1}"
        return None

    def changed(
        self,
        puzzle: Integer[np.ndarray, "*puzzles cells"],
        answer: Integer[np.ndarray, "*puzzles cells"],
    ) -> Bool[np.ndarray, "*puzzles cells"]:
        """Find the cells where an answer differs from the maze other than by marking a free one."""
        return np.where(answer == PATH, puzzle != FREE, puzzle != answer)

    def faults(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> Bool[np.ndarray, " cells"]:
        """Find the cells that were changed, and the marked cells that cannot be on the path."""
        faults = self.changed(puzzle, answer)
        if is_maze(puzzle) and not faults.any():
            faults[_strays(answer, follow(answer).cells)] = True
        return faults

    @property
    def fewest_givens(self) -> int:
        return 0  # there may be several shortest paths

    def wrong(
        self,
        puzzles: Integer[np.ndarray, "puzzles cells"],
        answers: Integer[np.ndarray, "puzzles cells"],
    ) -> Bool[np.ndarray, " puzzles"]:
        """Tell which answers do not mark exactly a shortest path.

        The marks are one if they lead to the goal in as few steps as the maze allows and none is
        left over.
        """
        right = ((puzzles > 0) & (puzzles < PATH)).all(1) & ~self.changed(puzzles, answers).any(1)
        for token in (START, GOAL):
            right &= (puzzles == token).sum(1) == 1
        ends = [(puzzles[right] == token).argmax(1) for token in (START, GOAL)]
        steps = distances(puzzles[right] > WALL, *ends)
        marked = answers[right] > START
        marked[np.arange(len(marked)), ends[0]] = True
        right[right] = (distances(marked, *ends) == steps) & (marked.sum(1) == steps + 1)
        return ~right

    def scores(
        self,
        puzzles: Integer[np.ndarray, "puzzles cells"],
        answers: Integer[np.ndarray, "puzzles cells"],
    ) -> dict[str, Bool[np.ndarray, " puzzles"]]:
        """Tell which answers mark a path from S to G at all, and which a shortest one.

        `valid_path`: the answer is the maze with some free cells marked; S, G and the marked cells
        form one path, without fork, gap or stray mark, that does not touch itself.
        `shortest_path`: also, no path takes fewer steps (`check` finds no fault).
        """
        valid, shortest = np.zeros((2, len(puzzles)), bool)
        for row, (puzzle, answer) in enumerate(zip(puzzles, answers, strict=True)):
            if is_maze(puzzle) and not self.changed(puzzle, answer).any():
                route, _ = follow(answer)
                valid[row] = answer[route[-1]] == GOAL and not len(_strays(answer, route))
                if valid[row]:
                    best = shortest_path(puzzle)
                    assert best is not None
                    shortest[row] = len(route) == len(best)
        return {"valid_path": valid, "shortest_path": shortest}

    @cached_property
    def group(self) -> Group:
        """The symmetries of the square; tokens keep their names.

        As in HRM and TRM, the label moves along. It stays a shortest path, but among several it
        need not be the one that breadth-first search would have labelled.
        """
        return Group.of_moves(sources(self.size), self.vocab_size)

    def rate(
        self, rows: Rows, report: Callable[[str], None] | None
    ) -> tuple[Float32[np.ndarray, " rows"] | None, str | None]:
        """Rate mazes by the number of steps of the shortest path."""
        return ((rows.labels == PATH).sum(1) + 1).astype(np.float32), "shortest path"


def is_maze(puzzle: Integer[np.ndarray, " cells"]) -> bool:
    """Tell whether a puzzle consists of walls, free cells, one start and one goal."""
    known = ((puzzle > 0) & (puzzle < PATH)).all()
    return bool(known and (puzzle == START).sum() == (puzzle == GOAL).sum() == 1)


def _strays(answer: np.ndarray, route: list[int]) -> Integer[np.ndarray, " strays"]:
    """Find the cells that are marked but not on the route."""
    marked = answer == PATH
    marked[route] = False
    return np.flatnonzero(marked)
