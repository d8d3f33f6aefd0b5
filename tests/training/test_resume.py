"""A run that is stopped, killed or resumed ends with the bits of one that never was."""

import itertools
import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from ostinato.models import RecursiveConfig
from ostinato.training.checkpoint import load_checkpoint
from ostinato.training.config import Recipe
from ostinato.training.loop import Loop, TrainingError
from ostinato.training.run import run
from tests.tiny import assert_same_bits, final_state, tiny_config, tiny_recipe

MLP = {"mlp_t": True, "pos_encodings": "none"}
EQR = {"initial_state": "random", "damping": 0.95, "noise": 0.01}


def tiny(model: RecursiveConfig | None = None, **training) -> Recipe:
    settings = {
        "total_steps": 24,
        "lr_min_ratio": 0.1,
        "ema_decay": 0.9,
        "eval_every": 8,
        "checkpoint_every": 5,
        "log_every": 4,
        **training,
    }
    recipe = tiny_recipe("trm", **settings)
    return replace(recipe, model=model or tiny_config("trm", **MLP))


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    tiny().data.prepare(root, print)
    return root


def train(recipe: Recipe, path: Path, data_root: Path, **options):
    return run(recipe, path, data_root, report=lambda line: None, **options)


def logged(path: Path) -> list[dict[str, object]]:
    """The lines of metrics.jsonl but for the seconds."""
    return [json.loads(line) | {"time": None} for line in (path / "metrics.jsonl").open()]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, action: Callable[[], None]) -> None:
    """Do `action` once after that many training steps of this process."""
    from ostinato.training import puzzles

    step, taken = puzzles.train_step, [0]

    def counted(*arguments):
        result = step(*arguments)
        taken[0] += 1
        if taken[0] == steps:
            action()
        return result

    monkeypatch.setattr(puzzles, "train_step", counted)


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        (tiny_config("trm", **MLP), "adamw"),
        (tiny_config("trm", **EQR), "adam_atan2"),
        (tiny_config("hrm"), "muon"),
    ],
    ids=["mlp-adamw", "eqr-adam_atan2", "hrm-muon"],
)
def test_resumed_run_equals_uninterrupted_one(model, optimizer, tmp_path, data_root, monkeypatch):
    """The other pairs have no code of their own; tests/models/test_contract.py has every model."""
    recipe = tiny(model, optimizer=optimizer)
    outcome = train(recipe, tmp_path / "whole", data_root)
    assert outcome.finished and outcome.step == 24

    with monkeypatch.context() as patch:
        stop_after(patch, 11, lambda: os.kill(os.getpid(), signal.SIGTERM))
        outcome = train(recipe, tmp_path / "parts", data_root)
    assert (outcome.step, outcome.finished, outcome.reason) == (11, False, "SIGTERM")
    outcome = train(recipe, tmp_path / "parts", data_root)
    assert outcome.finished
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("settings", [{"refill": "stream"}, {"slot_turns": 3}], ids=str)
def test_resumed_run_has_the_same_slots(settings, tmp_path, data_root, monkeypatch):
    recipe = tiny(**settings)
    train(recipe, tmp_path / "whole", data_root)
    with monkeypatch.context() as patch:
        stop_after(patch, 11, lambda: os.kill(os.getpid(), signal.SIGTERM))
        train(recipe, tmp_path / "parts", data_root)
    train(recipe, tmp_path / "parts", data_root)
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")
    train(tiny(), tmp_path / "plain", data_root)
    with pytest.raises(AssertionError):
        assert_same_bits(tmp_path / "whole", tmp_path / "plain")


@pytest.mark.parametrize("step", [8, 24], ids=["midway", "last"])
def test_a_signal_before_a_validation_leaves_it_to_the_resumed_run(
    step, tmp_path, data_root, monkeypatch
):
    train(tiny(), tmp_path / "whole", data_root)
    with monkeypatch.context() as patch:
        stop_after(patch, step, lambda: os.kill(os.getpid(), signal.SIGHUP))
        outcome = train(tiny(), tmp_path / "parts", data_root)
    assert (outcome.step, outcome.finished, outcome.reason) == (step, False, "SIGHUP")
    assert train(tiny(), tmp_path / "parts", data_root).finished
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")
    assert logged(tmp_path / "whole") == logged(tmp_path / "parts")


@pytest.mark.slow
@pytest.mark.compile
def test_resumed_compiled_run_equals_uninterrupted_one(tmp_path, data_root, monkeypatch):
    recipe = tiny(compile=True)
    train(recipe, tmp_path / "whole", data_root)
    with monkeypatch.context() as patch:
        stop_after(patch, 7, lambda: os.kill(os.getpid(), signal.SIGINT))
        train(recipe, tmp_path / "parts", data_root)
    train(recipe, tmp_path / "parts", data_root)
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")


def test_other_seed_gives_other_weights(tmp_path, data_root):
    """The comparison above can fail."""
    train(tiny(total_steps=2, eval_every=2), tmp_path / "one", data_root)
    train(tiny(total_steps=2, eval_every=2, seed=1), tmp_path / "other", data_root)
    with pytest.raises(AssertionError):
        assert_same_bits(tmp_path / "one", tmp_path / "other")


