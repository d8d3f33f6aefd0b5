"""Several processes train as one does; what ends one ends all, and a run goes on in any number."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ostinato.data.batches import training_batches
from ostinato.data.metadata import Metadata
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.sudoku import SudokuData
from ostinato.evaluation.puzzles import evaluate
from ostinato.models import MODELS as CLASSES
from ostinato.models import recursive
from ostinato.training import puzzles
from ostinato.training.checkpoint import load_checkpoint
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.distributed import World
from ostinato.training.run import run
from ostinato.training.run_folder import RunFolder
from ostinato.weights import safetensors_file
from tests.tiny import tiny_config
from tests.training.processes import exit_codes, how_it_ends, in_processes

CPU = torch.device("cpu")
IDS = 6
MODELS = {name: tiny_config(name, num_puzzle_identifiers=IDS) for name in ("trm", "hrm")}


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


def several_ids(examples: int) -> PuzzleSet:
    """Random tokens under few puzzle ids, so that a batch holds each of them several times."""
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 6, (examples, 16))
    inputs = np.where(rng.random(labels.shape) < 0.5, labels, 1)
    metadata = Metadata(vocab_size=6, seq_len=16, num_puzzle_identifiers=IDS, task="sudoku4")
    bounds = np.arange(0, examples + 1, 2)
    ids = rng.integers(1, IDS, len(bounds) - 1)
    return PuzzleSet.assemble(metadata, inputs, labels, ids, bounds, np.arange(len(bounds)))


DATA, VALIDATION = several_ids(50), several_ids(8)


def train(settings: Recipe, path: Path, resume: Path | None = None) -> None:
    """Train on `several_ids`, with weights of double precision if the activations have it.

    The model wants to halt from the start, so that exploration decides when slots are free.
    """
    path.mkdir(exist_ok=True)
    recursive.Q_HEAD_BIAS = 1.0
    torch.set_default_dtype(settings.model.dtype)
    saved = None if resume is None else load_checkpoint(resume)
    with World.join() as world:
        puzzles.train(settings, RunFolder(path), DATA, VALIDATION, CPU, world, saved)


def trained(size: int, settings: Recipe, path: Path, resume: Path | None = None) -> dict[str, Any]:
    """The last checkpoint of `size` processes."""
    in_processes(size, train, settings, path, resume)
    return load_checkpoint(
        path / "checkpoints" / f"step-{settings.training.total_steps:08d}.safetensors"
    )


TRAINED = ("weights", "EMA", "puzzle table")


def largest_differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """By part of a checkpoint: the largest difference of an element.

    Those of the optimiser's moments are relative to the largest moment of their tensor.
    """
    found = dict.fromkeys([*TRAINED, "moments", "slots"], 0.0)

    def note(part: str, a: torch.Tensor, b: torch.Tensor, scale: float = 1.0) -> None:
        difference = (a.double() - b.double()).abs().max().item() / scale
        found[part] = max(found[part], difference)

    for name, tensor in one["model"].items():
        part = "puzzle table" if name == "puzzle_emb.weights" else "weights"
        note(part, tensor, other["model"][name])
    for name, tensor in one["ema"].items():
        note("EMA", tensor, other["ema"][name])
    for turn, same_turn in zip(one["slots"], other["slots"], strict=True):
        for name, tensor in turn.items():
            note("slots", tensor, same_turn[name])
    moments, others = (tree["optimizers"][0]["state"] for tree in (one, other))
    for number, state in moments.items():
        for name, tensor in state.items():
            note("moments", tensor, others[number][name], tensor.abs().max().item())
    return found


def batches_with_shared_rows(settings: Recipe, size: int) -> int:
    """Count the batches of a run that hold an id for two of the ranks, and other ids too."""
    batches = training_batches(DATA, settings.training.global_batch_size, settings.training.seed)
    count = 0
    for batch in islice(batches, settings.training.total_steps):
        ids = [set(part.tolist()) for part in batch.puzzle_ids.chunk(size)]
        count += sum(map(len, ids)) > len(set.union(*ids)) > 1
    return count


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("model", MODELS)
def test_processes_train_as_one(model: str, dtype: str, tmp_path: Path):
    """In double precision all agrees, the slots' states too; in single, the weights to 1e-6.

    A rounding can move a weight whose gradient is almost zero by a part of the learning rate, which
    is the published one in single precision.
    """
    settings = recipe(model, dtype, lr=1e-3 if dtype == "float64" else 1e-4)
    one = trained(1, settings, tmp_path / "1")
    assert one["model"]["puzzle_emb.weights"].abs().max() > 0.01
    assert len(one["slots"][0]["steps"].unique()) > 1
    for size in (2, 4):
        assert batches_with_shared_rows(settings, size) > 10
        several = trained(size, settings, tmp_path / str(size))
        differences = largest_differences(one, several)
        print(model, dtype, size, differences)
        if dtype == "float64":
            assert max(differences.values()) <= 1e-11, differences
        else:
            assert max(differences[part] for part in TRAINED) <= 1e-6, differences
        for generator in ("symmetries", "exploration"):
            assert torch.equal(one[generator], several[generator])


@pytest.mark.parametrize("model", MODELS)
def test_micro_batches_train_as_one_batch(model: str, tmp_path: Path):
    """Also spread over processes, and with the continue head, which asks the model once more."""
    settings = recipe(model, "float64", grad_clip=0.5)
    settings = replace(settings, model=replace(settings.model, no_ACT_continue=False))
    whole = trained(1, settings, tmp_path / "whole")
    for size, accumulation in ((1, 4), (2, 3)):
        training = replace(settings.training, accumulation=accumulation)
        parts = trained(size, replace(settings, training=training), tmp_path / f"{size}")
        differences = largest_differences(whole, parts)
        assert 0.0 < max(differences.values()) <= 1e-11, differences


def test_run_goes_on_in_another_number(tmp_path: Path):
    """To the bit in the same number, also where more than two ranks are summed; else in effect."""
    settings = recipe(forward_dtype="float64", refill="stream", slot_turns=2)
    whole = trained(3, settings, tmp_path / "whole")
    half = tmp_path / "whole/checkpoints/step-00000010.safetensors"
    same = trained(3, settings, tmp_path / "3", half)
    assert set(largest_differences(whole, same).values()) == {0.0}
    for size in (1, 2):
        other = trained(size, settings, tmp_path / str(size), half)
        differences = largest_differences(whole, other)
        assert 0.0 < max(differences.values()) <= 1e-11, differences


def exchange_words() -> None:
    with World.join() as world:
        assert (world.is_main, world.size) == (world.rank == 0, 3)
        assert world.highest(world.rank * (2 - world.rank)) == 1
        assert world.sum(torch.tensor([1.0, world.rank])).tolist() == [3.0, 3.0]
        answers = [world.ask_main(name, lambda: (name, world.rank)) for name in "ab"]  # noqa: B023
        assert answers == [("a", 0), ("b", 0)]
        rows = torch.arange(12).reshape(6, 2)
        for dtype in (torch.bool, torch.int32, torch.bfloat16, torch.float32, torch.float64):
            mine = world.part(rows.to(dtype))
            assert mine.tolist() == rows.to(dtype)[2 * world.rank :][:2].tolist()
            assert torch.equal(world.gather(mine), rows.to(dtype))


def test_words_between_processes():
    in_processes(3, exchange_words)


def test_evaluation_counts_every_puzzle_once():
    """26 puzzles for 3 processes; the labels of every third are what the model will say."""
    model = CLASSES["trm"][0](MODELS["trm"], torch.Generator().manual_seed(0))
    data = several_ids(26)
    assert isinstance(data.labels, np.ndarray)
    for row in range(0, 26, 3):
        data.labels[row] = answer(model, data, row)

    alone = comparable(evaluate(model, data, 4))
    assert alone["puzzles"] == 26 and alone["exact_accuracy"] == 9 / 26
    moved = alone.pop("drift_by_step")
    for shared in in_processes(3, shared_evaluation, model, data):
        assert shared.pop("drift_by_step") == pytest.approx(moved, abs=1e-3)  # by batches of 3
        assert shared == alone


def shared_evaluation(model: recursive.RecursiveModel, data: PuzzleSet) -> dict[str, Any]:
    with World.join() as world:
        shares = {"rank": world.rank, "world_size": world.size, "sum_over_ranks": world.sum}
        return comparable(evaluate(model, data, 4, **shares))


def answer(model: recursive.RecursiveModel, data: PuzzleSet, row: int) -> np.ndarray:
    ids = torch.from_numpy(data.puzzle_identifiers[[row // 2]])
    with torch.no_grad():
        state, output = model.initial_state(1), None
        for _ in range(model.config.halt_max_steps):
            state, output = model(state, torch.from_numpy(data.inputs[row : row + 1]), ids)
    assert output is not None
    return output.logits.argmax(-1)[0].numpy()


def comparable(result: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(result).items() if key != "puzzles_per_second"}


def outcome(path: Path, limits: list[float | None], terminated: int | None) -> tuple:
    """Train with each rank's own time limit, or with SIGTERM to one of them during step 6."""
    path.mkdir(exist_ok=True)
    with World.join() as world:
        if world.rank == terminated:
            during_step(6, lambda: os.kill(os.getpid(), signal.SIGTERM))
        limit = limits[world.rank]
        end = puzzles.train(
            recipe(), RunFolder(path), DATA, VALIDATION, CPU, world, time_limit=limit
        )
    return end.step, end.finished, end.reason


