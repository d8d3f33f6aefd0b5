"""Mazes as text, in the form that MaxRL (arXiv 2602.02710) trains on.

GRID_START
WALL PATH … NEWLINE          one row after the other: WALL, PATH, START or GOAL
GRID_END PATH_START          the end of the prompt
UP DOWN LEFT RIGHT … DONE    the answer: moves from START to GOAL
"""

from itertools import pairwise

import numpy as np
from jaxtyping import UInt8

from ostinato.data.maze import Maze, generate, shortest_path
from ostinato.data.maze.generator import PATIENCE_FOR_PERFECT
from ostinato.data.maze.paths import FREE, GOAL, START, WALL
from ostinato.data.prompts.task import Prompt, PromptTask
from ostinato.data.text.words import END, WordTokenizer

CELLS = {"WALL": WALL, "PATH": FREE, "START": START, "GOAL": GOAL}
MOVES = {"UP": (-1, 0), "DOWN": (1, 0), "LEFT": (0, -1), "RIGHT": (0, 1)}
FRAME = ("GRID_START", "NEWLINE", "GRID_END", "PATH_START")
WORDS = ("PAD", *FRAME, *CELLS, *MOVES, END)
VOCAB_SIZE = 32
"""Size of the published vocabulary; the words behind ours have no use."""


def write_maze(cells: UInt8[np.ndarray, "size size"]) -> str:
    """Return the prompt of a maze."""
    names = {token: word for word, token in CELLS.items()}
    rows = [" ".join(names[cell] for cell in row) for row in cells.tolist()]
    return f"GRID_START {' NEWLINE '.join(rows)} NEWLINE GRID_END PATH_START"


def read_maze(text: str) -> UInt8[np.ndarray, "size size"]:
    """Return the maze of a prompt. Raises ValueError if the text is no square maze in this form."""
    words = text.split()
    if words[:1] != ["GRID_START"] or words[-3:] != ["NEWLINE", "GRID_END", "PATH_START"]:
        raise ValueError(
            "the text is no maze: begin with GRID_START, end with NEWLINE GRID_END PATH_START"
        )
    rows = [row.split() for row in " ".join(words[1:-3]).split("NEWLINE")]
    for row in rows:
        for word in row:
            if word not in CELLS:
                raise ValueError(f"{word[:40]!r} is no cell of a maze: write {', '.join(CELLS)}")
        if len(row) != len(rows):
            raise ValueError(
                f"a row of the maze has {len(row)} cells, but there are {len(rows)} rows: "
                "write a square"
            )
    cells = np.array([[CELLS[word] for word in row] for row in rows], np.uint8)
    for name in ("START", "GOAL"):
        if (count := int((cells == CELLS[name]).sum())) != 1:
            raise ValueError(f"the maze has {count} cells {name}: write exactly one")
    return cells


def moves_along(path: list[int], size: int) -> str:
    """Return the moves along cells, which are numbered row by row."""
    names = {step: word for word, step in MOVES.items()}
    places = [divmod(cell, size) for cell in path]
    steps = pairwise(places)
    return " ".join(names[lower - upper, right - left] for (upper, left), (lower, right) in steps)


def is_walk(cells: UInt8[np.ndarray, "size size"], moves: list[str]) -> bool:
    """Return whether `moves` lead from START to GOAL without touching a wall or the outside."""
    row, column = (int(place) for place in np.argwhere(cells == START)[0])
    for move in moves:
        if move not in MOVES:
            return False
        row, column = row + MOVES[move][0], column + MOVES[move][1]
        inside = 0 <= row < len(cells) and 0 <= column < len(cells)
        if not inside or cells[row, column] == WALL:
            return False
    return bool(cells[row, column] == GOAL)


class MazeTask(PromptTask):
    """Walk through a perfect maze of an odd size: corridors without loops."""

    def __init__(self, size: int, min_length: int = 2):
        if size % 2 == 0:
            raise ValueError(f"perfect mazes have an odd size, not {size}: add one")
        self.maze, self.min_length = Maze(size), min_length

    def draw(self, count: int, rng: np.random.Generator) -> list[Prompt]:
        found: dict[str, Prompt] = {}
        tried = 0
        while len(found) < count and tried < PATIENCE_FOR_PERFECT + 10 * count:
            missing = count - len(found)
            size = self.maze.size
            for cells in generate(self.maze, missing, self.min_length, rng, perfect=True):
                path = shortest_path(cells)
                assert path is not None
                text = write_maze(cells.reshape(size, size))
                found[text] = Prompt(text, f"{moves_along(path, size)} {END}")
            tried += missing
        return list(found.values())

    def is_right(self, prompt: Prompt, completion: str) -> bool:
        *moves, last = completion.split() or [""]
        return last == END and is_walk(read_maze(prompt.text), moves)

    def tokenizer(self) -> WordTokenizer:
        unused = (f"UNUSED_{number}" for number in range(VOCAB_SIZE - len(WORDS)))
        return WordTokenizer([*WORDS, *unused])
