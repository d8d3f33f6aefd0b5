"""A row of the fidelity report: a fact about the originals, and how far this package is from it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """A measurement."""

    check: str
    model: str
    """Which specimen was measured; empty where it does not matter."""
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance  # false for NaN


@dataclass(frozen=True)
class Check:
    """A fact that can be measured, for some models or for none in particular."""

    name: str
    documents: str
    """The requirement documents that ask for it."""
    reference: str
    """What the reference does."""
    tolerance: float
    models: tuple[str, ...]
    measure: Callable[..., float]
    """Of one model's name if there are `models`, else of nothing. Its docstring says how."""

    @property
    def measured(self) -> str:
        """What is measured."""
        return " ".join((self.measure.__doc__ or "").split())

    def rows(self) -> Iterator[Row]:
        """Measure."""
        for model in self.models or ("",):
            difference = self.measure(model) if model else self.measure()
            yield Row(self.name, model, float(difference), self.tolerance)


def check(
    name: str,
    documents: str,
    reference: str,
    tolerance: float = 0.0,
    models: tuple[str, ...] = (),
) -> Callable[[Callable[..., float]], Check]:
    """Make a `Check` of the function that measures it; with tolerance 0 it counts violations."""
    return lambda measure: Check(name, documents, reference, tolerance, models, measure)


def apart(ours: Any, reference: Any) -> float:
    """The largest absolute difference; infinite for NaN or another shape."""
    a, b = (torch.as_tensor(x, dtype=torch.float64).detach() for x in (ours, reference))
    if a.shape != b.shape:
        return math.inf
    largest = (a - b).abs().max().item() if a.numel() else 0.0
    return math.inf if math.isnan(largest) else largest


def relatively_apart(ours: Tensor, reference: Tensor) -> float:
    """The largest difference in units of the largest entry of the reference."""
    return apart(ours, reference) / max(reference.detach().abs().max().item(), 1e-12)
