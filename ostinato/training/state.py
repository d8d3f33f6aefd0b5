"""Hold everything a run needs to resume: built once, saved to and restored from checkpoints."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ostinato.models import RECURSIVE_MODELS, RecursiveModel, State
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.distributed import World
from ostinato.training.ema import EMA
from ostinato.training.optimizers import SparseSignSGD, make_optimizers
from ostinato.training.slots import Slots
from ostinato.training.weight_state import Misfit, WeightState, check_shapes, tensors_of
from ostinato.weights.fitting import load_pretrained
from ostinato.weights.load import read_pretrained


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
