"""The symmetries against their definition by coordinates, and as the group that they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostinato.data.symmetries import INVERSE, sources, transform, undo

NUMBERS = range(8)
GRIDS = st.tuples(st.integers(1, 6), st.integers(1, 6)).map(
    lambda shape: np.arange(shape[0] * shape[1]).reshape(shape)
)


def moved(grid: np.ndarray, number: int) -> np.ndarray:
    """Define each number, cell by cell: new[r, c] is an old cell counted from some corner."""
    rows, cols = grid.shape
    new = {
        0: (rows, cols, lambda r, c: (r, c)),
        1: (cols, rows, lambda r, c: (c, cols - 1 - r)),
        2: (rows, cols, lambda r, c: (rows - 1 - r, cols - 1 - c)),
        3: (cols, rows, lambda r, c: (rows - 1 - c, r)),
        4: (rows, cols, lambda r, c: (r, cols - 1 - c)),
        5: (rows, cols, lambda r, c: (rows - 1 - r, c)),
        6: (cols, rows, lambda r, c: (c, r)),
        7: (cols, rows, lambda r, c: (rows - 1 - c, cols - 1 - r)),
    }
    height, width, old = new[number]
    return np.array([[grid[old(r, c)] for c in range(width)] for r in range(height)])


@given(grid=GRIDS, number=st.sampled_from(NUMBERS))
def test_each_number_means_what_the_originals_mean(grid, number):
    assert np.array_equal(transform(grid, number), moved(grid, number))
    assert np.array_equal(undo(transform(grid, number), number), grid)


def test_a_quarter_turn_goes_to_the_left():
    grid = np.array([[1, 2, 3], [4, 5, 6]])
    assert transform(grid, 1).tolist() == [[3, 6], [2, 5], [1, 4]]
    assert transform(grid, 7).tolist() == [[6, 3], [5, 2], [4, 1]]


def test_they_are_eight_and_closed_under_composition():
    table = sources(3)
    members = {bytes(row) for row in table}
    assert len(members) == 8
    assert {bytes(a[b]) for a in table for b in table} == members
    for number, row in enumerate(table):
        assert (row[table[INVERSE[number]]] == np.arange(9)).all()


@given(seed=st.integers(0, 2**32), size=st.integers(1, 6), number=st.sampled_from(NUMBERS))
def test_a_batch_of_squares_is_transformed_one_by_one(seed, size, number):
    grids = np.random.default_rng(seed).integers(0, 6, (3, size, size))
    expected = [moved(grid, number) for grid in grids]
    assert (transform(grids, number) == expected).all()
    flat = grids.reshape(3, -1)[:, sources(size)[number]]
    assert (flat.reshape(grids.shape) == expected).all()


def test_other_numbers_are_refused():
    with pytest.raises(ValueError, match="0 to 7"):
        transform(np.zeros((2, 2)), 8)
