"""The picture in the README shows what a model did: it is drawn from a recorded trace."""

import importlib.util
import json
from pathlib import Path

import pytest

IMAGES = Path(__file__).parent.parent / "docs/images"


@pytest.fixture(scope="module")
def trace() -> dict:
    return json.loads((IMAGES / "recursion.json").read_text("utf-8"))


def test_recursion_svg_is_what_its_script_draws_from_the_trace(trace: dict):
    spec = importlib.util.spec_from_file_location("recursion", IMAGES / "recursion.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.draw(trace) == (IMAGES / "recursion.svg").read_text("utf-8")


def test_the_last_answer_of_the_trace_is_the_first_that_solves_its_puzzle(trace: dict):
    assert [solves(answer, trace["puzzle"]) for answer in trace["answers"]] == [
        *[False] * (len(trace["answers"]) - 1),
        True,
    ]


def solves(answer: str, puzzle: str) -> bool:
    """Every row, column and box holds the nine digits, and no given is changed."""
    rows = [range(9 * k, 9 * k + 9) for k in range(9)]
    columns = [range(k, 81, 9) for k in range(9)]
    boxes = [
        [9 * (top + k // 3) + left + k % 3 for k in range(9)]
        for top in (0, 3, 6)
        for left in (0, 3, 6)
    ]
    kept = all(given in (".", digit) for given, digit in zip(puzzle, answer, strict=True))
    groups = [*rows, *columns, *boxes]
    return kept and all({answer[i] for i in group} == set("123456789") for group in groups)
