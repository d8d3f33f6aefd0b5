"""Define a row of the fidelity report: a fact about the originals, and our distance from it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """Hold one measurement."""

    check: str
    model: str
    """Specimen that was measured; empty if the check needs none."""
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance  # false for NaN


@dataclass(frozen=True)
class Check:
    """Describe a fact that can be measured, for some models or for none in particular."""

    name: str
    documents: str
    """The requirement documents that ask for it."""
    reference: str
    """Behaviour of the reference."""
    tolerance: float
    models: tuple[str, ...]
    measure: Callable[..., float]
    """Function that measures: it takes a model's name if there are `models`, else nothing. Its
    docstring says how it measures."""

    @property
    def measured(self) -> str:
        """Return the description of the measurement."""
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
    """Return the largest absolute difference; infinite for NaN or another shape."""
    a, b = (torch.as_tensor(x, dtype=torch.float64).detach() for x in (ours, reference))
    if a.shape != b.shape:
        return math.inf
    largest = (a - b).abs().max().item() if a.numel() else 0.0
    return math.inf if math.isnan(largest) else largest


def relatively_apart(ours: Tensor, reference: Tensor) -> float:
    """Return the largest difference in units of the largest entry of the reference."""
    return apart(ours, reference) / max(reference.detach().abs().max().item(), 1e-12)
