"""Generated mazes against relaxation, and their distribution against drawing until one fits."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostinato.data.maze import Maze, generate
from ostinato.data.maze.generator import WALLS, generate_carved, labelled
from ostinato.data.maze.paths import FREE, PATH, far_cells, has_one_shortest_path
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.stored import StoredData
from tests.data.maze_oracle import distances, length, simple_paths
from tests.data.test_stored import write_foreign

SYMBOLS = np.array(list("?#.SGo"))


def board(maze: Maze, tokens: np.ndarray) -> np.ndarray:
    return SYMBOLS[tokens].reshape(maze.size, maze.size)


@pytest.mark.parametrize(("size", "least"), [(3, 4), (9, 9), (9, 20), (12, 30), (33, 40)])
def test_they_are_mazes_with_a_path_as_long_as_asked_for(size, least):
    maze = Maze(size)
    mazes = generate(maze, 25, least, np.random.default_rng(0))
    assert mazes.shape == (25, maze.seq_len)
    for tokens in mazes:
        assert sorted(set(tokens.tolist()) - {1}) == [2, 3, 4]
        assert (tokens == 3).sum() == (tokens == 4).sum() == 1
        assert least <= length(board(maze, tokens)) < np.inf


@given(seed=st.integers(0, 2**32), size=st.integers(3, 12), least=st.integers(1, 30))
def test_far_cells_against_relaxation(seed, size, least):
    rng = np.random.default_rng(seed)
    free = rng.random((4, size, size)) < rng.uniform(0.4, 0.9)
    start = rng.integers(size**2, size=4)
    kept, far = far_cells(free, start, least)
    wanted = {}
    for number in range(4):
        cells = np.where(free[number], ".", "#")
        if cells.flat[start[number]] == ".":
            cells.flat[start[number]] = "S"
            steps = distances(cells)
            if ((steps >= least) & (steps < np.inf)).any():
                wanted[number] = ((steps >= least) & (steps < np.inf)).ravel().tolist()
    assert dict(zip(kept.tolist(), far.tolist(), strict=True)) == wanted


def drawn_until_one_fits(size: int, least: int, count: int, seed: int) -> list[np.ndarray]:
    """Walls, start and goal by chance, again and again."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        cells = np.where(rng.random((size, size)) < rng.uniform(*WALLS), "#", ".")
        start, goal = rng.integers(size**2, size=2)
        if start != goal and cells.flat[start] == cells.flat[goal] == ".":
            cells.flat[start], cells.flat[goal] = "S", "G"
            if least <= length(cells) < np.inf:
                found.append(cells)
    return found


def test_the_distribution_is_that_of_drawing_until_one_fits():
    maze, least, count = Maze(4), 5, 500
    slow = drawn_until_one_fits(4, least, count, seed=0)
    fast = [board(maze, t) for t in generate(maze, 4 * count, least, np.random.default_rng(1))]
    for measure in (length, lambda cells: (cells == "#").mean(), lambda cells: first(cells, "S")):
        a, b = (np.array([measure(cells) for cells in boards]) for boards in (slow, fast))
        spread = np.hypot(a.std() / len(a) ** 0.5, b.std() / len(b) ** 0.5)
        assert abs(a.mean() - b.mean()) < 4 * spread


def first(cells: np.ndarray, symbol: str) -> bool:
    """Tell whether the symbol stands in a corner, where paths are long."""
    return symbol in (cells[0, 0], cells[0, -1], cells[-1, 0], cells[-1, -1])


def test_a_single_shortest_path():
    maze = Maze(5)
    for tokens in generate(maze, 30, 6, np.random.default_rng(0), unique=True):
        lengths = [len(path) for path in simple_paths(board(maze, tokens))]
        assert lengths.count(min(lengths)) == 1
    several = generate(maze, 200, 6, np.random.default_rng(0))
    for tokens in several:
        lengths = [len(path) for path in simple_paths(board(maze, tokens))]
        assert has_one_shortest_path(tokens) == (lengths.count(min(lengths)) == 1)


@pytest.mark.parametrize(("size", "least"), [(3, 4), (9, 20), (21, 50)])
def test_perfect_mazes_have_no_loops_and_reach_every_room(size, least):
    maze, rooms = Maze(size), (size + 1) // 2
    mazes = generate(maze, 20, least, np.random.default_rng(0), perfect=True)
    assert len({tokens.tobytes() for tokens in mazes}) > 2
    for tokens in mazes:
        cells = board(maze, tokens)
        assert (cells[::2, ::2] != "#").all() and (cells[1::2, 1::2] == "#").all()
        # Connected, with one passage fewer than rooms: a tree
        assert (cells != "#").sum() == 2 * rooms**2 - 1
        assert (distances(cells)[cells != "#"] < np.inf).all()
        assert least <= length(cells) < np.inf
        assert has_one_shortest_path(tokens)


def test_a_length_that_none_has_is_refused(monkeypatch):
    monkeypatch.setattr("ostinato.data.maze.generator.PATIENCE", 100_000)
    monkeypatch.setattr("ostinato.data.maze.generator.PATIENCE_FOR_PERFECT", 1000)
    with pytest.raises(ValueError, match="no maze5 with a shortest path of 20 steps: lower min"):
        generate(Maze(5), 1, 20, np.random.default_rng(0))
    with pytest.raises(ValueError, match="no maze5 with a shortest path of 24 steps: lower min"):
        generate(Maze(5), 1, 24, np.random.default_rng(0), perfect=True)


@pytest.mark.parametrize(("size", "lengths"), [(10, (6, 20)), (11, (12, 12))])
def test_carved_mazes_are_perfect_in_a_border_of_walls(size, lengths):
    mazes = generate_carved(Maze(size), 60, lengths, np.random.default_rng(0))
    inner = size - 2 + size % 2  # the last row and column of rooms and walls
    for tokens in mazes:
        cells = board(Maze(size), tokens)
        free = cells != "#"
        assert not (
            free[0].any() or free[:, 0].any() or free[inner:].any() or free[:, inner:].any()
        )
        assert free[1:inner:2, 1:inner:2].all(), "a room at every odd row and column"
        assert free.sum() == 2 * (inner // 2) ** 2 - 1, "a tree: one passage fewer than rooms"
        assert lengths[0] <= length(cells) <= lengths[1]
    assert len({tokens.tobytes() for tokens in mazes}) > 50


def test_a_data_set_of_eqr_is_known_as_mazes(tmp_path):
    """Its builder counts samples where others count puzzles."""
    labels = labelled(generate_carved(Maze(8), 12, (4, 12), np.random.default_rng(1))).labels
    inputs = np.where(labels == PATH, FREE, labels)
    for split in ("train", "test"):
        place = write_foreign(tmp_path / "eqr", split, inputs, labels, vocab_size=6) / split
        facts = json.loads((place / "dataset.json").read_text())
        del facts["total_puzzles"]
        (place / "dataset.json").write_text(json.dumps(facts | {"total_samples": 12}))
    data = StoredData(str(tmp_path / "eqr"), num_validation=2)
    folder = data.prepare(tmp_path / "data", lambda line: None)
    assert PuzzleSet.load(folder, "train").metadata.task == "maze8"
