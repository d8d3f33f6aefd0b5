"""Whether a checkpoint is one of this run's model, optimisers and slots: if not, what differs."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

MOMENTS = {
    "AdamW": {"step", "exp_avg", "exp_avg_sq"},
    "AdamATan2": {"exp_avg", "exp_avg_sq"},
    "Muon": {"momentum_buffer"},
    "Lion": {"momentum"},
}
"""Optimiser → what it keeps of each weight."""


class Misfit(ValueError):
    """A checkpoint is of another run: in words, what differs."""


def check_shapes(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise `Misfit` that names a tensor which is missing, extra or mis-shaped."""
    for problem, names in (
        ("lacks", wanted.keys() - found.keys()),
        ("has too much:", found.keys() - wanted.keys()),
    ):
        if names:
            raise Misfit(f"{problem} {min(names)}")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{list(tensor.shape)}, not {list(wanted[name].shape)}"
            raise Misfit(f"{name} has shape {shapes}")


def check_optimizers(found: list[dict[str, Any]], wanted: list[Optimizer]) -> None:
    """Raise `Misfit` if saved optimisers are of another kind, or for other weights."""
    if len(found) != len(wanted):
        raise Misfit(f"optimizers: {len(found)}, not {len(wanted)}")
    for saved, optimizer in zip(found, wanted, strict=True):
        sizes = [len(group["params"]) for group in saved["param_groups"]]
        weights = [group["params"] for group in optimizer.param_groups]
        if sizes != [len(group) for group in weights]:
            raise Misfit(f"{type(optimizer).__name__} is for other weights")
        names = next(MOMENTS[c.__name__] for c in type(optimizer).__mro__ if c.__name__ in MOMENTS)
        flat = [weight for group in weights for weight in group]
        for index, moments in saved["state"].items():
            if moments.keys() != names:
                raise Misfit(
                    f"an optimiser with {', '.join(moments)} is not {type(optimizer).__name__}"
                )
            check_moments(moments, flat[index])


def check_moments(moments: dict[str, Any], weight: Tensor) -> None:
    """Raise `Misfit` if an optimiser's moments are not those of `weight`."""
    for name, moment in moments.items():
        if isinstance(moment, Tensor) and moment.ndim and moment.shape != weight.shape:
            raise Misfit(
                f"{name} of a weight of shape {list(weight.shape)} has {list(moment.shape)}"
            )


def tensors_of(node: Any, path: str) -> dict[str, Tensor]:
    """Return the tensors in a tree, by their path."""
    if isinstance(node, Tensor):
        return {path: node}
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    found = {}
    if isinstance(node, dict):
        for key, value in node.items():
            found |= tensors_of(value, f"{path}/{key}" if path else str(key))
    return found
