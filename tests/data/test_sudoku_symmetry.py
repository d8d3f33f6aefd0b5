"""Drawn symmetries against all 3072 of 4x4, and the signature against the classes they make."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from ostinato.data.sudoku import Sudoku, generate
from tests.data.test_sudoku_oracle import grids_4x4, images_4x4

SIZES = pytest.mark.parametrize("size", [4, 6, 9])
SEEDS = st.integers(0, 2**32)
GIVENS = {4: (4, 12), 6: (12, 24), 9: (28, 44), 16: (150, 180)}


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(sudoku, puzzles, solutions, seed):
    pair = sudoku.augment(torch.from_numpy(puzzles), torch.from_numpy(solutions), rng(seed))
    return [tokens.numpy() for tokens in pair]


def test_every_symmetry_of_4x4_is_drawn_equally_often_and_nothing_else():
    sudoku, draws = Sudoku(4), 3072 * 20
    puzzle, answer = (
        "12...........32.",
        "1234341221434321",
    )  # no symmetry leaves the two as they are
    inputs, labels = (
        torch.from_numpy(sudoku.parse(text)).expand(draws, -1) for text in (puzzle, answer)
    )
    drawn = torch.cat(sudoku.augment(inputs, labels, rng(0)), dim=1).numpy()
    pairs, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(images_4x4(puzzle + answer)) == 3072
    assert {sudoku.format(pair) for pair in pairs} == images_4x4(puzzle + answer)
    # Chi-square with 3071 degrees of freedom: mean 3071, standard deviation 78.
    assert abs(((counts - 20) ** 2 / 20).sum() - 3071) < 5 * 78


@pytest.mark.parametrize("size", [6, 9])
def test_a_single_given_may_go_everywhere(size):
    sudoku, draws = Sudoku(size), 100 * size**3
    inputs = torch.ones(draws, size**2, dtype=torch.uint8)
    inputs[:, 1] = 2
    moved, _ = sudoku.augment(inputs, inputs, rng(0))
    assert ((moved > 1).sum(dim=1) == 1).all()
    tokens, cells = moved.max(dim=1)
    counts = torch.bincount(cells * size + tokens - 2, minlength=size**3).double()
    degrees = size**3 - 1
    assert abs(((counts - 100) ** 2 / 100).sum() - degrees) < 5 * (2 * degrees) ** 0.5


@pytest.mark.parametrize(("size", "share"), [(4, 0.5), (6, 0.0), (9, 0.5)])
def test_only_square_boxes_are_transposed(size, share):
    inputs = torch.ones(10_000, size**2, dtype=torch.long)
    inputs[:, [0, size - 1]] = 2  # both in the first row
    moved, _ = Sudoku(size).augment(inputs, inputs, rng(0))
    first, second = (moved == 2).nonzero()[:, 1].view(-1, 2).T
    in_column = first % size == second % size
    assert ((first // size == second // size) ^ in_column).all()
    assert abs(in_column.double().mean() - share) <= 0.03 * (share > 0)


@cache
def some_puzzles(size: int) -> tuple[np.ndarray, np.ndarray]:
    return generate(Sudoku(size), 64, GIVENS[size], seed=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_what_is_no_digit_keeps_its_value(dtype):
    sudoku = Sudoku(9)
    puzzles, solutions = (torch.from_numpy(x[:8]).to(dtype, copy=True) for x in some_puzzles(9))
    puzzles[4:] = 0
    solutions[4:] = 0
    ignored = 0 if dtype == torch.uint8 else -100
    solutions[:, 7] = ignored
    moved, answers = sudoku.augment(puzzles, solutions, rng(0))
    assert moved.dtype == answers.dtype == dtype
    assert (moved[4:] == 0).all()
    assert (answers[4:] == 0).sum() == (solutions[4:] == 0).sum()
    assert ((answers == ignored).sum(dim=1) == (solutions == ignored).sum(dim=1)).all()
    givens = (moved > 1) & (answers > 1)
    assert (moved[givens] == answers[givens]).all()


def test_signatures_of_4x4_tell_the_classes_apart():
    """Same class, same signature; of the classes hardly any two may share one."""
    sudoku = Sudoku(4)
    puzzles, solutions = generate(sudoku, 1200, (4, 12), 0)
    signatures = sudoku.signatures(puzzles, solutions)
    classes: dict[str, set[int]] = {}
    left = {sudoku.format(puzzle): int(s) for puzzle, s in zip(puzzles, signatures, strict=True)}
    while left:
        name = next(iter(left))
        classes[name] = {left.pop(image) for image in images_4x4(name) & left.keys()}
    assert all(len(found) == 1 for found in classes.values())
    distinct = set().union(*classes.values())
    assert len(classes) > 500
    assert len(distinct) > 0.99 * len(classes)


@pytest.mark.parametrize("size", [6, 9])
def test_signatures_notice_a_single_moved_given(size):
    """Puzzles that agree in all but one given, which are therefore hard to tell apart."""
    sudoku = Sudoku(size)
    puzzles, solutions = (tokens[:3] for tokens in some_puzzles(size))
    twins, answers = [], []
    for puzzle, answer in zip(puzzles, solutions, strict=True):
        for removed in np.flatnonzero(puzzle > 1):
            for added in np.flatnonzero(puzzle == 1):
                twin = puzzle.copy()
                twin[removed], twin[added] = 1, answer[added]
                twins.append(twin)
                answers.append(answer)
    signatures = sudoku.signatures(np.array(twins), np.array(answers))
    assert len(np.unique(signatures)) == len(twins)


def test_a_transposed_6x6_board_is_another_puzzle():
    """Its boxes would stand upright, but a single given among blanks looks the same both ways."""
    sudoku = Sudoku(6)
    answer = sudoku.parse("123456456123231564564231312645645312")[None]
    row, column = np.ones_like(answer), np.ones_like(answer)
    row[0, :6] = answer[0, :6]
    column[0, ::6] = answer[0, ::6]
    first, second = (sudoku.signatures(puzzle, answer) for puzzle in (row, column))
    assert first != second


def test_all_4x4_grids_have_two_signatures_and_none_at_all_none():
    sudoku = Sudoku(4)
    puzzles = np.stack([sudoku.parse(grid) for grid in grids_4x4()])
    puzzles[:, 0] = 1
    solutions = np.stack([sudoku.parse(grid) for grid in grids_4x4()])
    assert len(np.unique(sudoku.signatures(puzzles, solutions))) == 2
    assert sudoku.signatures(puzzles[:0], solutions[:0]).shape == (0,)