def test_kill_at_random_moments(tmp_path, data_root):
    """Killed 15 times, often while saving; every restart resumes, and the end is the same.

    The system kills at once after so much time of the processor: how busy it is does not matter.
    """
    recipe = tiny(total_steps=150, checkpoint_every=1, eval_every=30)
    train(recipe, tmp_path / "whole", data_root)
    kills, rng = 0, random.Random(0)
    while kills < 15:
        moment = rng.uniform(0.05, 0.3)
        child = os.fork()
        if child == 0:
            signal.setitimer(signal.ITIMER_PROF, moment)
            train(recipe, tmp_path / "killed", data_root)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert status == 0, "a restart failed"
            break
        assert os.WTERMSIG(status) == signal.SIGPROF
        kills += 1
    assert kills >= 10, "the run was too short for the test"
    assert train(recipe, tmp_path / "killed", data_root).finished
    assert_same_bits(tmp_path / "whole", tmp_path / "killed")
    steps = [line.split(",")[0] for line in (tmp_path / "killed/metrics.jsonl").open()]
    assert steps == [line.split(",")[0] for line in (tmp_path / "whole/metrics.jsonl").open()]


def test_time_limit_saves_and_leaves(tmp_path, data_root):
    outcome = train(tiny(total_steps=100_000), tmp_path / "run", data_root, time_limit=0.5)
    assert not outcome.finished and outcome.reason == "the time limit"
    assert final_state(tmp_path / "run")["/step"] == outcome.step


def test_a_decay_by_time_ends_with_the_time(tmp_path, data_root, monkeypatch):
    """The clock moves by 20 ms at every look."""
    clock = partial(next, itertools.count(step=0.02))
    monkeypatch.setattr("ostinato.training.puzzles.Loop", partial(Loop, clock=clock))
    recipe = tiny(total_steps=100_000, decay_by="time", lr_min_ratio=0.0, log_every=1)
    outcome = train(recipe, tmp_path / "run", data_root, time_limit=3.0)
    assert outcome.finished and 10 < outcome.step < 60
    rates = [json.loads(line).get("lr") for line in (tmp_path / "run/metrics.jsonl").open()]
    rates = [rate for rate in rates if rate is not None]
    assert max(rates[3:]) == rates[3] and rates == rates[:3] + sorted(rates[3:], reverse=True)
    again = train(recipe, tmp_path / "run", data_root, time_limit=3.0)
    assert again.finished and again.step == outcome.step


def test_changed_model_is_refused(tmp_path, data_root):
    train(tiny(total_steps=2), tmp_path / "run", data_root)
    changed = tiny(tiny_config("trm", **MLP, hidden_size=32), total_steps=2)
    with pytest.raises(ValueError, match=r"model\.hidden_size = 16, not 32"):
        train(changed, tmp_path / "run", data_root)
    with pytest.raises(ValueError, match="--extend"):
        train(tiny(total_steps=4), tmp_path / "run", data_root)
    assert train(tiny(total_steps=4), tmp_path / "run", data_root, extend=True).step == 4
    with pytest.raises(ValueError, match="holds a run already"):
        train(tiny(total_steps=4), tmp_path / "run", data_root, resume="never")


def test_other_logging_is_allowed_on_resume(tmp_path, data_root):
    train(tiny(total_steps=8, log_every=4), tmp_path / "run", data_root)
    assert train(tiny(total_steps=8, log_every=2), tmp_path / "run", data_root).finished


def test_a_new_folder_goes_on_with_its_own_settings_and_its_own_best(tmp_path, data_root):
    train(tiny(total_steps=5), tmp_path / "old", data_root)
    (checkpoint,) = (tmp_path / "old/checkpoints").iterdir()
    recipe = tiny(total_steps=8, lr=0.0, beta1=0.5, weight_decay=0.25)
    train(recipe, tmp_path / "new", data_root, resume=str(checkpoint))
    (group,) = load_checkpoint(newest(tmp_path / "new"))["optimizers"][0]["param_groups"]
    assert group["betas"] == (0.5, recipe.training.beta2) and group["weight_decay"] == 0.25
    # The weights have not changed, so they are no better than those in the old folder
    assert (tmp_path / "new/model.safetensors").exists()


def newest(path: Path) -> Path:
    return sorted((path / "checkpoints").iterdir())[-1]


def test_weights_without_a_checkpoint_are_not_trained_over(tmp_path, data_root):
    train(tiny(total_steps=4), tmp_path / "run", data_root)
    shutil.rmtree(tmp_path / "run/checkpoints")
    with pytest.raises(ValueError, match="holds trained weights, but no checkpoint"):
        train(tiny(total_steps=4), tmp_path / "run", data_root)


def test_a_run_whose_time_is_over_says_so(tmp_path, data_root):
    recipe = tiny(decay_by="time")
    with pytest.raises(ValueError, match="give a longer --time-limit"):
        train(recipe, tmp_path / "run", data_root, time_limit=1e-9)


def test_non_finite_loss_keeps_the_last_good_state(tmp_path, data_root, monkeypatch):
    from ostinato.training import puzzles

    def poison(*arguments, step=puzzles.train_step, taken=[0]):  # noqa: B006
        metrics = step(*arguments)
        taken[0] += 1
        return {k: v * (float("nan") if taken[0] == 13 else 1.0) for k, v in metrics.items()}

    monkeypatch.setattr(puzzles, "train_step", poison)
    with pytest.raises(TrainingError, match="no longer finite"):
        train(tiny(log_every=1), tmp_path / "run", data_root)
    saved = final_state(tmp_path / "run")
    assert saved["/step"] == 10
    assert all(v.isfinite().all() for v in saved.values() if isinstance(v, torch.Tensor))


def test_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, data_root):
    recipe = tiny()
    train(recipe, tmp_path / "whole", data_root)
    train(recipe, tmp_path / "run", data_root)
    newest = sorted((tmp_path / "run/checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    said: list[str] = []
    run(recipe, tmp_path / "run", data_root, report=said.append)
    assert any("truncated" in line for line in said)
    assert_same_bits(tmp_path / "whole", tmp_path / "run")
