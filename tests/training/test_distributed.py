"""Several processes train as one does; what ends one ends all, and a run goes on in any number."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo  # DDP and optimisers import it: once here, not in every fork
import torch.multiprocessing as mp

from ostinato.data.batches import training_batches
from ostinato.data.puzzles import Metadata, PuzzleSet
from ostinato.data.sudoku import SudokuData
from ostinato.models import HRMConfig, TRMConfig, recursive
from ostinato.training import puzzles
from ostinato.training.checkpoint import load_checkpoint
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.distributed import World
from ostinato.training.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
IDS = 6
SHAPE = {
    "task": "sudoku4",
    "vocab_size": 6,
    "seq_len": 16,
    "hidden_size": 16,
    "num_heads": 2,
    "expansion": 1.0,
    "H_cycles": 2,
    "L_cycles": 2,
    "L_layers": 1,
    "puzzle_emb_ndim": 16,
    "puzzle_emb_len": 1,
    "num_puzzle_identifiers": IDS,
    "halt_max_steps": 4,
    "forward_dtype": "float32",
}
MODELS = {"trm": TRMConfig(**SHAPE), "hrm": HRMConfig(**SHAPE, H_layers=1)}


def recipe(model: str = "trm", forward_dtype: str = "float32", **training) -> Recipe:
    settings = {
        "total_steps": 20,
        "global_batch_size": 12,
        "lr": 1e-3,
        "weight_decay": 0.1,
        "puzzle_emb_lr": 1e-2,
        "puzzle_emb_weight_decay": 0.1,
        "warmup_steps": 3,
        "halt_exploration_prob": 0.5,
        "ema_decay": 0.9,
        "eval_every": 20,
        "eval_batch_size": 8,
        "checkpoint_every": 10,
        "log_every": 5,
        "device": "cpu",
        **training,
    }
    config = replace(MODELS[model], forward_dtype=forward_dtype)
    data = SudokuData(size=4, num_train=40, num_validation=13, num_test=8)
    return Recipe("tiny", config, data, TrainingConfig(**settings))


def several_ids(examples: int = 50) -> PuzzleSet:
    """Random tokens under few puzzle ids, so that a batch holds each of them several times."""
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 6, (examples, 16))
    inputs = np.where(rng.random(labels.shape) < 0.5, labels, 1)
    metadata = Metadata(vocab_size=6, seq_len=16, num_puzzle_identifiers=IDS, task="sudoku4")
    bounds = np.arange(0, examples + 1, 2)
    ids = rng.integers(1, IDS, len(bounds) - 1)
    return PuzzleSet.assemble(metadata, inputs, labels, ids, bounds, np.arange(len(bounds)))


def in_processes(size: int, work: Callable[..., object], *arguments: object) -> list[Any]:
    """What `work(*arguments)` returns in each of `size` processes that can `World.join`."""
    results = mp.get_context("fork").SimpleQueue()
    port = free_port()
    inside = (size, port, work, arguments, results)
    mp.start_processes(one_process, inside, nprocs=size, start_method="fork")
    pairs = [results.get() for _ in range(size)]
    return [result for _, result in sorted(pairs, key=lambda pair: pair[0])]


def one_process(rank: int, size: int, port: int, work: Any, arguments: Any, results: Any) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size}
    os.environ.update({key: str(value) for key, value in place.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    results.put((rank, work(*arguments)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train(settings: Recipe, path: Path, resume: Path | None = None) -> None:
    """Train on `several_ids`, with weights of double precision if the activations have it."""
    path.mkdir(exist_ok=True)
    torch.set_default_dtype(settings.model.dtype)
    data = several_ids()
    saved = None if resume is None else load_checkpoint(resume)
    with World.join() as world:
        puzzles.train(settings, RunFolder(path), data, data, CPU, world, saved)


def trained(size: int, settings: Recipe, path: Path, resume: Path | None = None) -> dict[str, Any]:
    """The last checkpoint of `size` processes."""
    in_processes(size, train, settings, path, resume)
    return load_checkpoint(
        path / "checkpoints" / f"step-{settings.training.total_steps:08d}.safetensors"
    )


def largest_differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """By part of a checkpoint: the largest difference of an element.

    Those of the optimiser's moments are relative to the largest moment of their tensor.
    """
    found = dict.fromkeys(["weights", "EMA", "puzzle table", "moments", "slots"], 0.0)

    def note(part: str, a: torch.Tensor, b: torch.Tensor, scale: float = 1.0) -> None:
        difference = (a.double() - b.double()).abs().max().item() / scale
        found[part] = max(found[part], difference)

    for name, tensor in one["model"].items():
        part = "puzzle table" if name == "puzzle_emb.weights" else "weights"
        note(part, tensor, other["model"][name])
    for name, tensor in one["ema"].items():
        note("EMA", tensor, other["ema"][name])
    for name, tensor in one["slots"][0].items():
        note("slots", tensor, other["slots"][0][name])
    moments, others = (tree["optimizers"][0]["state"] for tree in (one, other))
    for number, state in moments.items():
        for name, tensor in state.items():
            note("moments", tensor, others[number][name], tensor.abs().max().item())
    return found


@pytest.fixture
def lively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that want to halt from the start, so that exploration decides when slots are free."""
    monkeypatch.setattr(recursive, "Q_HEAD_BIAS", 1.0)


SIZES = [2, 3, pytest.param(4, marks=pytest.mark.slow)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", SIZES)
def test_processes_train_as_one(model: str, size: int, tmp_path: Path, lively: None):
    """In double precision all agrees, the slots' states too; in single, weights to 1e-6."""
    batch = next(training_batches(several_ids(), 12, recipe().training.seed))
    shares = [set(part.tolist()) for part in batch.puzzle_ids.chunk(size)]
    assert shares[0] & shares[1] and len(shares[0] | shares[1]) > 2, "no row is shared"

    for dtype, limit in (("float64", 1e-11), ("float32", 1e-6)):
        settings = recipe(model, dtype)
        one = trained(1, settings, tmp_path / f"one-{dtype}")
        several = trained(size, settings, tmp_path / f"several-{dtype}")
        differences = largest_differences(one, several)
        print(model, size, dtype, differences)
        parts = differences if dtype == "float64" else ("weights", "EMA", "puzzle table")
        assert max(differences[part] for part in parts) <= limit, differences
        assert one["model"]["puzzle_emb.weights"].abs().max() > 0.01
        assert len(one["slots"][0]["steps"].unique()) > 1
        assert torch.equal(one["exploration"], several["exploration"])
        assert torch.equal(one["symmetries"], several["symmetries"])
