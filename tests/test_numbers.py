"""Numbers that settings cannot have are refused, and JSON holds no others."""

import json
import math
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from ostinato.data.sudoku import SudokuData
from ostinato.data.text import TextData
from ostinato.inference.generate import Sampling
from ostinato.inference.search import Search
from ostinato.models import HRMConfig, NanoChatConfig, TRMConfig
from ostinato.numbers import Range, to_json
from ostinato.training.config import TextTrainingConfig, TrainingConfig

SETTINGS = [
    *(HRMConfig, NanoChatConfig, TRMConfig, TextTrainingConfig, TrainingConfig),
    *(SudokuData, TextData, Sampling, Search),
]


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
def test_no_numeric_setting_takes_a_number_that_no_machine_has(kind: type):
    hints = get_type_hints(kind)
    for field in fields(kind):
        impossible = {int: [10**23, -(10**23)], float: [math.nan, math.inf, -math.inf]}
        for value in impossible.get(hints[field.name], ()):
            with pytest.raises(ValueError, match=field.name):
                kind(**{field.name: value})


@pytest.mark.parametrize(
    ("declared", "value", "problem"),
    [
        (Range(0, 1), 1.5, "must lie in [0, 1], not 1.5"),
        (Range(0, 1, without_most=True), 1, "must lie in [0, 1), not 1"),
        (Range(0, 9, without_least=True), 0, "must lie in (0, 9], not 0"),
        (Range(0, 9), -1, "must not be negative, but is -1"),
        (Range(1, 9), 0, "must be at least 1, not 0"),
        (Range(1, 9), 10, "must lie in [1, 9], not 10"),
        (Range(0, 1), math.nan, "must be a finite number, not nan"),
        (Range(0, 1), 1, ""),
        (Range(0, 1), 0, ""),
    ],
)
def test_what_a_range_says(declared: Range, value: float, problem: str):
    assert declared.problem(value) == problem


def test_json_has_null_for_what_it_cannot_hold():
    content: dict[str, Any] = {"a": [1.5, math.nan], "b": {"c": (math.inf, -math.inf, "NaN", None)}}
    assert json.loads(to_json(content), parse_constant=pytest.fail) == {
        "a": [1.5, None],
        "b": {"c": [None, None, "NaN", None]},
    }
