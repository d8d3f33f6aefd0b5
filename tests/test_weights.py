"""The weights that come with the package: small, described, and they solve what they should."""

from pathlib import Path

import pytest

import ostinato
from ostinato.data.puzzle_files import read_puzzles
from ostinato.data.sudoku import Sudoku, generate
from ostinato.weights import DEFAULTS, packaged

LARGEST = 12_000_000
"""Bytes that the package may take for them."""


def test_all_of_them_are_small_and_described():
    assert set(DEFAULTS) <= packaged().keys()
    assert sum(path.stat().st_size for path in packaged().values()) <= LARGEST
    for name, path in packaged().items():
        card = path.with_suffix(".md").read_text("utf-8")
        parameters = sum(p.numel() for p in ostinato.load(name).parameters())
        assert name in card and f"{parameters:,} weights" in card


def test_the_default_solves_puzzles_it_has_not_seen(tmp_path: Path):
    sudoku = Sudoku(9)
    puzzles, answers = generate(sudoku, 40, (32, 40), seed=2026)
    file = tmp_path / "puzzles.txt"
    file.write_text("".join(sudoku.format(puzzle) + "\n" for puzzle in puzzles))
    model = ostinato.load(DEFAULTS[0])
    solutions = list(ostinato.solve(model, read_puzzles(file)))
    right = [
        solution.answer == sudoku.format(answer)
        for solution, answer in zip(solutions, answers, strict=True)
    ]
    assert right == [solution.solved for solution in solutions]
    assert sum(right) >= 39


def test_a_name_that_is_not_among_them_is_an_error():
    with pytest.raises(ValueError, match="does not exist"):
        ostinato.load("sudoku10")
