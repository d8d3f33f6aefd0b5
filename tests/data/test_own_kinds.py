"""Light Up, Futoshiki and a user's own kind: rules, symmetries and generators, by brute force."""

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch

from ostinato.data.futoshiki import Futoshiki
from ostinato.data.generated import GeneratedData
from ostinato.data.grid import Grid
from ostinato.data.lightup import LightUp
from ostinato.data.own import load_kind
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.tasks import find_task, task_named

PAGE = Path(__file__).parents[2] / "docs/own-puzzle.md"


def puzzle_of(task: Grid, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    while (drawn := task.generate(rng)) is None:
        pass
    return task.parse(drawn[0]), task.parse(drawn[1])


def light_up_answers(board: str) -> list[str]:
    """Try all ways to put lamps, by rules written anew."""
    free = [cell for cell, symbol in enumerate(board) if symbol == "."]
    size = int(len(board) ** 0.5)

    def ray(cell: int, down: int, right: int) -> list[int]:
        row, col, seen = cell // size, cell % size, []
        while True:
            row, col = row + down, col + right
            if not (0 <= row < size and 0 <= col < size) or board[row * size + col] != ".":
                return seen
            seen.append(row * size + col)

    ways = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    sees = {cell: {other for way in ways for other in ray(cell, *way)} for cell in free}
    found = []
    for chosen in product([0, 1], repeat=len(free)):
        lamps = {cell for cell, lamp in zip(free, chosen, strict=True) if lamp}
        if any(sees[lamp] & lamps for lamp in lamps):
            continue
        if any(cell not in lamps and not sees[cell] & lamps for cell in free):
            continue
        if all(
            sum(abs(cell // size - o // size) + abs(cell % size - o % size) == 1 for o in lamps)
            == int(symbol)
            for cell, symbol in enumerate(board)
            if symbol.isdecimal()
        ):
            found.append("".join("o" if cell in lamps else s for cell, s in enumerate(board)))
    return found


def futoshiki_answers(board: str) -> list[str]:
    """Try all Latin squares of 4×4, by rules written anew."""
    rows = [board[start : start + 7] for start in range(0, 49, 7)]
    signs = {"<": str.__lt__, ">": str.__gt__, "^": str.__lt__, "v": str.__gt__}
    found = []
    for lines in product(permutations("1234"), repeat=4):
        if any(len({line[col] for line in lines}) < 4 for col in range(4)):
            continue
        filled = [list(row) for row in rows]
        for row in range(4):
            filled[2 * row][::2] = lines[row]
        pairs = [
            (r, c, filled[r][c - 1], filled[r][c + 1]) for r in range(0, 7, 2) for c in (1, 3, 5)
        ]
        pairs += [
            (r, c, filled[r - 1][c], filled[r + 1][c]) for r in (1, 3, 5) for c in range(0, 7, 2)
        ]
        text = "".join("".join(row) for row in filled)
        given = all(symbol in (".", answer) for symbol, answer in zip(board, text, strict=True))
        if given and all(rows[r][c] == "-" or signs[rows[r][c]](*pair) for r, c, *pair in pairs):
            found.append(text)
    return found


def test_light_up_puzzles_have_one_answer():
    task = LightUp(5)
    drawn = (puzzle_of(task, seed) for seed in range(1000))
    puzzle, answer = next(pair for pair in drawn if (pair[0] == 1).sum() < 15)
    assert light_up_answers(task.format(puzzle)) == [task.format(answer)]


def test_futoshiki_puzzles_have_one_answer():
    task = Futoshiki(4)
    puzzle, answer = puzzle_of(task, 1)
    assert futoshiki_answers(task.format(puzzle)) == [task.format(answer)]


@pytest.mark.parametrize("task", [LightUp(7), Futoshiki(5)], ids=lambda task: task.name)
def test_symmetric_copies_keep_the_rules(task: Grid):
    puzzle, answer = puzzle_of(task, 0)
    group = task.group
    images = []
    for move, names in zip(group.moves, group.renames, strict=True):
        images.append((names[puzzle[move]], names[answer[move]]))
        assert task.check(*images[-1]) is None
    boards = np.stack([image for image, _ in images]).astype(np.uint8)
    assert len({board.tobytes() for board in boards}) == len(group.moves) in (8, 16)
    assert len(set(task.signatures(boards, boards).tolist())) == 1
    drawn = task.symmetries(50, torch.Generator().manual_seed(0))
    shown = drawn.apply(torch.from_numpy(puzzle).expand(50, -1)).numpy()
    assert {row.tobytes() for row in shown} <= {board.tobytes() for board in boards}
    other, _ = puzzle_of(task, 5)
    assert task.signatures(other[None], other[None])[0] != task.signatures(boards, boards)[0]


@pytest.mark.parametrize(
    ("task", "puzzle", "answer", "problem"),
    [
        (LightUp(5), "." * 25, "o" + "." * 24, "row 2, column 2 is dark"),
        (LightUp(5), "." * 25, "oo" + "." * 23, "the lamps in row 1, column 1 and row 1, column 2"),
        (LightUp(5), "2" + "." * 24, "2o" + "." * 23, "1 lamps are next to the 2 in row 1, column"),
        (LightUp(5), "#" + "." * 24, "o" + "." * 24, "row 1, column 1 was changed from '#'"),
        (Futoshiki(4), ".-" * 24 + ".", ".-" * 24 + "1", "row 1, column 1 is not filled in"),
    ],
)
def test_mistakes_are_named(task: Grid, puzzle: str, answer: str, problem: str):
    tokens = task.parse(puzzle), task.parse(answer)
    found = task.check(*tokens)
    assert found is not None and found.startswith(problem)
    assert task.faults(*tokens).any()


def test_futoshiki_mistakes_are_named():
    task = Futoshiki(4)
    puzzle, answer = puzzle_of(task, 1)
    text = task.format(answer)
    rows = [text[start : start + 7] for start in range(0, 49, 14)]
    between = [text[start : start + 7] for start in range(7, 42, 14)]
    blank = "".join(a + b for a, b in zip(rows, [*between, ""], strict=True))
    for digit in "1234":
        blank = blank.replace(digit, ".")
    swapped = text.translate(str.maketrans("12", "21"))
    same_row = text.replace("2", "1")
    assert "is not less than" in str(task.check(task.parse(blank), task.parse(swapped)))
    assert "digit 1 stands twice in row" in str(task.check(task.parse(blank), task.parse(same_row)))
    assert task.check(puzzle, answer) is None


def test_boards_in_files():
    task = LightUp(5)
    one, other = "....." * 5, "#...." * 5
    lines = ["# . . . .", *["#...."] * 4, "", one, "", *["....."] * 5]
    assert list(task.boards(iter(lines))) == [(1, other), (7, one), (9, one)]
    with pytest.raises(ValueError, match="has 2 rows, not 5"):
        list(task.boards(iter([".....", "....."])))


def test_a_file_of_your_own(tmp_path: Path):
    """The page's file works, is short, and its puzzles are no copies of each other."""
    code = PAGE.read_text("utf-8").split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) < 80
    path = tmp_path / "latin.py"
    path.write_text(code)
    task = load_kind(f"{path}:Latin")(4)
    assert task_named("latin4") == task
    data = GeneratedData(puzzle="latin4", num_train=30, num_validation=5, num_test=5)
    folder = data.prepare(tmp_path / "data", lambda line: None)
    train, test = (PuzzleSet.load(folder, split) for split in ("train", "test"))
    assert not set(task.signatures(train.inputs, train.labels)) & set(
        task.signatures(test.inputs, test.labels)
    )
    path.write_text(code + "# changed\n")
    assert data.prepare(tmp_path / "data", lambda line: None) != folder, "other code, other puzzles"


@pytest.mark.parametrize(
    ("content", "spec", "message"),
    [
        ("", "none.py:Task", "there is no none.py"),
        ("", "PATH:Task", "has no class Task"),
        ("Task = int", "PATH:Task", "has no class Task"),
        ("import nothing_of_this_name", "PATH:Task", "cannot be run"),
        ("class Task:\n", "PATH:Task", "cannot be run"),
    ],
)
def test_files_without_a_kind(tmp_path: Path, content: str, spec: str, message: str):
    path = tmp_path / "own.py"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_kind(spec.replace("PATH", str(path)))


def test_an_installed_package_adds_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code = PAGE.read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "latin_squares.py").write_text(code.replace('"latin"', '"packaged-latin"'))
    info = tmp_path / "latin_squares-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: latin-squares\nVersion: 1.0\n")
    entry = "[ostinato.tasks]\nlatin = latin_squares:Latin\n"
    (info / "entry_points.txt").write_text(entry)
    assert find_task("packaged-latin5") is None
    monkeypatch.syspath_prepend(str(tmp_path))
    task = task_named("packaged-latin5")
    puzzle, answer = puzzle_of(task, 0)
    assert task.check(puzzle, answer) is None
    data = GeneratedData(puzzle="packaged-latin4", num_train=4, num_validation=2, num_test=2)
    assert len(PuzzleSet.load(data.prepare(tmp_path, lambda line: None), "train")) == 4
