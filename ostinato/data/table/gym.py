"""Tables that reasoning-gym draws (https://github.com/open-thought/reasoning-gym), with its scorer.

A source is written "reasoning-gym:NAME", with settings of the task behind commas, as in
"reasoning-gym:n_queens,n=6". Only tasks whose question is one board are tables: the others ask in
words, or ask another thing each time.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Integer

from ostinato.data.futoshiki import peers_of, solutions
from ostinato.data.table.task import Table
from ostinato.files import home_path, make_folder, write_text

SOURCE = "reasoning-gym:"
PREFIX = "gym-table:"
"""Prefix of the names of these tables; their description follows in JSON."""
PATIENCE = 1000
"""Stop drawing after this many repeated questions in a row."""
SYMBOL = re.compile(r"[\w.*#<>^-]{1,20}")
"""Allowed symbols: some scorers evaluate an answer as Python, so it must not hold a call."""
TO_SIGNS = str.maketrans("_ ∧∨", ".-^v")
FROM_SIGNS = str.maketrans(".-^v", "_ ∧∨")
"""Futoshiki as written by reasoning-gym, without its columns of spaces, and here."""
SIGNS = {"<": "<", "^": "<", ">": ">", "v": ">"}
"""Sign on a board → sign of reasoning-gym."""
Words = Sequence[Sequence[str]]
"""A board, row by row."""


def lines(grid: Sequence[Sequence[object]]) -> str:
    """Write a board as most tasks do: words between spaces."""
    return "\n".join(" ".join(map(str, row)) for row in grid)


def numbers(board: Words) -> list[list[int]]:
    """Read a board of numbers; `_` is a blank, 0."""
    return [[0 if word == "_" else int(word) for word in row] for row in board]


def queens(dataset: Any, board: Words) -> dict[str, Any]:
    """Return the entry of n_queens: its valid answers."""
    given = np.array(board)
    fitting = [a for a in dataset._solutions if ((given == "_") | (given == np.array(a))).all()]
    return {"metadata": {"valid_answers": [lines(answer) for answer in fitting]}}


def sudoku(dataset: Any, board: Words) -> dict[str, Any]:
    """Return the entry of a Sudoku: its answer."""
    solution = numbers(board)
    dataset._solve(solution)
    return {"answer": lines(solution), "metadata": {"solution": solution}}


def futoshiki(dataset: Any, board: Words) -> dict[str, Any]:
    """Return the entry of a Futoshiki: its answer, by our solver, as theirs errs."""
    size = len(board) // 2 + 1
    masks, less, signs = [], [], {}
    for row, words in enumerate(board):
        for col, word in enumerate(words):
            pair = (row // 2, col // 2), ((row + 1) // 2, (col + 1) // 2)
            if row % 2 == col % 2 == 0:
                masks.append((1 << size) - 1 if word == "." else 1 << (int(word) - 1))
            elif word in SIGNS:
                signs[pair] = SIGNS[word]
                cells = [r * size + c for r, c in pair]
                less.append(cells if SIGNS[word] == "<" else cells[::-1])
    answer = next(solutions(masks, peers_of(size), less))
    digits = np.array([mask.bit_length() for mask in answer]).reshape(size, size).tolist()
    return {"answer": dataset._puzzle_to_string(digits, signs), "metadata": {"solution": digits}}


def life(dataset: Any, board: Words) -> dict[str, Any]:
    """Return the entry of the game of life: the board some generations later."""
    cells = np.array(numbers(board))
    for _ in range(dataset.config.simulation_steps):
        around = [np.roll(cells, (r, c), (0, 1)) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c]
        count = np.sum(around, axis=0)
        cells = ((count == 3) | ((count == 2) & (cells == 1))).astype(int)
    return {"answer": str(cells.tolist())}


def computed(function: str, *settings: str) -> Callable[[Any, Words], dict[str, Any]]:
    """Return how to make the entry of a task that computes its answer from a grid of numbers."""

    def entry(dataset: Any, board: Words) -> dict[str, Any]:
        values = [getattr(dataset.config, name) for name in settings]
        answer = getattr(dataset, function)(numbers(board), *values)
        if isinstance(answer, int):
            return {"answer": str(answer)}
        return {"answer": lines(answer if isinstance(answer[0], list) else [answer])}

    return entry


def path(dataset: Any, board: Words) -> dict[str, Any]:
    """Return the entry of shortest_path: one of the shortest."""
    answer = " ".join(dataset._get_answer(board)) or "infeasible"
    return {"answer": answer, "metadata": {"matrix": board}}


def of_metadata(key: str, blank: str = "0") -> Callable[[dict[str, Any]], str]:
    """Return how to write the question of an entry, which lies in its metadata."""
    return lambda entry: lines(
        [[blank if x == 0 else x for x in row] for row in entry["metadata"][key]]
    )


class Kind(NamedTuple):
    """Tell how to take a board out of an entry of a task, and how to make the entry of a board."""

    question: Callable[[dict[str, Any]], str]
    entry: Callable[[Any, Words], dict[str, Any]]


KINDS = {
    "n_queens": Kind(of_metadata("puzzle"), queens),
    "mini_sudoku": Kind(of_metadata("puzzle", "_"), sudoku),
    "sudoku": Kind(of_metadata("puzzle", "_"), sudoku),
    "futoshiki": Kind(lambda entry: in_signs(entry["question"].split("\n\n")[1]), futoshiki),
    "game_of_life": Kind(lambda entry: entry["question"].split("\n\n")[1].rstrip("."), life),
    "shortest_path": Kind(of_metadata("matrix"), path),
    "binary_matrix": Kind(of_metadata("matrix"), computed("_get_distances")),
    "spiral_matrix": Kind(of_metadata("matrix"), computed("_get_spiral")),
    "rotate_matrix": Kind(of_metadata("matrix"), computed("_get_rotated", "min_rotations")),
    "rotten_oranges": Kind(of_metadata("matrix"), computed("_get_answer")),
    "largest_island": Kind(of_metadata("grid"), computed("_get_largest_island")),
}
"""The tasks that are tables."""


def in_signs(text: str) -> str:
    """Write a Futoshiki of reasoning-gym as Ostinato does."""
    return "\n".join(line[::2].translate(TO_SIGNS) for line in text.split("\n"))


def in_words(text: str) -> str:
    """Write a Futoshiki as reasoning-gym does."""
    return "\n".join(" ".join(line.translate(FROM_SIGNS)) for line in text.split("\n"))


def dataset_of(source: str, size: int = 1, seed: int = 0) -> tuple[str, Any]:
    """Return the name of a source's task, and the task. Raises ValueError if it is no table."""
    try:
        from reasoning_gym.factory import (  # pyright: ignore[reportMissingImports]
            DATASETS,
            create_dataset,
        )
    except ImportError:
        raise ValueError(f'{source} needs reasoning-gym: pip install "ostinato[gym]"') from None
    name, *settings = source.removeprefix(SOURCE).split(",")
    if name not in KINDS:
        fault = "is no table of boards" if name in DATASETS else "is not known"
        raise ValueError(f"{SOURCE}{name} {fault}: choose one of {', '.join(KINDS)}")
    known = {field.name: field for field in fields(DATASETS[name][1])}
    values = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in known or key in ("size", "seed"):
            names = ", ".join(sorted(known.keys() - {"size", "seed"}))
            raise ValueError(f"{SOURCE}{name} has no setting {key!r}: it has {names}")
        try:
            values[key] = float(value) if "." in value else int(value)
        except ValueError:
            raise ValueError(f"{SOURCE}{name}: {setting!r} is no number: write {key}=3") from None
    try:
        dataset = create_dataset(name, size=size, seed=seed, **values)
    except AssertionError as error:
        raise ValueError(f"{source}: {error}: change the settings") from None
    config = dataset.config
    if name == "rotate_matrix" and config.min_rotations != config.max_rotations:
        raise ValueError(
            f"{source} turns each board by another angle, which is not on it: choose one, as in "
            f"{SOURCE}{name},min_rotations=1,max_rotations=1"
        )
    return name, dataset


