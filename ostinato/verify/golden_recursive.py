"""Compare a replay of TRM or HRM with the recording, as far as rounding allows.

The same sums in another order, as on another CPU, differ in the last bits, and these models
amplify the difference: the recorded numbers can be further from the exact ones than the tolerance.
So the effect of rounding is measured: the replay is repeated in float64 and with its numbers
shaken by a few roundings, and a tensor's *floor* is how far that moves it. Differences up to the
floor prove neither side wrong.
"""

import math
from collections import defaultdict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ostinato.decoding import decode_json
from ostinato.verify.comparison import PRECISIONS, Comparison, Precision, Recording, Tally
from ostinato.verify.replay import Replay, Rounding

MARGIN = 4.0
"""A floor is this many times what rounding does to one replay."""
SHAKEN_REPLAYS = 4


def verify_recursive(golden: Recording, metadata: dict[str, str]) -> list[Comparison]:
    """Replay a run of TRM or HRM: outputs, carry, loss, metrics, gradients, weights, evaluation."""
    precision = precision_of(metadata)
    ours = replay(golden, metadata, Rounding())
    return compare(golden, ours, rounding_floors(golden, metadata, ours), precision)


def precision_of(metadata: dict[str, str]) -> Precision:
    """Return the tolerances for a run with this metadata."""
    if missing := {"config", "optimizer"} - metadata.keys():
        raise ValueError(f"its metadata lack {', '.join(sorted(missing))}")
    config: dict[str, Any] = decode_json(metadata["config"], dict[str, Any], "config")
    dtype = str(config.get("forward_dtype", "bfloat16"))
    if dtype not in PRECISIONS:
        raise ValueError(f"recorded in {dtype}, not in one of {', '.join(PRECISIONS)}")
    return PRECISIONS[dtype]


def replay(golden: Recording, metadata: dict[str, str], rounding: Rounding) -> dict[str, Tensor]:
    """Compute our numbers by key of the file."""
    # Copies, because the replay later changes its weights in place
    return {key: value.clone() for key, value in Replay(golden, metadata, rounding).run()}


def rounding_floors(
    golden: Recording, metadata: dict[str, str], ours: dict[str, Tensor]
) -> dict[str, float]:
    """Measure how far rounding can move our numbers, by `floor_group`."""
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
    """Return absolute differences; for a gradient, in units of its largest recorded entry."""
    apart = (one.to(torch.float64).flatten() - other.to(torch.float64).flatten()).abs()
    if kind_of(key) == "gradients":
        apart /= golden.abs().max().clamp(min=1e-6)
    return apart


def floor_group(key: str) -> str:
    """Name the group that shares a floor, because a few numbers alone may not move by chance."""
    step, kind = key.split("/")[0], kind_of(key)
    if kind == "final weights":
        return key.rpartition(".")[0]  # one layer
    if kind == "evaluation":
        return key.rpartition("/")[0]
    if kind == "carry":
        return key
    return f"{step}/{'metrics' if kind == 'loss' else kind}"


def kind_of(key: str) -> str:
    """Return the kind of a key: `step3/out/logits` → "outputs" and so on."""
    scope, rest = key.split("/", 1)
    if scope == "final":
        return "final weights"
    if scope == "eval":
        return "evaluation"
    kinds = {"out": "outputs", "grad": "gradients"}
    part = rest.split("/")[0]
    return kinds.get(part, part)
