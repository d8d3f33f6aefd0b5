"""Describe a kind of puzzle to drawings: its board, its symbols, and what people type."""

from dataclasses import dataclass

import numpy as np

from ostinato.data.grid import Grid
from ostinato.data.maze import Maze
from ostinato.data.maze.paths import FREE, GOAL, PATH, START, WALL
from ostinato.data.sudoku import Sudoku
from ostinato.data.sudoku.rules import BLANK
from ostinato.data.table import Table
from ostinato.data.tasks import find_task


@dataclass(frozen=True)
class Board:
    """Hold all that a drawing or the page needs to know of a kind of puzzle; JSON can hold it."""

    kind: str
    """ "sudoku", "maze", or "grid": nothing but tokens."""
    rows: int
    columns: int
    blank: int
    """Token of a cell that is to be filled in."""
    keeps: bool
    """True if an answer keeps all cells that are not blank."""
    symbols: list[str]
    """Symbol to draw for each token."""
    written: list[str]
    """Character that writes each token on one line."""
    keys: list[str]
    """Symbols that may be given."""
    typed: dict[str, int]
    """Character that people type → token."""
    box: tuple[int, int] = (1000, 1000)
    """Rows and columns between the thick lines."""
    units: list[list[int]] | None = None
    """Sudoku: cells that must all differ."""
    wall: int | None = None
    start: int | None = None
    goal: int | None = None
    path: int | None = None


def board_of(task_name: str, seq_len: int, vocab_size: int) -> Board:
    """Return the board of a kind of puzzle; a plain one if the kind is not known."""
    task = find_task(task_name)
    if isinstance(task, Sudoku):
        digits = list(task.symbols[BLANK + 1 :])
        return Board(
            kind="sudoku",
            rows=task.size,
            columns=task.size,
            blank=BLANK,
            keeps=True,
            symbols=["", "", *digits],
            written=[".", ".", *digits],
            keys=digits,
            typed=task.meaning,
            box=(task.box_rows, task.box_cols),
            units=task.units.tolist(),
        )
    if isinstance(task, Maze):
        return Board(
            kind="maze",
            rows=task.size,
            columns=task.size,
            blank=FREE,
            keeps=True,
            symbols=["?", "#", "", "S", "G", "•"],
            written=["?", "#", ".", "S", "G", "o"],
            keys=["#", "S", "G"],
            typed={"#": WALL, ".": FREE, "S": START, "G": GOAL},
            wall=WALL,
            start=START,
            goal=GOAL,
            path=PATH,
        )
    if isinstance(task, Grid | Table):
        is_grid = isinstance(task, Grid)
        rows, columns = (task.side, task.side) if is_grid else (task.rows, task.cols)
        blank = task.tokens[task.blank] if is_grid else task.tokens.get("".join(task.blanks[:1]), 0)
        typed = {symbol: token for symbol, token in task.tokens.items() if len(symbol) == 1}
        return Board(
            kind="grid",
            rows=rows,
            columns=columns,
            blank=blank,
            keeps=is_grid or len(task.blanks) == 1,
            symbols=list(task.symbols),
            written=list(task.symbols),
            keys=list(typed),
            typed=typed,
        )
    side = round(seq_len**0.5)
    rows = side if side**2 == seq_len else 1
    symbols = [np.base_repr(token, 36) for token in range(vocab_size)]
    typed = {symbol: token for token, symbol in enumerate(symbols) if len(symbol) == 1}
    return Board(
        kind="grid",
        rows=rows,
        columns=seq_len // rows,
        blank=0,
        keeps=False,
        symbols=["", *symbols[1:]],
        written=symbols,
        keys=list(typed),
        typed=typed,
    )
