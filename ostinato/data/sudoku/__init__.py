"""Sudoku of the sizes 4, 6 and 9: rules, symmetries, an exact solver, a generator, data sets."""

from ostinato.data.sudoku.dataset import SudokuData
from ostinato.data.sudoku.generator import generate
from ostinato.data.sudoku.rules import Sudoku, sudoku_of
from ostinato.data.sudoku.solver import Solution, count_solutions, rate, solve
from ostinato.data.sudoku.symmetry import augment, signature

__all__ = [
    "Solution",
    "Sudoku",
    "SudokuData",
    "augment",
    "count_solutions",
    "generate",
    "rate",
    "signature",
    "solve",
    "sudoku_of",
]
