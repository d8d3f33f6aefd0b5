"""Check the numbers in settings and in JSON, and refuse impossible ones."""

import json
import math
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints


@dataclass(frozen=True)
class Range:
    """The numbers that a setting can have; declared beside its type, as in `Count`."""

    least: int | float
    most: int | float
    without_least: bool = False
    without_most: bool = False

    def problem(self, value: int | float) -> str:
        """Return what is wrong with `value`, or an empty string if nothing is."""
        above = self.least < value or (value == self.least and not self.without_least)
        below = value < self.most or (value == self.most and not self.without_most)
        if above and below:
            return ""
        if not math.isfinite(value):
            return f"must be a finite number, not {value}"
        if value < 0 == self.least:
            return f"must not be negative, but is {value}"
        if not above and not self.without_least and self.least:
            return f"must be at least {self.least}, not {value}"
        opening, closing = "(["[not self.without_least], ")]"[not self.without_most]
        return f"must lie in {opening}{self.least}, {self.most}{closing}, not {value}"


LARGEST = 2**31 - 1
"""The largest number of rows, steps or examples: products of two of them fit in 64 bits."""

ANY = {int: Range(-(2**63), 2**63 - 1), float: Range(-math.inf, math.inf, True, True)}
"""The range of a number without a declared range."""

Count = Annotated[int, Range(1, LARGEST)]
Natural = Annotated[int, Range(0, LARGEST)]
Width = Annotated[int, Range(1, 2**20)]
"""Number of entries of a vector that matrices multiply."""
Factor = Annotated[float, Range(0, 1024, without_least=True)]
"""A width in units of another width."""
Theta = Annotated[float, Range(1, 1e15)]
"""Base of the wavelengths of rotary positions."""
Seed = Annotated[int, Range(0, 2**63 - 1)]
NonNegative = Annotated[float, Range(0, 1e9)]
"""A rate or a weight, in a range whose products fp32 holds."""
Positive = Annotated[float, Range(0, 1e9, without_least=True)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, without_most=True)]

ABSENT = "absent"
"""Metadata key of a field: its value for older files that lack the setting."""


def check_numbers(settings: Any) -> None:
    """Raise ValueError if a number in the dataclass `settings` is outside its field's range."""
    hints = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        value = getattr(settings, field.name)
        if type(value) not in ANY:
            continue
        marks = getattr(hints[field.name], "__metadata__", ())
        declared = next((mark for mark in marks if isinstance(mark, Range)), ANY[type(value)])
        if problem := declared.problem(value):
            raise ValueError(f"{field.name} {problem}")


def to_json(content: Any, **form: Any) -> str:
    """Write `content` as JSON, with null for numbers that are not finite: JSON has none.

    `form` is for `json.dumps`.
    """
    return json.dumps(_finite(content), allow_nan=False, **form)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