def drawn(source: str, rows: int, seed: int) -> Iterator[tuple[str, str]]:
    """Draw questions, all different, with an answer each; fewer than `rows` if there are none."""
    name, dataset = dataset_of(source, size=2**30, seed=seed * 2**30)
    seen, number, repeated = set(), 0, 0
    while len(seen) < rows and repeated < PATIENCE:
        entry = dataset[number]
        number += 1
        question, answer = KINDS[name].question(entry), entry["answer"]
        repeated = repeated + 1 if question in seen else 0
        if not repeated:
            seen.add(question)
            yield question, in_signs(answer) if name == "futoshiki" else answer


def drawn_table(source: str, rows: int, seed: int) -> Path:
    """Return a table that reasoning-gym has drawn; it is drawn once, and kept in the user's cache.

    Raises ValueError if the source is no table.
    """
    import importlib.metadata

    dataset_of(source)
    version = importlib.metadata.version("reasoning-gym")
    digest = hashlib.sha256(f"{source} {version} {rows} {seed}".encode()).hexdigest()[:12]
    name = source.removeprefix(SOURCE).partition(",")[0]
    folder = home_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ostinato" / "gym"
    place = folder / f"{name}-{digest}.csv"
    if not place.exists():
        make_folder(folder)
        text = io.StringIO()
        csv.writer(text).writerows([("question", "answer"), *drawn(source, rows, seed)])
        write_text(place, text.getvalue())
    return place


