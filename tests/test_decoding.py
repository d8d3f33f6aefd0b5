"""Foreign files: what they hold, or one line with the file, the place in it and the remedy."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostinato.data.arc.sources import read_kaggle, read_tasks
from ostinato.decoding import read_json, read_npy, read_npz, read_yaml

DEEP = 100_000


@dataclass(frozen=True)
class Point:
    x: int
    y: float | None = None


def npy(header: bytes, data: bytes = b"") -> bytes:
    """A .npy file of version 1 with this header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def header(shape: str, dtype: str = "<i4") -> bytes:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode()


@pytest.fixture
def file(tmp_path: Path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_json_becomes_a_dataclass_with_or_without_a_byte_order_mark(file, encoding: str):
    path = file('{"x": 3, "y": 1, "z": "é"}'.encode(encoding))
    assert read_json(path, Point) == Point(3, 1.0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "cannot be read"),
        ('{"x": 1', "cannot be read"),
        ("{}".encode("utf-16"), "it is not UTF-8"),
        (b'{"x": "\xff"}', "it is not UTF-8"),
        ("[" * DEEP, "cannot be read"),
        ('{"x": ' + "[" * 300 + "]" * 300 + "}", "nested deeper than 40"),
        ('{"x": ' + "9" * 5000 + "}", "cannot be read"),
        ("[]", "$: expected `object`, got `array`"),
        ('{"y": 1}', "$: object missing required field `x`"),
        ('{"x": true}', "$.x: expected `int`, got `bool`"),
        ('{"x": 1.0}', "$.x: expected `int`, got `float`"),
        ('{"x": 1, "y": "1"}', "$.y: expected `float | null`, got `str`"),
    ],
)
def test_wrong_json_is_one_line(file, content: str | bytes, problem: str):
    path = file(content)
    with pytest.raises(ValueError) as caught:
        read_json(path, Point, "write it anew")
    message = str(caught.value)
    assert message.startswith(str(path)) and problem in message and "\n" not in message
    assert message.endswith(": write it anew")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a: &x [1]\nb: *x\n", "line 1 has an anchor, alias or tag"),
        ("b: *x\n", "line 1 has an anchor, alias or tag"),
        ("a: !!timestamp x\n", "line 1 has an anchor, alias or tag"),
        ("a: " + "[" * DEEP, "line 1 is nested too deep"),
        ("a: 2020-99-99\n", "month must be in 1..12"),
        ("a: " + "1:" * 400 + "1.5\n", "too large"),
        ("- 1\n", "$: expected `object`, got `array`"),
        ("a: [\n", "cannot be read"),
        ("? [1]\n: 2\n", "cannot be read"),
    ],
)
def test_yaml_is_plain(file, content: str, problem: str):
    assert read_yaml(file("a: {1: [2.5, x], c: true}\n")) == {"a": {"1": [2.5, "x"], "c": True}}
    with pytest.raises(ValueError, match=r"^\S*file\b.*: correct it$") as caught:
        read_yaml(file(content))
    assert problem in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        npy(b"{'descr': '<i4', 'x"),
        npy(b"(" * 500),
        npy(header(f"({2**63},)")),
        npy(header(f"({10**12},)")),
        npy(header("(-1,)")),
        npy(header("(2,)"), bytes(7)),
        npy(header("(1,)", "|O"), bytes(8)),
        npy(header("(1,)", "<f4"), bytes(4)),
        npy(header("()"), bytes(4)),
        b"PK\x03\x04",
        b"",
    ],
)
def test_wrong_arrays_are_one_line_and_take_no_memory(file, content: bytes):
    assert read_npy(file(npy(header("(2,)"), bytes(8))), "iu", 1).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"^\S*file: not readable .*; build or download") as caught:
        read_npy(file(content), "iu", 1)
    assert "\n" not in str(caught.value)


def test_wrong_archives_of_arrays_are_one_line(file):
    archive = io.BytesIO()
    np.savez(archive, a=np.arange(3))
    good = archive.getvalue()
    assert read_npz(file(good), ["a"])[0].tolist() == [0, 1, 2]
    spoilt = good[:60] + b"\xff" + good[61:]
    for content in (good[:-9], spoilt, npy(header("(1,)"), bytes(4)), b"", b"PK\x03\x04"):
        with pytest.raises(ValueError, match=r"file: not readable .*; restore it"):
            read_npz(file(content), ["a"])
    with pytest.raises(ValueError, match=r"file: not readable \(it has no b\); restore it"):
        read_npz(file(good), ["b"])


TASK = {"train": [{"input": [[1, 2]], "output": [[2]]}], "test": [{"input": [[3]]}]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"a": {"train": TASK["train"]}}, "$.a: object missing required field `test`"),
        ({"a": {**TASK, "test": [{"output": [[1]]}]}}, "$.a.test[0]: object missing required fi"),
        ({"a": {**TASK, "train": [{"input": [[1, 10]]}]}}, "$.a.train[0].input[0][1]: expected"),
        ({"a": {**TASK, "train": [{"input": [[1], []]}]}}, "$.a.train[0].input[1]: expected"),
        ({"a": 3}, "$.a: expected `object`, got `int`"),
        ({"train": 3, "test": []}, "$.train: expected `array`, got `int`"),
        ([TASK], "$: expected `object`, got `array`"),
    ],
)
def test_a_wrong_task_of_arc_is_named_with_its_place(file, content: Any, problem: str):
    assert read_tasks(file(json.dumps({"a": TASK}).encode("utf-8-sig")))["a"].to_json() == TASK
    with pytest.raises(ValueError) as caught:
        read_tasks(file(json.dumps(content)))
    assert "file: " in str(caught.value) and problem in str(caught.value)


def test_tasks_by_name_are_not_taken_for_their_own_solutions(file, tmp_path: Path):
    (task,) = read_tasks(file(json.dumps({"a": TASK}))).values()
    assert task.test[0].output is None
    challenges = tmp_path / "x_challenges.json"
    challenges.write_text(json.dumps({"a": TASK}))
    for answers, problem in (
        ({"a": [[[4]]]}, ""),
        ({"a": []}, "a does not have one answer for each test"),
        ({"a": [[[4, "x"]]]}, r"\$\.a\[0\]\[0\]\[1\]: expected `int`"),
    ):
        (tmp_path / "x_solutions.json").write_text(json.dumps(answers))
        if not problem:
            assert read_kaggle(challenges)["a"].test[0].output.tolist() == [[4]]
            continue
        with pytest.raises(ValueError, match=rf"x_solutions\.json.*{problem}"):
            read_kaggle(challenges)
