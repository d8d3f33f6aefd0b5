"""Mazes read, drawn and judged, against every path that there is."""

import re
from collections import deque
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ostinato.data.maze import Maze, shortest_path
from ostinato.data.maze.paths import FREE, PATH
from ostinato.data.symmetries import transform
from tests.data.maze_oracle import (
    board_of,
    distances,
    in_words,
    length,
    marked,
    simple_paths,
    touches_itself,
)

MAZE = Maze(4)
OPEN = """
S..#
.#..
....
#..G
"""


@st.composite
def boards(draw, size: int = 4) -> np.ndarray:
    """Any walls, S and G somewhere; perhaps without a way."""
    cells = draw(st.lists(st.sampled_from("..#"), min_size=size**2, max_size=size**2))
    start, goal = draw(st.permutations(range(size**2)))[:2]
    cells[start], cells[goal] = "S", "G"
    return np.array(cells).reshape(size, size)


def tokens_of(board: np.ndarray) -> np.ndarray:
    return MAZE.tokens(in_words(board), "#.SGo")


@given(board=boards(), marks=st.lists(st.booleans(), min_size=16, max_size=16), edit=st.booleans())
def test_many_answers_are_judged_as_each_of_them(board, marks, edit):
    puzzle = tokens_of(board)
    path = shortest_path(puzzle) or []
    on_path = np.isin(np.arange(16), path) ^ (np.array(marks) & edit)
    answers = np.stack(
        [puzzle, *(np.where(m & (puzzle == FREE), PATH, puzzle) for m in (on_path, marks))]
    )
    answers = np.concatenate([answers, np.roll(answers, 1, axis=1)])
    puzzles = np.tile(puzzle, (len(answers), 1))
    expected = [MAZE.check(puzzle, answer) is not None for answer in answers]
    assert MAZE.wrong(puzzles, answers).tolist() == expected


@given(board=boards())
def test_the_shortest_path_against_relaxation(board):
    path = shortest_path(tokens_of(board))
    if path is None:
        assert length(board) == np.inf
        return
    cells = [divmod(cell, 4) for cell in path]
    assert board[cells[0]] == "S" and board[cells[-1]] == "G"
    assert len(path) - 1 == length(board)
    assert [distances(board)[cell] for cell in cells] == list(range(len(path)))
    for (row, col), (next_row, next_col) in pairwise(cells):
        assert abs(row - next_row) + abs(col - next_col) == 1


def first_found(board: np.ndarray) -> list[tuple[int, int]] | None:
    """Whole paths in a queue, longer by a cell below, left, right, above: the published rule."""
    (start,) = map(tuple, np.argwhere(board == "S").tolist())
    queue, seen = deque([[start]]), {start}
    while queue:
        path = queue.popleft()
        if board[path[-1]] == "G":
            return path
        for down, right in ((1, 0), (0, -1), (0, 1), (-1, 0)):
            cell = path[-1][0] + down, path[-1][1] + right
            inside = min(cell) >= 0 and max(cell) < len(board)
            if inside and board[cell] != "#" and cell not in seen:
                seen.add(cell)
                queue.append([*path, cell])
    return None


@given(board=boards())
def test_of_several_shortest_paths_it_is_the_published_one(board):
    path = shortest_path(tokens_of(board))
    assert (path and [divmod(cell, 4) for cell in path]) == first_found(board)


def test_down_comes_before_right():
    maze = Maze(3).parse("S.......G")
    assert shortest_path(maze) == [0, 3, 6, 7, 8]


def scores_of(puzzle: np.ndarray, answer: np.ndarray) -> dict[str, bool]:
    """The scores of one answer."""
    scores = MAZE.scores(puzzle[None], answer[None])
    return {name: passed.tolist() == [True] for name, passed in scores.items()}


@given(board=boards(), data=st.data())
def test_any_shortest_path_solves_it_and_nothing_else(board, data):
    puzzle = tokens_of(board)
    paths = simple_paths(board)
    if not paths:
        assert MAZE.check(puzzle, puzzle) is not None
        return
    path = data.draw(st.sampled_from(paths))
    answer = tokens_of(marked(board, path))
    problem = MAZE.check(puzzle, answer)
    scores = {
        name: bool(passed) for name, (passed,) in MAZE.scores(puzzle[None], answer[None]).items()
    }
    shortest = len(path) - 1 == length(board)
    assert (problem is None) == shortest
    assert scores == {"valid_path": not touches_itself(path), "shortest_path": shortest}
    if problem is None:
        assert not MAZE.faults(puzzle, answer).any()
    elif not touches_itself(path):
        assert problem == (
            f"the path takes {len(path) - 1} steps, the shortest {length(board):.0f}"
        )


@given(board=boards(), data=st.data())
def test_marks_are_a_path_only_if_some_path_has_them(board, data):
    """Arbitrary marks, mostly wrong: valid exactly if they are all cells of one clear path."""
    free = [(int(r), int(c)) for r, c in np.argwhere(board == ".")]
    chosen = data.draw(st.lists(st.sampled_from(free), unique=True)) if free else []
    ends = {(int(r), int(c)) for r, c in np.argwhere((board == "S") | (board == "G"))}
    wanted = any(
        set(path) == set(chosen) | ends and not touches_itself(path) for path in simple_paths(board)
    )
    answer = tokens_of(marked(board, chosen))
    scores = scores_of(tokens_of(board), answer)
    assert scores["valid_path"] == wanted
    assert not scores["shortest_path"] or wanted


