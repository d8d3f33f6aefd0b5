"""Hold what a run on prompts needs to resume: the weights and their optimisers."""

from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from ostinato.models import NanoChat
from ostinato.training.config import PromptRecipe, PromptTrainingConfig
from ostinato.training.distributed import World
from ostinato.training.optimizers import make_muon
from ostinato.training.policy import Policy
from ostinato.training.weight_state import WeightState
from ostinato.weights.fitting import load_pretrained
from ostinato.weights.load import read_pretrained


@dataclass(kw_only=True)
class PromptState(WeightState):
    """The state of a run; seed and number of steps determine prompts and samples."""

    model: NanoChat
    best: float = -1.0
    """Highest pass@1 on validation so far."""

    @classmethod
    def start(
        cls,
        recipe: PromptRecipe,
        device: torch.device,
        world: World,
        resumed: bool = False,
    ) -> "PromptState":
        """Start a new run, from the weights that the recipe names unless `restore` will follow."""
        config = recipe.training
        config.micro_batch_size(world.size)  # raises ValueError if they do not divide
        model = NanoChat(recipe.model, torch.Generator().manual_seed(config.seed))
        if config.init_from and not resumed:
            found = read_pretrained(config.init_from)
            load_pretrained(model, found)
            model.tokenizer_json = found.tokenizer
        policy = Policy(model.to(device))
        state = cls(
            model=model,
            wrapped=world.wrap(policy, device),
            optimizers=make_optimizers(model, config),
            world=world,
        )
        if state.wrapped is not policy:  # lay out DDP's buckets, as for puzzles
            state.wrapped([]).backward()
            model.zero_grad(set_to_none=True)
        return state


def make_optimizers(model: NanoChat, config: PromptTrainingConfig) -> list[Optimizer]:
    """Return AdamW, or Muon for the matrices of the blocks and AdamW for the rest."""
    roles = model.parameter_roles()
    matrices = [p for name, p in model.named_parameters() if roles[name] == "block matrix"]
    others = [p for name, p in model.named_parameters() if roles[name] != "block matrix"]
    muon = config.optimizer == "muon"
    adam = torch.optim.AdamW(
        others if muon else model.parameters(),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
    )
    return [make_muon(matrices, config), adam] if muon else [adam]