@lru_cache(maxsize=10_000)
def entry_of(source: str, board: tuple[tuple[str, ...], ...]) -> tuple[Any, dict[str, Any]] | None:
    """Return the task, and the entry of a board as far as the task's scorer looks at it.

    It is None if the board is no puzzle of the task.
    """
    name, dataset = dataset_of(source)
    try:
        entry = KINDS[name].entry(dataset, board)
    except (ArithmeticError, LookupError, StopIteration, TypeError, ValueError):
        return None
    return dataset, {"answer": "", "metadata": {}} | entry


@dataclass(frozen=True)
class GymTable(Table):
    """Answer questions like those of a task of reasoning-gym, whose scorer knows the rules."""

    gym: str = ""
    """The source."""

    prefix: ClassVar[str] = PREFIX
    has_rules: ClassVar[bool] = True

    def __post_init__(self):
        for symbol in self.known_symbols:
            if not SYMBOL.fullmatch(symbol):
                raise ValueError(f"symbol {symbol!r} is none of reasoning-gym")

    @property
    def task(self) -> str:
        """Name the task."""
        return self.gym.removeprefix(SOURCE).partition(",")[0]

    def check(
        self, puzzle: Integer[np.ndarray, " cells"], answer: Integer[np.ndarray, " cells"]
    ) -> str | None:
        if changed := super().check(puzzle, answer):
            return changed
        board = tuple(tuple(self.symbols[t] for t in row) for row in self.board(puzzle))
        if (found := entry_of(self.gym, board)) is None:
            return f"this is no puzzle of {self.task}"
        dataset, entry = found
        said = self.format(answer)
        score = dataset.score_answer(in_words(said) if self.task == "futoshiki" else said, entry)
        return None if score == 1 else f"{self.task} scores the answer {score:.2g}, not 1"

    def scores(
        self,
        puzzles: Integer[np.ndarray, "puzzles cells"],
        answers: Integer[np.ndarray, "puzzles cells"],
    ) -> dict[str, Bool[np.ndarray, " puzzles"]]:
        return {"solved_by_the_rules": ~self.wrong(puzzles, answers)}
