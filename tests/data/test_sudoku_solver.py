"""The solver and the search over many boards against trying every grid."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostinato.data.sudoku import Sudoku, count_solutions, rate, solve
from ostinato.data.sudoku.generator import candidates_of, solvable, tokens_of
from ostinato.data.sudoku.solver import solutions
from tests.data.test_sudoku_oracle import KNOWN_ANSWER, KNOWN_PUZZLE, grids_4x4, is_solved

HARD_PUZZLE = "..1......26.1....994...2.....9..1..83....6.5..8..7.3......2.7....2..4..6...5...8."
HARD_ANSWER = "831459267267138549945762813529341678374286951186975324418623795752894136693517482"
# Three or so digits on 16 cells: often no solution, often several, sometimes one
BOARDS = st.dictionaries(st.integers(0, 15), st.sampled_from("1234"), max_size=7)


def matching_grids(board: str) -> set[str]:
    fits = re.compile(board).fullmatch  # where a dot stands for any digit
    return {grid for grid in grids_4x4() if fits(grid)}


def tokens(board: str) -> np.ndarray:
    return np.array([1 if symbol == "." else int(symbol) + 1 for symbol in board], dtype=np.uint8)


@given(givens=BOARDS)
def test_all_solutions_of_4x4_are_found_once(givens):
    sudoku, board = Sudoku(4), "".join(givens.get(cell, ".") for cell in range(16))
    expected = matching_grids(board)
    found = [sudoku.format(solution.tokens) for solution in solutions(sudoku, tokens(board))]
    assert set(found) == expected
    assert len(found) == len(expected)
    assert count_solutions(sudoku, tokens(board)) == min(2, len(expected))
    assert count_solutions(sudoku, tokens(board), limit=5) == min(5, len(expected))
    first = solve(sudoku, tokens(board))
    assert (sudoku.format(first.tokens) if first else None) == (found[0] if found else None)


@given(boards=st.lists(BOARDS, min_size=1, max_size=20), cell=st.integers(0, 15))
def test_many_boards_at_once_are_solvable_exactly_if_some_grid_fits(boards, cell):
    sudoku = Sudoku(4)
    texts = ["".join(givens.get(cell, ".") for cell in range(16)) for givens in boards]
    candidates = candidates_of(sudoku, np.stack([tokens(text) for text in texts]))
    assert [sudoku.format(board) for board in tokens_of(sudoku, candidates)] == texts
    candidates[cell] &= 0b1011  # not a 3
    expected = [any(grid[cell] != "3" for grid in matching_grids(text)) for text in texts]
    assert solvable(sudoku, candidates).tolist() == expected


def test_in_a_hard_puzzle_only_the_answer_is_solvable():
    """All 9 digits in all 81 cells, side by side; most need several levels of guesses."""
    sudoku = Sudoku(9)
    candidates = candidates_of(sudoku, sudoku.parse(HARD_PUZZLE)[None]).repeat(81 * 9, axis=1)
    cells, digits = np.divmod(np.arange(81 * 9), 9)
    candidates[cells, np.arange(81 * 9)] &= (1 << digits).astype(np.uint16)
    answer = sudoku.parse(HARD_ANSWER)
    assert solvable(sudoku, candidates).tolist() == (answer[cells] == digits + 2).tolist()


@pytest.mark.parametrize(
    ("puzzle", "answer"), [(KNOWN_PUZZLE, KNOWN_ANSWER), (HARD_PUZZLE, HARD_ANSWER)]
)
def test_known_9x9_puzzles(puzzle, answer):
    sudoku = Sudoku(9)
    solution = solve(sudoku, sudoku.parse(puzzle))
    assert solution is not None
    assert sudoku.format(solution.tokens) == answer
    assert count_solutions(sudoku, sudoku.parse(puzzle)) == 1


def test_the_rating_tells_easy_from_hard():
    sudoku = Sudoku(9)
    assert rate(sudoku, sudoku.parse(KNOWN_ANSWER)) == 0
    assert rate(sudoku, sudoku.parse(KNOWN_PUZZLE)) == 0
    assert rate(sudoku, sudoku.parse(HARD_PUZZLE)) > 1
    assert rate(Sudoku(4), Sudoku(4).parse("." * 16)) > 0


@pytest.mark.parametrize("size", [4, 6, 9])
def test_an_empty_board_has_a_solution(size):
    sudoku = Sudoku(size)
    solution = solve(sudoku, sudoku.parse("." * size**2))
    assert solution is not None
    assert is_solved(sudoku.format(solution.tokens), size)


NO_NINE_FOR_THE_FIRST_ROW = "12345678." + "." * 17 + "9" + "." * 54
EIGHT_AND_NINE_FOR_THE_FIRST_CELL = (
    "......... ...8..9.. ....9..8. .8....... ..9...... ......... .9....... ..8...... ........."
)


@pytest.mark.parametrize("text", [NO_NINE_FOR_THE_FIRST_ROW, EIGHT_AND_NINE_FOR_THE_FIRST_CELL])
def test_a_puzzle_without_solution(text):
    sudoku = Sudoku(9)
    puzzle = sudoku.parse(text)
    assert solve(sudoku, puzzle) is None
    assert count_solutions(sudoku, puzzle) == 0
    with pytest.raises(ValueError, match=f"no rating: {re.escape(sudoku.format(puzzle))}"):
        rate(sudoku, puzzle)
