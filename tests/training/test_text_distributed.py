"""Two processes train a language model as one does, also with micro-batches, and go on as one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ostinato.data.text import TextData
from ostinato.models import NanoChatConfig
from ostinato.training.checkpoint import load_checkpoint
from ostinato.training.config import TextRecipe, TextTrainingConfig
from ostinato.training.run import run
from tests.training.processes import in_processes

MODEL = NanoChatConfig(
    vocab_size=270, seq_len=16, hidden_size=16, num_layers=1, num_heads=2, ternary=False
)


def recipe(corpus: Path, num_loops: int, **training) -> TextRecipe:
    config = TextTrainingConfig(
        total_steps=6,
        global_batch_size=8,
        muon_lr=0.0,  # it iterates in bfloat16, which blows the rounding of sums up
        lr=1e-3,
        grad_clip=0.0,
        warmup_steps=2,
        eval_every=6,
        checkpoint_every=3,
        gate_start=1.0 if num_loops == 1 else 0.5,
        device="cpu",
    )
    data = TextData(str(corpus), num_tokens=270, num_validation=2, num_test=2)
    model = replace(MODEL, num_loops=num_loops)
    return TextRecipe("tiny", model, data, replace(config, **training))


def train(settings: TextRecipe, path: Path) -> float:
    return run(settings, path, path.parent / "data", report=lambda line: None).best


def checkpoint(path: Path, step: int = 6) -> dict[str, Any]:
    return load_checkpoint(path / f"checkpoints/step-{step:08d}.safetensors")


@pytest.mark.parametrize(("accumulation", "num_loops"), [(1, 1), (2, 1), (1, 3)])
def test_processes_train_as_one(accumulation: int, num_loops: int, tmp_path: Path):
    rng = np.random.default_rng(0)
    (tmp_path / "corpus").mkdir()
    for number in range(8):
        words = rng.choice(["low", "lower", "newest", "wider"], 60)
        (tmp_path / f"corpus/{number}.txt").write_text(" ".join(words))
    settings = recipe(tmp_path / "corpus", num_loops, accumulation=accumulation)
    best = train(settings, tmp_path / "one")
    bests = in_processes(2, train, settings, tmp_path / "two")
    assert bests == pytest.approx([best, best], abs=1e-5)
    one, two = (checkpoint(tmp_path / name) for name in ("one", "two"))
    for name, tensor in one["model"].items():
        assert torch.allclose(tensor, two["model"][name], rtol=0, atol=2e-5), name
    # Adam's steps do not depend on the size of gradients, its moments do. The first connection
    # mixes equal streams: its gradient, 1e-13, is nothing but rounding.
    for mine, theirs in zip(one["optimizers"], two["optimizers"], strict=True):
        for number, state in mine["state"].items():
            for name, value in state.items():
                other, scale = theirs["state"][number][name], value.abs().max().item()
                assert torch.allclose(value, other, rtol=0, atol=1e-3 * scale + 1e-10), name
    changed = "embed_tokens.weight" if num_loops == 1 else "exit_gate.weight"  # see gate_start
    before = checkpoint(tmp_path / "one", step=3)["model"][changed]
    assert (one["model"][changed] - before).abs().max() > 1e-3
