"""Hold everything a run needs to resume: built once, saved to and restored from checkpoints."""

from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ostinato.models import RECURSIVE_MODELS, RecursiveModel, State
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.distributed import World
from ostinato.training.ema import EMA
from ostinato.training.optimizers import SparseSignSGD, make_optimizers
from ostinato.training.slots import Slots
from ostinato.weights.fitting import load_pretrained
from ostinato.weights.load import read_pretrained


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


@dataclass(kw_only=True)
class TrainState(WeightState):
    """The state of a puzzle run: weights, slots and random generators."""

    model: RecursiveModel
    sparse: SparseSignSGD | None
    slots: Slots
    """This rank's share of the slots whose turn it is."""
    waiting: deque[Slots]
    """This rank's share of the slots that come next, in order, if `slot_turns` is above 1."""
    symmetries: torch.Generator
    """Generator of the data's symmetries, for the global batch on every rank."""
    exploration: torch.Generator
    """Generator of the exploration of halting, for the global batch on every rank."""
    seed: int
    """Seed of what is drawn anew at every step: random starts, and noise on the latents."""
    best: float = -1.0
    """Best exact accuracy on validation so far."""

    @classmethod
    def start(
        cls, recipe: Recipe, device: torch.device, world: World, resumed: bool = False
    ) -> "TrainState":
        """Start a new run: fresh weights, every slot waiting for a puzzle; the seed determines all.

        Trained weights are read if the recipe names some, unless `restore` will follow (`resumed`).
        """
        config = recipe.training
        share = config.micro_batch_size(world.size) * config.accumulation
        model_class = next(
            cls for cls, kind in RECURSIVE_MODELS.values() if type(recipe.model) is kind
        )
        # Weights are drawn on the CPU, so that every device starts from the same ones
        model = model_class(recipe.model, torch.Generator().manual_seed(config.seed)).to(device)
        if config.init_from and not resumed:
            start_from(model, config)
        if config.freeze == "weights":
            freeze_weights(model)
        if config.compile:
            model.compile_reasoning(dynamic=False)
        # DDP refuses a model without trained dense weights
        wrapped = world.wrap(model, device) if config.freeze == "nothing" else model
        optimizers = make_optimizers(model, config)
        sparse = model.puzzle_emb and SparseSignSGD(
            model.puzzle_emb, config.puzzle_emb_lr, config.puzzle_emb_weight_decay
        )
        slots = [Slots.empty(model, share, device) for _ in range(config.slot_turns)]
        state = cls(
            model=model,
            wrapped=wrapped,
            optimizers=optimizers,
            sparse=sparse,
            ema=EMA(model, config.ema_decay) if config.ema_decay else None,
            slots=slots[0],
            waiting=deque(slots[1:]),
            symmetries=torch.Generator(device).manual_seed(config.seed + 1),
            exploration=torch.Generator(device).manual_seed(config.seed + 2),
            seed=config.seed,
            world=world,
        )
        if wrapped is not model:
            state.rehearse(config.micro_batch_size(world.size))
        return state

    def rehearse(self, count: int) -> None:
        """Run a backward of some slots that changes nothing but the layout of DDP's buckets.

        DDP lays out its buckets anew after its first backward, and the place of a gradient in its
        bucket decides in which order more than two ranks are summed. If the first step still had
        the first layout, a resumed run would not be bit-for-bit identical to an uninterrupted one.
        """
        slots, table = self.slots.split(count)[0], self.model.puzzle_emb
        rows = None if table is None else table.copy_rows(slots.puzzle_ids)
        _, output = self.wrapped(slots.state, slots.inputs, slots.puzzle_ids, rows)
        (output.logits.sum() + output.q_halt.sum()).backward()
        self.model.zero_grad(set_to_none=True)

    def end_turn(self, slots: Slots) -> None:
        """Let the slots after a step queue up behind the others; the next ones take their turn."""
        self.waiting.append(slots)
        self.slots = self.waiting.popleft()

    def param_groups(self) -> list[dict[str, Any]]:
        sparse = self.sparse.param_groups if self.sparse else []
        return [*super().param_groups(), *sparse]

    def tree(self) -> dict[str, Any]:
        return {
            **super().tree(),
            "slots": [
                {k: self.world.gather(v) for k, v in slots.tensors().items()}
                for slots in (self.slots, *self.waiting)
            ],
            "symmetries": self.symmetries.get_state(),
            "exploration": self.exploration.get_state(),
        }

    def check_fits(self, tree: dict[str, Any]) -> None:
        super().check_fits(tree)
        if lacking := {"slots", "symmetries", "exploration"} - tree.keys():
            raise Misfit(f"lacks {min(lacking)}")
        mine = tensors_of([s.tensors() for s in (self.slots, *self.waiting)], "slots")
        all_ranks = {
            name: rows[:1].expand(len(rows) * self.world.size, *rows.shape[1:])
            for name, rows in mine.items()
        }
        check_shapes(tensors_of(tree["slots"], "slots"), all_ranks)

    def restore(self, tree: dict[str, Any]) -> None:
        """Resume from `tree`; each rank takes its share of the slots."""
        super().restore(tree)
        device = self.model.H_init.device
        self.slots, *waiting = (
            Slots.of_tensors({k: self.world.part(v).to(device) for k, v in slots.items()})
            for slots in tree["slots"]
        )
        self.waiting = deque(waiting)
        self.symmetries.set_state(tree["symmetries"])
        self.exploration.set_state(tree["exploration"])

    def initial_state(self) -> State:
        """Return what refilled slots start from: one row for all, or each its own if random."""
        if self.model.config.initial_state == "fixed":
            return self.model.initial_state(1)
        return self.model.initial_state(len(self.slots.steps), self.generator(0))

    def generator(self, purpose: int) -> torch.Generator:
        """Return a generator that depends on seed, step and rank only, so that none has to be
        saved."""
        key = np.random.SeedSequence([self.seed, self.step, self.world.rank, purpose])
        seed = int(key.generate_state(1, np.uint64)[0] >> 1)
        return torch.Generator(self.model.H_init.device).manual_seed(seed)


def start_from(model: RecursiveModel, config: TrainingConfig) -> None:
    """Give `model` the weights of `config.init_from`, and its puzzle rows or their mean.

    The model keeps its own settings, such as cycles and dtype. Raises ValueError, with the remedy,
    if the file cannot be read, or if a tensor is missing, extra or mis-shaped.
    """
    found = read_pretrained(config.init_from)
    for name, unit in (("seq_len", "cells"), ("vocab_size", "symbols")):
        given, needed = (found.settings or {}).get(name), getattr(model.config, name)
        if given not in (None, needed):
            raise ValueError(
                f"{found.source} knows puzzles of {given} {unit}, these have {needed}: start from "
                "weights for the same kind, or from none"
            )
    load_pretrained(model, found, config.puzzle_embeddings)


def freeze_weights(model: RecursiveModel) -> None:
    """Freeze everything except the puzzle rows; raise ValueError if there are none."""
    if model.puzzle_emb is None:
        raise ValueError("frozen weights need puzzle rows to train: set puzzle_emb_ndim above 0")
    model.requires_grad_(False)


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
