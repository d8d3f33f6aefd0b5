"""Hold what every run trains: weights, optimisers and averages; check a checkpoint of them."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ostinato.training.distributed import World
from ostinato.training.ema import EMA


@dataclass(kw_only=True)
class WeightState:
    """The weights after `step` updates, and their optimisers. `tree` and `restore` are inverses."""

    model: nn.Module
    wrapped: nn.Module
    """The module that training calls: the model, or DDP around it."""
    optimizers: list[Optimizer]
    ema: EMA | None = None
    world: World
    step: int = 0
    best: float
    """Best score on validation so far; before the first, worse than any."""
    base_lrs: list[float] = field(init=False)

    def __post_init__(self):
        self.base_lrs = [group["lr"] for group in self.param_groups()]

    def param_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups of all optimisers."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def set_learning_rate(self, factor: float) -> None:
        """Set every optimiser's learning rate to its base rate times `factor`."""
        for group, base in zip(self.param_groups(), self.base_lrs, strict=True):
            group["lr"] = base * factor

    def exchange(self, last: bool) -> AbstractContextManager:
        """Return the context for a forward and backward; only the `last` micro-batch of an update
        exchanges gradients between ranks."""
        if isinstance(self.wrapped, DistributedDataParallel) and not last:
            return self.wrapped.no_sync()
        return nullcontext()

    def tree(self) -> dict[str, Any]:
        """Return the state for `save_checkpoint`. All ranks must call this, since ranks may hold
        different parts."""
        return {
            "step": self.step,
            "best": self.best,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "ema": self.ema.state_dict() if self.ema else None,
        }

    def restore(self, tree: dict[str, Any]) -> None:
        """Resume from `tree`; raise `Misfit` if it is of another model, or of other optimisers."""
        self.check_fits(tree)
        self.step, self.best = tree["step"], tree["best"]
        self.model.load_state_dict(tree["model"])
        for optimizer, saved in zip(self.optimizers, tree["optimizers"], strict=True):
            load_moments(optimizer, saved)
        if self.ema:
            self.ema.load_state_dict(tree["ema"])

    def check_fits(self, tree: dict[str, Any]) -> None:
        """Raise `Misfit` that names what a checkpoint lacks, or what has another shape here."""
        wanted = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
        }
        if lacking := {"step", "best", "optimizers", *wanted} - tree.keys():
            raise Misfit(f"lacks {min(lacking)}")
        for part, tensors in wanted.items():
            check_shapes(tensors_of(tree[part], part), tensors_of(tensors, part))
        check_optimizers(tree["optimizers"], self.optimizers)

    def checksums(self) -> list[int]:
        """Return a sum over the bits of each tensor that has to be equal on all ranks."""
        shadow = self.ema.state_dict().values() if self.ema else ()
        moments = [s[k] for o in self.optimizers for s in o.state.values() for k in sorted(s)]
        tensors = [*self.model.state_dict().values(), *shadow, *moments]
        words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        sums = [t.reshape(-1).view(words[t.element_size()]).sum(dtype=torch.int64) for t in tensors]
        return [self.step, *torch.stack([total.cpu() for total in sums]).tolist()]


def load_moments(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Give an optimiser its running averages and its clock back, and leave its settings alone."""
    of_the_run = ("params", "lr", "step")  # the rate is set at every step
    settings = [
        {name: value for name, value in group.items() if name not in of_the_run}
        for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(saved)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


MOMENTS = {
    "AdamW": {"step", "exp_avg", "exp_avg_sq"},
    "AdamATan2": {"exp_avg", "exp_avg_sq"},
    "Muon": {"momentum_buffer"},
    "Lion": {"momentum"},
}
"""The state that each optimiser keeps for a weight."""


class Misfit(ValueError):
    """A checkpoint belongs to another run; the message says what differs."""


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
