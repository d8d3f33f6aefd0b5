"""`ostinato verify --golden DIR`: replay recorded runs of the originals and compare every number.

Rounding sets a limit to that. The same sums in another order, as on another CPU, differ in the
last bits, and these models amplify it: the recorded numbers themselves can be further from the
exact ones than the wished tolerance. So the limit is measured: the replay is repeated in float64
and with its numbers shaken by a few roundings, and a tensor's *floor* is how far that moves it.
Differences up to the floor speak against neither side.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ostinato.models import RECURSIVE_MODELS
from ostinato.verify.replay import Recording, Replay, Rounding

MARGIN = 4.0
"""A floor is this many times what rounding does to one replay."""
SHAKEN_REPLAYS = 4


@dataclass(frozen=True)
class Precision:
    """What can be asked of a run in one dtype."""

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
    """All numbers of one kind in one file."""

    kind: str
    tolerance: float
    numbers: int
    strict: int
    """Within the tolerance."""
    limited: int
    """Beyond it, but within their floor."""
    chaotic: int
    """Within a floor so high that they prove nothing."""
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


@dataclass(frozen=True)
class GoldenResult:
    """What became of one file: comparisons by kind, or an error."""

    file: str
    comparisons: list[Comparison]
    error: str = ""

    @property
    def passed(self) -> bool:
        return not self.error and all(comparison.passed for comparison in self.comparisons)

    def to_json(self) -> dict[str, Any]:
        """Plain values, verdicts included."""
        rows = [asdict(row) | {"passed": row.passed} for row in self.comparisons]
        return asdict(self) | {"passed": self.passed, "comparisons": rows}


def verify_folder(folder: Path) -> Iterator[GoldenResult]:
    """Replay every golden file of a folder. Raises ValueError if it holds none."""
    paths = sorted(Path(folder).glob("*.safetensors"))
    if not paths:
        raise ValueError(f"{folder} holds no *.safetensors: give a folder of golden files")
    for path in paths:
        try:
            yield GoldenResult(path.name, verify_golden(path))
        except ValueError as error:
            yield GoldenResult(path.name, [], str(error))


def verify_golden(path: Path) -> list[Comparison]:
    """Replay one file, whatever it was recorded from. Raises ValueError if that is unknown."""
    golden, metadata = read_golden(path)
    if metadata.get("model") in RECURSIVE_MODELS:
        return verify_recursive(golden, metadata)
    if "layer_index" in metadata:
        from ostinato.verify.golden_mhc import verify_mhc  # it uses the classes of this module

        return verify_mhc(golden, metadata)
    model = metadata.get("model", "a model that it does not name")
    raise ValueError(f"recorded from {model}; this version knows {', '.join(RECURSIVE_MODELS)}")


def read_golden(path: Path) -> tuple[Recording, dict[str, str]]:
    """The tensors of a safetensors file and its metadata."""
    try:
        with safe_open(path, "pt") as file:
            golden = Recording({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return golden, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"truncated, or no safetensors file ({error})") from None


def verify_recursive(golden: Recording, metadata: dict[str, str]) -> list[Comparison]:
    """Replay a run of TRM or HRM: outputs, carry, loss, metrics, gradients, weights, evaluation."""
    precision = precision_of(metadata)
    ours = replay(golden, metadata, Rounding())
    return compare(golden, ours, rounding_floors(golden, metadata, ours), precision)


def precision_of(metadata: dict[str, str]) -> Precision:
    """What can be asked of a run with this metadata."""
    dtype = json.loads(metadata["config"]).get("forward_dtype", "bfloat16")
    if dtype not in PRECISIONS:
        raise ValueError(f"recorded in {dtype}, not in one of {', '.join(PRECISIONS)}")
    return PRECISIONS[dtype]


def replay(golden: Recording, metadata: dict[str, str], rounding: Rounding) -> dict[str, Tensor]:
    """Our numbers by key of the file."""
    # Copies, because the replay goes on to change its weights in place
    return {key: value.clone() for key, value in Replay(golden, metadata, rounding).run()}


def rounding_floors(
    golden: Recording, metadata: dict[str, str], ours: dict[str, Tensor]
) -> dict[str, float]:
    """How far rounding can move our numbers, by `floor_group`."""
    precision = precision_of(metadata)
    others = [
        (1.0, replay(golden, metadata, Rounding(jitter=MARGIN * precision.rounding, seed=seed)))
        for seed in range(SHAKEN_REPLAYS)
    ]
    if precision is PRECISIONS["float32"]:
        others.append((MARGIN, replay(golden, metadata, Rounding(dtype="float64"))))
    floors: dict[str, float] = defaultdict(float)
    for factor, other in others:
        for key in ours:
            apart = factor * differences(key, golden[key], ours[key], other[key]).max().item()
            group = floor_group(key)
            floors[group] = max(floors[group], math.inf if math.isnan(apart) else apart)
    return floors


def compare(
    golden: Recording, ours: dict[str, Tensor], floors: dict[str, float], precision: Precision
) -> list[Comparison]:
    """Count by kind how our numbers agree with the recorded ones."""
    recorded = {key for key in golden if not key.startswith("init/") and "/batch/" not in key}
    if unknown := recorded - ours.keys():
        raise ValueError(f"{min(unknown)} ({len(unknown)} such tensors) has no counterpart here")
    tallies: dict[str, Tally] = {}
    for key, value in ours.items():
        if golden[key].numel() != value.numel():
            raise ValueError(
                f"{key} has {golden[key].numel()} numbers, the model gives {value.numel()}"
            )
        tally = tallies.setdefault(kind_of(key), Tally(kind_of(key), precision))
        apart = differences(key, golden[key], golden[key], value)
        tally.add(key, apart, floors[floor_group(key)])
    return [tally.comparison() for tally in tallies.values()]


def differences(key: str, golden: Tensor, one: Tensor, other: Tensor) -> Float[Tensor, " numbers"]:
    """Absolute differences; for a gradient in units of its largest recorded entry."""
    apart = (one.to(torch.float64).flatten() - other.to(torch.float64).flatten()).abs()
    if kind_of(key) == "gradients":
        apart /= golden.abs().max().clamp(min=1e-6)
    return apart


def floor_group(key: str) -> str:
    """The numbers that share a floor, because a few numbers alone can stay still by chance."""
    step, kind = key.split("/")[0], kind_of(key)
    if kind == "final weights":
        return key.rpartition(".")[0]  # one layer
    if kind == "evaluation":
        return key.rpartition("/")[0]
    if kind == "carry":
        return key
    return f"{step}/{'metrics' if kind == 'loss' else kind}"


def kind_of(key: str) -> str:
    """`step3/out/logits` → "outputs" and so on."""
    scope, rest = key.split("/", 1)
    if scope == "final":
        return "final weights"
    if scope == "eval":
        return "evaluation"
    kinds = {"out": "outputs", "grad": "gradients"}
    part = rest.split("/")[0]
    return kinds.get(part, part)


class Tally:
    """Counts the numbers of one kind."""

    def __init__(self, kind: str, precision: Precision):
        gradients = kind == "gradients"
        self.kind, self.cap = kind, precision.cap
        self.tolerance = precision.gradient_tolerance if gradients else precision.tolerance
        self.numbers = self.strict = self.limited = self.chaotic = self.missed = 0
        self.largest, self.floor, self.where = 0.0, 0.0, ""

    def add(self, key: str, apart: Float[Tensor, " numbers"], floor: float) -> None:
        """Take in the differences of one tensor."""
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
