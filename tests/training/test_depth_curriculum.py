"""Training that begins with fewer cycles: what is called, and that evaluation is not touched."""

import pytest
import torch
from torch import nn

from ostinato.data.batches import Batch
from ostinato.data.sudoku import SudokuData
from ostinato.models import RecursiveConfig
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.distributed import World
from ostinato.training.puzzles import train_step
from ostinato.training.state import TrainState
from tests.tiny import tiny_config

DEEP = {"H_cycles": 3, "L_cycles": 6}


@pytest.mark.parametrize(
    "model", [tiny_config("trm", **DEEP), tiny_config("hrm", **DEEP, no_ACT_continue=True)]
)
def test_networks_are_called_as_often_as_the_stage_says(model: RecursiveConfig):
    training = TrainingConfig(
        total_steps=10, global_batch_size=2, warmup_steps=0, depth_curriculum=(0.3, 0.6)
    )
    recipe = Recipe("tiny", model, SudokuData(size=4), training)
    state = TrainState.start(recipe, torch.device("cpu"), World())
    tokens = torch.ones(2, 16, dtype=torch.int32)
    batch = Batch(tokens, tokens, torch.zeros(2, dtype=torch.int32))

    calls = 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal calls
        calls += 1

    for module in state.model.reasoning_modules():
        module.register_forward_hook(count)
    seen = []
    for _ in range(10):
        calls = 0
        train_step(state, recipe, batch)
        seen.append(calls)
    shallow, middle, full = 1 * (2 + 1), 2 * (4 + 1), 3 * (6 + 1)
    assert seen == [shallow] * 3 + [middle] * 3 + [full] * 4

    state.model.training_cycles = type(state.model.cycles)(1, 1)
    state.model.eval()
    calls = 0
    with torch.no_grad():
        state.model(state.model.initial_state(2), tokens, batch.puzzle_ids)
    assert calls == full


@pytest.mark.parametrize("rises", [(0.6, 0.3), (0.0,), (1.0,), (0.3, 0.3)])
def test_shares_that_do_not_rise_are_refused(rises: tuple[float, ...]):
    with pytest.raises(ValueError, match="must rise"):
        TrainingConfig(depth_curriculum=rises)
