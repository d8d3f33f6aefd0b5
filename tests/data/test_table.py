"""Puzzles of which only a table is known: what is found in it, read, written and checked."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ostinato.data.puzzles import PuzzleSet
from ostinato.data.records import read_cells
from ostinato.data.table import Table, TableData
from ostinato.data.table.layout import Layout
from ostinato.data.tasks import find_task


def write(path: Path, rows: list[tuple[str, str]], header: str = "question,answer") -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def numbers(count: int) -> list[tuple[str, str]]:
    """Three digits, and their sum: an answer shorter than its question."""
    return [
        (f"{n // 25} {n // 5 % 5} {n % 5}", str(n // 25 + n // 5 % 5 + n % 5)) for n in range(count)
    ]


@pytest.mark.parametrize(
    ("rows", "written_as", "canvas", "blanks"),
    [
        ([("1.3." * 4, "1234" * 4)] * 3, "characters", (4, 4), (".",)),
        ([("0110", "0000")] * 3, "characters", (1, 4), ()),
        (numbers(20), "words between spaces", (1, 3), ()),
        ([("red,green", "green,red")], "words between commas", (1, 2), ()),
        ([("[[1,2],[3,4]]", "[[7]]"), ("[[1,2,3]]", "[[4]]")], "JSON lists of rows", (2, 3), ()),
        ([("[10,2,3]", "[3,2,10]")], "JSON lists", (1, 3), ()),
        ([("#.#\n.#.", "#o#\no#o")] * 4, "lines of characters", (2, 3), (".",)),
    ],
)
def test_what_is_found(tmp_path, rows, written_as, canvas, blanks):
    data = TableData(str(write(tmp_path / "t.csv", rows)))
    task = data.task
    assert data.found.layout.describe() == written_as
    assert ((task.rows, task.cols), task.blanks) == (canvas, blanks)
    assert find_task(task.name) == task, "the name is the whole description"
    for question, answer in rows:
        tokens = task.parse(question), task.parse_answer(answer)
        assert task.layout.read(task.format(tokens[0])) == task.layout.read(question)
        assert task.layout.read(task.format(tokens[1])) == task.layout.read(answer)
        assert task.check(*tokens) is None


symbols = st.text("abc123#", min_size=1, max_size=3)
boards = st.integers(1, 4).flatmap(
    lambda cols: st.lists(st.lists(symbols, min_size=cols, max_size=cols), min_size=1, max_size=4)
)


@given(boards, st.sampled_from(["lines", "grid"]), st.sampled_from([" ", ",", ";"]))
def test_boards_are_read_as_they_are_written(board, form, separator):
    layout = Layout(form, separator)
    assert layout.read(layout.write(board)) == board


def test_longer_and_shorter_answers(tmp_path):
    rows = [("12", "1234"), ("1", "1"), ("123", "12")]
    task = TableData(str(write(tmp_path / "t.csv", rows))).task
    assert (task.seq_len, task.vocab_size) == (4, 6), "outside, four symbols, the end"
    assert task.parse("12").tolist() == [1, 2, 0, 0]
    assert task.parse_answer("1").tolist() == [1, 5, 0, 0], "closed; what follows is ignored"
    assert task.format(np.array([1, 5, 3, 2])) == "1", "whatever stands behind the end"
    assert task.draw(np.array([1, 5, 3, 2])) == "1"
    grids = [("[[1,2],[3,4]]", "[[1,2,3]]"), ("[[1]]", "[[2],[3]]")]
    task = TableData(str(write(tmp_path / "g.csv", grids))).task
    assert task.parse_answer("[[2],[3]]").tolist() == [2, 5, 0, 3, 5, 0]
    assert task.format(np.array([2, 5, 1, 3, 5, 4])) == "[[2], [3]]"


def test_splits_hold_no_copies(tmp_path):
    """Renamed and turned copies count as one; validation and test come from the training rows."""
    rng = np.random.default_rng(0)
    boards = {"".join(rng.choice(list("ab."), 9)) for _ in range(200)}
    rows = [(board, board[::-1]) for board in sorted(boards)]
    data = TableData(str(write(tmp_path / "t.csv", rows)), symmetries="square,tokens:a|b")
    folder = data.prepare(tmp_path / "data", lambda line: None)
    seen = []
    for split in ("train", "validation", "test"):
        puzzles = PuzzleSet.load(folder, split)
        for tokens in puzzles.inputs:
            grid = np.array(list(data.task.format(tokens))).reshape(3, 3)
            swapped = np.array([{"a": "b", "b": "a", ".": "."}[s] for s in grid.flat]).reshape(3, 3)
            images = [np.rot90(g, k) for b in (grid, swapped) for g in (b, b.T) for k in range(4)]
            seen.append(min("".join(image.flat) for image in images))
    assert len(set(seen)) == len(seen) > 100


def test_declared_symmetries_are_drawn(tmp_path):
    task = TableData(
        str(write(tmp_path / "t.csv", [("1234.....", "123456789")])), symmetries="square,tokens:2-9"
    ).task
    board = torch.from_numpy(task.parse("1234.....")).expand(300, -1)
    drawn = task.symmetries(300, torch.Generator().manual_seed(0))
    images = {task.format(row) for row in drawn.apply(board).numpy()}
    assert len(images) > 250
    assert {image.count("1") for image in images} == {1} and {i.count(".") for i in images} == {5}
    assert {image.index("1") for image in images} == {0, 2, 6, 8}
    assert torch.equal(drawn.inverse().apply(drawn.apply(board)), board)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "Puzzle;Solution\n12;21\n34;43\n"),
        ("b.tsv", "id\tquizzes\tsolutions\n1\t12\t21\n2\t34\t43\n"),
        ("c.jsonl", '{"input": "12", "output": "21"}\n\n{"output": "43", "input": "34"}\n'),
        (
            "d.jsonl",
            '{"question": [1, 2], "answer": [2, 1]}\n{"question": [3, 4], "answer": [4, 3]}',
        ),
        ("e.csv", "\ufeffINPUT,OUTPUT\r\n12,21\r\n34,43\r\n"),
        ("f.csv", "Question\tAnswer\r\n12\t21\r\n34\t43\r\n".encode("utf-16")),
    ],
)
def test_columns_and_files_of_all_kinds(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    task = TableData(str(path)).task
    read = [
        [task.parse(row.question).tolist(), task.parse_answer(row.answer).tolist()]
        for row in read_cells(path)
    ]
    assert read == [[[1, 2], [2, 1]], [[3, 4], [4, 3]]]


def test_lists_in_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    path = tmp_path / "t.parquet"
    columns = {"Puzzle": [[[1, 2]], [[3], [4]]], "id": [7, 8], "solution": [[[2]], [[1]]]}
    parquet.write_table(pyarrow.table(columns), path)
    task = TableData(str(path)).task
    assert (task.rows, task.cols, task.known_symbols) == (2, 2, ("1", "2", "3", "4"))
    assert [row.question for row in read_cells(path)] == ["[[1, 2]]", "[[3], [4]]"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["question,answer", '"[[1,2],[3]]","[[1]]"'], r"t.csv:2: a grid with rows of 1 and of 2"),
        (["question,answer", "12,21", "34,43", "12,22"], r"t.csv:4: another answer .*t.csv:2"),
        (["question,answer"], "t.csv: no rows"),
        ([], "t.csv:1: no column 'question' in ''"),
        (["question,answer", "12,21"], "only 0 different puzzles are left for validation"),
        (["question,answer", "12,21", ",1"], "t.csv:3: an empty cell"),
        (["question,answer", "12,21,1"], "t.csv:2: 3 values for 2 columns"),
        (["a,b", "12,21"], "t.csv:1: no column 'question' in 'a,b'"),
        (
            ["question,answer", *(f"{n} {n + 1},{n + 2}" for n in range(0, 70_000, 3))],
            r"t.csv:\d+: 4,09\d different symbols so far, more than 4,096",
        ),
    ],
)
def test_bad_tables_take_one_line(tmp_path, lines, message):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message) as error:
        TableData(str(path)).prepare(tmp_path / "data", lambda line: None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"symmetries": "square"}, "need a square board, not 1×6"),
        ({"symmetries": "spin"}, "unknown symmetry 'spin'"),
        ({"symmetries": "tokens:1-x"}, "no symbol 'x'"),
        ({"symmetries": "tokens:1-3,tokens:2-4"}, "stands in two groups"),
        ({"width": 4}, "rows of 4 do not divide 6 cells"),
        ({"question_column": "riddle"}, "no column 'riddle'"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, settings, message):
    path = write(tmp_path / "t.csv", [("123456", "654321")])
    with pytest.raises(ValueError, match=message):
        _ = TableData(str(path), **settings).task


def test_a_damaged_description_is_refused():
    for name in (
        "table:",
        "table:{}",
        "table:[1]",
        'table:{"known_symbols":["1"],"rows":-1,"cols":1}',
    ):
        with pytest.raises(ValueError, match="damaged description"):
            find_task(name)
    assert isinstance(find_task(Table(("1",), 1, 1).name), Table)
