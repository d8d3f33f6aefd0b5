"""Runs that start from trained weights: fine-tuning, and puzzle rows for a frozen network."""

import json
import multiprocessing
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ostinato
from ostinato.data.metadata import Metadata
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.stored import StoredData
from ostinato.evaluation.puzzles import evaluate
from ostinato.models import HRM, HRMConfig, TRMConfig
from ostinato.training.checkpoint import load_checkpoint
from ostinato.training.config import Recipe, TrainingConfig, with_dtypes
from ostinato.training.config_file import read_config
from ostinato.training.distributed import World
from ostinato.training.run import run
from ostinato.training.state import TrainState
from ostinato.weights.official import write_official
from ostinato.weights.save import save_weights

ANSWERS = (3, 1, 4, 2, 5, 3)
"""The token that fills the answer of each new puzzle: nothing but its id tells."""
MODEL = HRMConfig(
    vocab_size=6,
    seq_len=6,
    hidden_size=16,
    num_heads=2,
    expansion=1.0,
    H_cycles=1,
    L_cycles=1,
    H_layers=1,
    L_layers=1,
    puzzle_emb_ndim=16,
    puzzle_emb_len=1,
    num_puzzle_identifiers=4,
    halt_max_steps=2,
    forward_dtype="float32",
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of new puzzles, `new`, and the old model, `old.safetensors`."""
    folder = tmp_path_factory.mktemp("given")
    size, count = 8, len(ANSWERS)
    rng = np.random.default_rng(0)
    metadata = Metadata(vocab_size=6, seq_len=6, num_puzzle_identifiers=count + 1)
    for split in ("train", "validation"):
        PuzzleSet.assemble(
            metadata,
            inputs=rng.integers(1, 6, (size * count, 6)),
            labels=np.repeat(np.array(ANSWERS), size)[:, None].repeat(6, axis=1),
            puzzle_identifiers=np.arange(1, count + 1),
            puzzle_indices=np.arange(count + 1) * size,
            group_indices=np.arange(count + 1),
        ).save(folder / "new", split)
    save_weights(folder / "old.safetensors", old_model())
    return folder


def old_model() -> HRM:
    model = HRM(MODEL, torch.Generator().manual_seed(3))
    assert model.puzzle_emb is not None
    model.puzzle_emb.weights.normal_(std=0.1, generator=torch.Generator().manual_seed(4))
    return model


def recipe(given: Path, **training) -> Recipe:
    """New puzzles for the old model; by default only their rows are trained."""
    settings = {
        "total_steps": 60,
        "global_batch_size": 12,
        "optimizer": "adamw",
        "lr": 0.5,
        "puzzle_emb_lr": 0.1,
        "puzzle_emb_weight_decay": 0.1,
        "warmup_steps": 1,
        "ema_decay": 0.9,
        "eval_every": 20,
        "checkpoint_every": 1000,
        "log_every": 10,
        "device": "cpu",
        "init_from": str(given / "old.safetensors"),
        "freeze": "weights",
        "puzzle_embeddings": "mean",
        **training,
    }
    rows = len(ANSWERS) + 1 if settings["puzzle_embeddings"] == "mean" else 4
    return Recipe(
        "new-puzzles",
        replace(MODEL, num_puzzle_identifiers=rows),
        StoredData(str(given / "new"), augment=False),
        TrainingConfig(**settings),
    )


def train(recipe: Recipe, path: Path, **options):
    return run(recipe, path, path.parent, report=lambda line: None, **options)


def last_checkpoint(path: Path) -> dict:
    return load_checkpoint(sorted((path / "checkpoints").iterdir())[-1])


def metrics(path: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").open()]
    return [line[name] for line in lines if name in line]


@pytest.mark.parametrize("optimizer", ["adamw", "adam_atan2", "muon"])
def test_frozen_weights_stay_and_rows_learn(optimizer: str, given: Path, tmp_path: Path):
    train(recipe(given, optimizer=optimizer, weight_decay=0.5), tmp_path / "run")
    tree, old = last_checkpoint(tmp_path / "run"), old_model().state_dict()
    table, old_table = tree["model"].pop("puzzle_emb.weights"), old.pop("puzzle_emb.weights")
    assert tree["model"].keys() == old.keys()
    for name in old:
        assert torch.equal(tree["model"][name], old[name]), name
    for name, shadow in tree["ema"].items():
        assert torch.equal(shadow, old[name]), name
    assert not any(state["state"] for state in tree["optimizers"])

    mean = old_table.mean(0)
    assert len(table) == len(ANSWERS) + 1
    assert torch.equal(table[0], mean), "no puzzle has id 0"
    assert ((table[1:] - mean).abs().amax(1) > 0.1).all()

    losses = metrics(tmp_path / "run", "train/lm_loss")
    assert losses[-1] < 0.85 * losses[0]
    # Two of the six puzzles share an answer, which is the most that one answer to all could score
    assert metrics(tmp_path / "run", "validation/exact_accuracy")[-1] > 2 / 6


def test_evaluation_reads_the_table(given: Path, tmp_path: Path):
    train(recipe(given), tmp_path / "run")
    model = ostinato.load(tmp_path / "run")
    puzzles = PuzzleSet.load(given / "new", "validation")
    best = max(metrics(tmp_path / "run", "validation/exact_accuracy"))
    assert evaluate(model, puzzles).exact_accuracy == best
    assert model.puzzle_emb is not None
    model.puzzle_emb.weights.zero_()
    assert evaluate(model, puzzles).exact_accuracy <= 2 / 6 < best


def test_resumed_without_the_file_it_began_with(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from ostinato.training import puzzles

    path = tmp_path / "begin.safetensors"
    path.write_bytes((given / "old.safetensors").read_bytes())
    new = recipe(given, init_from=str(path), freeze="nothing", lr=0.01, total_steps=14)
    train(new, tmp_path / "whole")
    step, taken = puzzles.train_step, []

    def interrupted(*arguments):
        taken.append(None)
        if len(taken) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(puzzles, "train_step", interrupted)
        assert train(new, tmp_path / "parts").step == 5
    path.unlink()
    assert train(new, tmp_path / "parts").finished
    files = [sorted((tmp_path / name / "checkpoints").iterdir())[-1] for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()

    with pytest.raises(ValueError, match=r"started with training\.init_from = .*begin"):
        train(replace(new, training=replace(new.training, init_from="x")), tmp_path / "parts")
    as_run = with_dtypes(new, torch.device("cpu"))
    assert read_config(tmp_path / "parts/config.json", Recipe) == as_run


@pytest.mark.parametrize("form", ["ours", "official", "official without settings"])
def test_a_run_begins_with_the_weights(form: str, given: Path, tmp_path: Path):
    source = given / "old.safetensors"
    if form != "ours":
        source = write_official(old_model(), tmp_path, step=9)
    if form == "official without settings":
        (tmp_path / "all_config.yaml").unlink()
    new = recipe(given, init_from=str(source), freeze="nothing", puzzle_embeddings="keep")
    state, old = TrainState.start(new, CPU, World()), old_model()
    for name, tensor in old.state_dict().items():
        assert torch.equal(state.model.state_dict()[name], tensor), name
    assert state.ema is not None
    assert all(torch.equal(state.ema.shadow[name], p) for name, p in old.named_parameters())
    assert not any(optimizer.state for optimizer in state.optimizers)
    assert state.slots.halted.all() and state.step == 0
    assert all(p.requires_grad for p in state.model.parameters())

    fresh = TrainState.start(new, CPU, World(), resumed=True)  # to be restored: nothing is read
    assert not torch.equal(fresh.model.lm_head.weight, state.model.lm_head.weight)


def test_fine_tuning_trains_everything(given: Path, tmp_path: Path):
    train(recipe(given, freeze="nothing", lr=0.01, total_steps=5), tmp_path / "run")
    now, old = last_checkpoint(tmp_path / "run")["model"], old_model()
    for name, parameter in old.named_parameters():
        assert not torch.equal(now[name], parameter), name
    assert torch.equal(now["H_init"], old.H_init)


def test_what_does_not_fit_is_refused(given: Path, tmp_path: Path):
    def start(model, **training):
        TrainState.start(replace(recipe(given, **training), model=model), CPU, World())

    wide = replace(MODEL, num_puzzle_identifiers=7)
    with pytest.raises(ValueError, match=r"has 4 rows, the model needs 7.*puzzle_embeddings mean"):
        start(wide, puzzle_embeddings="keep")
    with pytest.raises(ValueError, match=r"old\.safetensors: .* has shape"):
        start(replace(wide, expansion=40.0))
    with pytest.raises(ValueError, match=r"lacks the tensor H_level\.layers\.1"):
        start(replace(wide, H_layers=2))
    shared = {name: value for name, value in vars(wide).items() if name != "H_layers"}
    trm = TRMConfig(**shared)
    with pytest.raises(ValueError, match=r"does not know: H_level\.layers\.0"):
        start(trm)
    with pytest.raises(ValueError, match=r"6 symbols, these have 30: start from"):
        start(replace(wide, vocab_size=30), puzzle_embeddings="mean")
    with pytest.raises(ValueError, match="does not exist"):
        start(wide, init_from=str(tmp_path / "missing"))
    save_weights(tmp_path / "bare", bare := HRM(replace(MODEL, puzzle_emb_ndim=0)))
    with pytest.raises(ValueError, match="need puzzle rows to train"):
        start(bare.config, init_from=str(tmp_path / "bare"), puzzle_embeddings="keep")


@pytest.mark.parametrize("setting", [{"freeze": "weights"}, {"puzzle_embeddings": "mean"}])
def test_settings_for_trained_weights_need_some(setting: dict):
    with pytest.raises(ValueError, match="give some as init_from"):
        TrainingConfig(**setting)


def test_frozen_weights_over_two_processes(given: Path, tmp_path: Path):
    """The same rows as one process learns, within rounding of the gradients' signs: none."""
    new = recipe(given, total_steps=6, eval_every=6)
    train(new, tmp_path / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def work(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        train(new, tmp_path / "two")

    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=work, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    one, two = (last_checkpoint(tmp_path / name)["model"] for name in ("one", "two"))
    for name in one:
        assert (one[name] - two[name]).abs().max() < 1e-6, name
