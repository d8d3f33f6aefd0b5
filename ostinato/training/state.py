"""Everything a puzzle run needs to go on: built once, saved to and restored from checkpoints."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ostinato.models import MODELS, RecursiveModel, State
from ostinato.training.config import Recipe
from ostinato.training.distributed import World
from ostinato.training.ema import EMA
from ostinato.training.optimizers import SparseSignSGD, make_optimizers
from ostinato.training.slots import Slots


@dataclass
class TrainState:
    """The state of training after `step` updates. `tree` and `restore` are inverses."""

    model: RecursiveModel
    wrapped: nn.Module
    """What training calls: the model, or DDP around it."""
    optimizers: list[Optimizer]
    sparse: SparseSignSGD | None
    ema: EMA | None
    slots: Slots
    """This rank's share of the global slots."""
    symmetries: torch.Generator
    """Draws the symmetries of the data, for the global batch on every rank."""
    exploration: torch.Generator
    """Draws the exploration of halting, for the global batch on every rank."""
    world: World
    step: int = 0
    best: float = -1.0
    """Best exact accuracy on validation so far; below 0: none yet."""
    base_lrs: list[float] = field(default_factory=list)

    @classmethod
    def start(cls, recipe: Recipe, device: torch.device, world: World) -> "TrainState":
        """A new run: fresh weights, all slots waiting for a puzzle. The seed determines all of it."""
        config = recipe.training
        if config.global_batch_size % world.size:
            raise ValueError(
                f"global_batch_size {config.global_batch_size} is not divisible by "
                f"{world.size} processes"
            )
        model_class = next(cls for cls, kind in MODELS.values() if type(recipe.model) is kind)
        # Weights are drawn on the CPU, so that every device starts from the same ones
        model = model_class(recipe.model, torch.Generator().manual_seed(config.seed)).to(device)
        if config.compile:
            for module in model.reasoning_modules():
                module.compile(dynamic=False)
        wrapped = model
        if world.size > 1:
            devices = [device] if device.type == "cuda" else None
            wrapped = DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)
        optimizers = make_optimizers(model, config)
        sparse = model.puzzle_emb and SparseSignSGD(
            model.puzzle_emb, config.puzzle_emb_lr, config.puzzle_emb_weight_decay
        )
        groups = [g for o in [*optimizers, *([sparse] if sparse else [])] for g in o.param_groups]
        return cls(
            model=model,
            wrapped=wrapped,
            optimizers=optimizers,
            sparse=sparse,
            ema=EMA(model, config.ema_decay) if config.ema_decay else None,
            slots=Slots.empty(model, config.global_batch_size // world.size, device),
            symmetries=torch.Generator(device).manual_seed(config.seed + 1),
            exploration=torch.Generator(device).manual_seed(config.seed + 2),
            world=world,
            base_lrs=[group["lr"] for group in groups],
        )

    def set_learning_rate(self, factor: float) -> None:
        """Every optimiser's rate: its base times `factor`."""
        sparse = [self.sparse] if self.sparse else []
        groups = [g for o in [*self.optimizers, *sparse] for g in o.param_groups]
        for group, base in zip(groups, self.base_lrs, strict=True):
            group["lr"] = base * factor

    def tree(self) -> dict[str, Any]:
        """All of it, as `save_checkpoint` takes it; the slots are those of all ranks (collective)."""
        return {
            "step": self.step,
            "best": self.best,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "ema": self.ema.state_dict() if self.ema else None,
            "slots": {k: self.world.gather(v) for k, v in self.slots.tensors().items()},
            "symmetries": self.symmetries.get_state(),
            "exploration": self.exploration.get_state(),
        }

    def restore(self, tree: dict[str, Any]) -> None:
        """Continue from `tree`; each rank takes its share of the slots, whatever their number was."""
        self.step, self.best = tree["step"], tree["best"]
        self.model.load_state_dict(tree["model"])
        for optimizer, saved in zip(self.optimizers, tree["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if self.ema:
            self.ema.load_state_dict(tree["ema"])
        device = self.model.H_init.device
        slots: dict[str, Tensor] = tree["slots"]
        self.slots = Slots.of_tensors({k: self.world.part(v).to(device) for k, v in slots.items()})
        self.symmetries.set_state(tree["symmetries"])
        self.exploration.set_state(tree["exploration"])

    def initial_state(self) -> State:
        return self.model.initial_state(1)
