"""Count how recorded numbers agree with ours."""

import math
from dataclasses import dataclass, fields

from jaxtyping import Float
from torch import Tensor


class Recording(dict[str, Tensor]):
    """The tensors of a golden file by key; a missing one is the file's fault."""

    def __missing__(self, key: str) -> Tensor:
        raise ValueError(f"lacks {key}")


@dataclass(frozen=True)
class Precision:
    """Hold the tolerances for a run in one dtype."""

    tolerance: float
    """Largest absolute difference."""
    gradient_tolerance: float
    """Largest difference relative to the largest entry of the gradient."""
    rounding: float
    """Relative size of one rounding, as accumulated within a layer."""
    cap: float
    """A number whose floor is above this is no evidence."""


PRECISIONS = {
    "float64": Precision(1e-5, 1e-4, 2**-53, 1e-2),
    "float32": Precision(1e-5, 1e-4, 2**-24, 1e-2),
    # Sums are kept in fp32 there, so that only few results are rounded the other way
    "bfloat16": Precision(3e-2, 1e-1, 2**-14, 0.5),
}


@dataclass(frozen=True)
class Comparison:
    """Compare all numbers of one kind in one file."""

    kind: str
    tolerance: float
    numbers: int
    strict: int
    """Numbers within the tolerance."""
    limited: int
    """Numbers beyond the tolerance, but within their floor."""
    chaotic: int
    """Numbers within a floor so high that they prove nothing."""
    missed: int
    largest: float
    """Largest difference, chaotic numbers aside; NaN if there is any NaN."""
    floor: float
    """Largest floor, chaotic numbers aside."""
    where: str
    """Key of the largest difference."""

    @property
    def passed(self) -> bool:
        return self.missed == 0 and self.strict + self.limited > 0


class Tally:
    """Count the numbers of one kind."""

    def __init__(self, kind: str, precision: Precision):
        gradients = kind == "gradients"
        self.kind, self.cap = kind, precision.cap
        self.tolerance = precision.gradient_tolerance if gradients else precision.tolerance
        self.numbers = self.strict = self.limited = self.chaotic = self.missed = 0
        self.largest, self.floor, self.where = 0.0, 0.0, ""

    def add(self, key: str, apart: Float[Tensor, " numbers"], floor: float) -> None:
        """Add the differences of one tensor."""
        strict = apart <= self.tolerance  # false for NaN, as the next one
        within = apart <= max(self.tolerance, floor)
        self.numbers += len(apart)
        self.missed += int((~within).sum())
        if floor <= self.cap or bool(strict.all()):
            self.strict += int(strict.sum())
            self.limited += int((within & ~strict).sum())
            self.floor = max(self.floor, floor)
        else:
            self.chaotic += int(within.sum())
            apart = apart[~within]
        worst = apart.max().item() if len(apart) else 0.0
        if math.isnan(worst) or worst > self.largest or not self.where:
            self.largest, self.where = worst, key

    def comparison(self) -> Comparison:
        names = [field.name for field in fields(Comparison)]
        return Comparison(**{name: getattr(self, name) for name in names})