def during_step(number: int, act: Callable[[], object]) -> None:
    """Let this process do `act` at the beginning of that training step."""
    step = puzzles.train_step

    def acting(state: Any, *rest: Any) -> Any:
        if state.step == number - 1:
            act()
        return step(state, *rest)

    puzzles.train_step = acting


@pytest.mark.parametrize("rank", [0, 1])
def test_what_ends_one_ends_all(rank: int, tmp_path: Path):
    stopped = in_processes(2, outcome, tmp_path / "signal", [None, None], rank)
    assert stopped == [(6, False, "SIGTERM")] * 2
    limits = [0.0 if rank == other else None for other in range(2)]
    stopped = in_processes(2, outcome, tmp_path / "limit", limits, None)
    assert stopped == [(1, False, "the time limit")] * 2


def same_mistake() -> None:
    with World.join() as world:
        world.highest(0)  # all are connected
        raise ValueError("the same mistake everywhere")


def main_fails_while_others_wait() -> None:
    with World.join() as world:
        world.ask_main("data", lambda: Path("/no/such/file").read_text())


def one_fails_in_training(path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("the roof is on fire")

    path.mkdir(exist_ok=True)
    with World.join() as world:
        if world.rank == 1:
            during_step(6, fail)
        puzzles.train(recipe(), RunFolder(path), DATA, VALIDATION, CPU, world)


def other_settings(path: Path, data_root: Path) -> None:
    run(recipe(seed=int(os.environ["RANK"])), path, data_root, report=lambda line: None)


def other_weights() -> None:
    with World.join() as world:
        world.check_same("weights", lambda: [20, world.rank])
        world.highest(0)  # where the others learn of it


def test_only_the_first_error_is_heard(tmp_path: Path):
    ends = in_processes(3, how_it_ends, same_mistake)
    assert sorted(ends) == ["ValueError: the same mistake everywhere", "exit 1", "exit 1"]
    first, second = in_processes(2, how_it_ends, main_fails_while_others_wait)
    assert first.startswith("FileNotFoundError") and second == "exit 1"
    ends = in_processes(2, how_it_ends, one_fails_in_training, tmp_path / "run")
    assert ends == ["exit 1", "RuntimeError: the roof is on fire"]


def test_processes_that_differ_are_refused(tmp_path: Path):
    first, second = in_processes(2, how_it_ends, other_weights)
    assert first == "exit 1"
    assert second.startswith("ValueError: process 1 has other weights than process 0: start all")
    first, second = in_processes(2, how_it_ends, other_settings, tmp_path / "run", tmp_path)
    assert first == "exit 1"
    assert second.startswith("ValueError: process 1 has other settings than process 0: start all")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    recipe().data.prepare(root, lambda line: None)
    return root


def kill_while_saving(victim: int, path: Path, data_root: Path) -> None:
    """Kill a process while rank 0, which may be the victim, is in the middle of the save at 10."""
    pids, rank = path.parent / "pids", os.environ["RANK"]
    pids.mkdir(exist_ok=True)
    (pids / rank).write_text(str(os.getpid()))
    content = safetensors_file.content

    def interrupted(tensor: torch.Tensor) -> memoryview:
        if list((path / "checkpoints").glob(".step-00000010*")):
            safetensors_file.content = content
            os.kill(int((pids / str(victim)).read_text()), signal.SIGKILL)
        return content(tensor)

    safetensors_file.content = interrupted
    train_run(path, data_root)


def train_run(path: Path, data_root: Path) -> bool:
    settings = recipe(eval_every=10, checkpoint_every=5)
    return run(settings, path, data_root, report=lambda line: None).finished


@pytest.mark.parametrize("victim", [0, 1])
def test_kill_one_of_two_while_saving(victim: int, tmp_path: Path, data_root: Path):
    assert in_processes(2, train_run, tmp_path / "whole", data_root) == [True, True]
    run_folder = tmp_path / "killed"
    codes = exit_codes(2, kill_while_saving, victim, run_folder, data_root)
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] == 1, codes

    saved = sorted(path.name for path in (run_folder / "checkpoints").iterdir())
    done = ["step-00000005.safetensors"]
    assert len(saved) == 2 and saved == (
        [*(name for name in saved if name.startswith(".step-00000010")), *done]
        if victim == 0
        else [*done, "step-00000010.safetensors"]
    )
    assert in_processes(2, train_run, run_folder, data_root) == [True, True]
    for name in ("checkpoints/step-00000020.safetensors", "model.safetensors"):
        assert (run_folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.compile
@pytest.mark.parametrize("model", MODELS)
def test_compiled_processes_train_as_one(model: str, tmp_path: Path):
    """Compiled kernels add up in another order for another batch size, hence the wider limit."""
    settings = recipe(model, compile=True)
    one = trained(1, settings, tmp_path / "one")
    two = trained(2, settings, tmp_path / "two")
    differences = largest_differences(one, two)
    assert max(differences[part] for part in TRAINED) <= 1e-5