@given(board=boards(), cell=st.integers(0, 15), token=st.integers(0, 5))
def test_a_changed_cell_is_a_fault(board, cell, token):
    puzzle = tokens_of(board)
    path = shortest_path(puzzle)
    if path is None:
        return
    answer = puzzle.copy()
    answer[path[1:-1]] = PATH
    if token == answer[cell] or {token, puzzle[cell]} <= {PATH, FREE}:
        return
    answer[cell] = token
    problem = MAZE.check(puzzle, answer)
    assert problem is not None and problem.startswith(MAZE.place(cell))
    assert MAZE.faults(puzzle, answer).nonzero()[0].tolist() == [cell]
    assert not any(scores_of(puzzle, answer).values())


@pytest.mark.parametrize(
    ("answer", "problem", "faults"),
    [
        ("S..#/.#../..../#..G", "the path ends at row 1, column 1", []),
        ("S..#/o#../..../#.oG", "the path ends at row 2, column 1", [14]),
        ("Soo#/.#o./..oo/#..G", None, []),
        ("S..#/o#../oo../#ooG", None, []),
        ("S..#/o#.o/oo../#ooG", "row 2, column 4 is marked but not on the path", [7]),
        ("So.#/o#../oo../#ooG", "the path forks at row 1, column 1", [1, 4, 8, 9, 13, 14]),
        ("Soo#/.oo./..oo/#..G", "row 2, column 2 was changed from '#'", [5]),
        ("Soo#/.#o./..oo/#...", "row 4, column 4 was changed from 'G'", [15]),
    ],
)
def test_problems_in_words(answer, problem, faults):
    puzzle = MAZE.parse(OPEN)
    tokens = MAZE.tokens(answer.replace("/", "\n"), "#.SGo")
    assert MAZE.check(puzzle, tokens) == problem
    assert MAZE.faults(puzzle, tokens).nonzero()[0].tolist() == faults


@given(board=boards())
def test_written_mazes_are_read(board):
    if length(board) == np.inf:
        with pytest.raises(ValueError, match="no path leads from S to G"):
            MAZE.parse(in_words(board))
        return
    tokens = MAZE.parse(in_words(board))
    assert [".#.SG"[token] for token in tokens] == board.ravel().tolist()
    assert MAZE.format(tokens) == in_words(board)
    assert (MAZE.parse(in_words(board).replace(".", " ")) == tokens).all()
    lines = ["".join(row) for row in board]
    assert (MAZE.parse("\n".join(lines)) == tokens).all()
    if all(line.strip(".") for line in lines):
        cut = "\r\n".join(line.replace(".", " ").rstrip() for line in lines) + "\r\n"
        assert (MAZE.parse(cut) == tokens).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S..G", "a 4x4 maze has 16 characters (# . S G, or 4 lines of 4), not 4"),
        ("S...\n....\n...G", "a 4x4 maze has 4 lines of 4 characters, not 3 of up to 4"),
        ("S...\n....\n.....\n...G", "a 4x4 maze has 4 lines of 4 characters, not 4 of up to 5"),
        ("S" + "." * 15, "the maze has 0 G: write exactly one"),
        ("SS" + "." * 13 + "G", "the maze has 2 S: write exactly one"),
        ("S.o" + "." * 12 + "G", "character 'o' at row 1, column 3 is not allowed: use # for"),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MAZE.parse(text)


def test_sizes():
    assert (Maze().seq_len, Maze().vocab_size, Maze().name) == (900, 6, "maze30")
    for size in (2, 65):
        with pytest.raises(ValueError, match=f"size {size} is not known: choose 3 to 64"):
            Maze(size)


def test_a_drawing_has_two_characters_a_cell():
    answer = MAZE.tokens("Soo#.#o...oo#..G", "#.SGo")
    assert MAZE.draw(answer).split("\n") == ["S • • ██", "  ██•   ", "    • • ", "██    G "]
    seen = []
    drawn = MAZE.draw(answer, lambda cell, symbol: seen.append((cell, symbol)) or "x")
    assert drawn == "xxxx\nxxxx\nxxxx\nxxxx"
    assert seen[2:6] == [(2, "• "), (3, "██"), (4, "  "), (5, "██")]


def test_mazes_in_the_lines_of_a_file():
    boards = list(MAZE.boards(iter("\nS..#\n.#\n....\n#..G\n\n\n#S.G............\r\n".split("\n"))))
    assert boards == [(2, "S..#\n.#\n....\n#..G"), (8, "#S.G............")]
    for early in ("S..#\n....", "S..#\n\n....\n....\n...G\n"):
        with pytest.raises(ValueError, match=r"before line 2 has \d rows, not 4"):
            list(MAZE.boards(iter(early.split("\n"))))


def test_all_eight_symmetries_are_drawn_and_the_label_moves_along():
    board = board_of(OPEN)
    puzzle = tokens_of(board)
    path = shortest_path(puzzle)
    assert path is not None
    answer = puzzle.copy()
    answer[path[1:-1]] = PATH
    draws = 800
    inputs, labels = (torch.from_numpy(x).expand(draws, -1) for x in (puzzle, answer))
    moved = [x.numpy() for x in MAZE.augment(inputs, labels, torch.Generator().manual_seed(0))]
    images = {
        (bytes(transform(puzzle.reshape(4, 4), n)), bytes(transform(answer.reshape(4, 4), n)))
        for n in range(8)
    }
    found = [(bytes(a), bytes(b)) for a, b in zip(*moved, strict=True)]
    assert len(images) == 8 and set(found) == images
    assert all(60 < found.count(image) < 145 for image in images)  # 100 are expected, 9 the spread
    assert MAZE.scores(*moved)["shortest_path"].all()
