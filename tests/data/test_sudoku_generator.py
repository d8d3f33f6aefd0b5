"""Generated puzzles against a solver that shares nothing with the generator."""

from itertools import islice
from unittest import mock

import numpy as np
import pytest

from ostinato.data.sudoku import Sudoku, generate, generator, rate
from ostinato.data.sudoku.generator import solved_boards
from tests.data.test_sudoku_oracle import grids_4x4, is_solved, solutions


@pytest.mark.parametrize(
    ("size", "givens", "count"),
    [
        (4, (4, 10), 60),
        (6, (9, 20), 30),
        (9, (32, 44), 12),
        (9, (25, 28), 8),
        (9, (81, 81), 2),
        (16, (140, 150), 2),
    ],
)
def test_puzzles_have_exactly_the_given_solution(size, givens, count):
    sudoku = Sudoku(size)
    puzzles, answers = generate(sudoku, count, givens, seed=1)
    assert puzzles.shape == answers.shape == (count, size**2)
    assert puzzles.dtype == answers.dtype == np.uint8
    for puzzle, answer in zip(puzzles, answers, strict=True):
        assert is_solved(sudoku.format(answer), size)
        assert list(islice(solutions(sudoku.format(puzzle), size), 2)) == [sudoku.format(answer)]
        assert givens[0] <= (puzzle > 1).sum() <= givens[1]


def test_numbers_of_givens_are_uniform():
    puzzles, _ = generate(Sudoku(4), 3500, (4, 10), seed=0)
    counts = np.bincount((puzzles > 1).sum(axis=1), minlength=11)
    assert counts[:4].sum() == 0
    assert abs(counts[4:11] - 500).max() < 5 * 500**0.5


def test_some_puzzles_need_guesses():
    sudoku = Sudoku(9)
    puzzles, _ = generate(sudoku, 30, (26, 27), seed=0)
    assert 0 < sum(rate(sudoku, puzzle) > 0 for puzzle in puzzles) < 30


def test_solved_boards_vary():
    sudoku = Sudoku(4)
    boards = solved_boards(sudoku, 4000, np.random.default_rng(0))
    found = {sudoku.format(board) for board in np.unique(boards, axis=0)}
    assert found == set(grids_4x4())


def test_solved_boards_are_no_copies_of_one():
    """Permuting rows within bands and so on keeps the pairs of columns that share a box."""
    boards = solved_boards(Sudoku(9), 200, np.random.default_rng(0)).reshape(-1, 9, 9)
    # Digits of the first box's first column that stand in one column of the box below: 0 to 3
    shared = [len(set(board[:3, 0]) & set(board[3:6, 1])) for board in boards]
    assert set(shared) == {0, 1, 2, 3}
    assert len(np.unique(boards, axis=0)) == 200


@pytest.mark.parametrize(
    ("size", "givens"), [(9, (16, 30)), (9, (30, 82)), (9, (40, 30)), (4, (3, 5)), (6, (7, 7))]
)
def test_impossible_givens(size, givens):
    with pytest.raises(ValueError, match=f"givens from {givens[0]} to {givens[1]} are impossible"):
        generate(Sudoku(size), 1, givens, seed=0)


def test_a_wish_out_of_reach_is_given_up():
    with (
        mock.patch.object(generator, "PATIENCE", 50),
        pytest.raises(ValueError, match=r"no sudoku9 puzzle with 17 givens.*raise the smallest"),
    ):
        generate(Sudoku(9), 2, (17, 17), seed=0)
