"""Sudoku, 4×4, 6×6, 9×9 and 16×16: rules, symmetries, an exact solver, a generator, data sets."""

from ostinato.data.sudoku.board import SIZES
from ostinato.data.sudoku.dataset import SudokuData
from ostinato.data.sudoku.generator import generate
from ostinato.data.sudoku.rules import Sudoku, sudoku_of
from ostinato.data.sudoku.solver import Solution, count_solutions, rate, solve

__all__ = [
    "SIZES",
    "Solution",
    "Sudoku",
    "SudokuData",
    "count_solutions",
    "generate",
    "rate",
    "solve",
    "sudoku_of",
]
