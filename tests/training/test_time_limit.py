"""A time limit holds, whatever a step, a validation or a checkpoint takes; the clock is a toy."""

import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from ostinato.training.checkpoint import load_checkpoint
from ostinato.training.config import LoopConfig
from ostinato.training.distributed import World
from ostinato.training.loop import Loop, Outcome, Work
from ostinato.training.run_folder import RunFolder
from ostinato.training.tracking import duration

STEP, VALIDATION, SAVING = 10.0, 35.0, 4.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class State:
    step: int = 0
    best: float = 0.0

    def checksums(self) -> list[int]:
        return []


@dataclass
class SlowWork(Work):
    """A step, a validation and a checkpoint take as long as the constants say."""

    clock: Clock
    state: Any = field(default_factory=State)
    shares: list[float] = field(default_factory=list)
    """Share of the time used, as each update was told."""
    validated: list[int] = field(default_factory=list)
    unit, units_per_step, shown = "examples", 1, ()

    def update(self, time_used: float) -> dict[str, torch.Tensor]:
        self.shares.append(time_used)
        self.clock.now += STEP
        self.state.step += 1
        return {}

    def means(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        return {"train/loss": 1.0 / self.state.step}

    def validate(self) -> dict[str, float]:
        self.clock.now += VALIDATION
        self.validated.append(self.state.step)
        return {"validation/score": 1.0 / self.state.step}

    def tree(self) -> dict[str, Any]:
        self.clock.now += SAVING
        return {"step": self.state.step}

    def best_in_words(self) -> str:
        return ""


@dataclass(frozen=True)
class Settings:
    training: LoopConfig


def saved(folder: Path) -> dict[str, Any] | None:
    files = sorted((folder / "checkpoints").glob("*"))
    return load_checkpoint(files[-1]) if files else None


def session(folder: Path, limit: float | None, **settings: Any) -> tuple[Outcome, SlowWork, float]:
    """Train on from what `folder` holds; returns how that ended and the seconds it took."""
    folder.mkdir(exist_ok=True)
    defaults = {"total_steps": 1000, "checkpoint_every": 1000, "eval_every": 1000, "log_every": 1}
    recipe = Settings(LoopConfig(**(defaults | settings)))
    clock, checkpoint = Clock(), saved(folder)
    work = SlowWork(clock, State(checkpoint["step"] if checkpoint else 0))
    outcome = Loop(recipe, RunFolder(folder), World(), limit, clock).run(work, checkpoint)
    return outcome, work, clock.now - Clock.now


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def test_a_run_that_meets_its_limit_before_any_checkpoint_leaves_one(tmp_path: Path):
    outcome, _, seconds = session(tmp_path, 75.0)
    assert (outcome.step, outcome.reason) == (8, "the time limit")
    assert seconds == 8 * STEP + SAVING
    assert saved(tmp_path) == {"step": 8}


@pytest.mark.parametrize("limit", range(60, 400, 34))
@pytest.mark.parametrize("decay_by", ["steps", "time"])
def test_validation_and_saving_are_inside_the_limit(limit: int, decay_by: Any, tmp_path: Path):
    """All but the first validation, whose time nobody knows: that is said."""
    outcome, work, seconds = session(tmp_path, float(limit), eval_every=3, decay_by=decay_by)
    unknown = VALIDATION + SAVING if len(work.validated) == 1 else 0.0
    assert seconds <= limit + STEP + SAVING + unknown
    if decay_by == "time":
        assert outcome.finished and work.validated[-1] == outcome.step
        assert work.shares == sorted(work.shares)
        if len(work.validated) > 1:  # none of them cuts the decay of the learning rate short
            assert work.shares[-1] > 1 - 2 * STEP / limit
        again = session(tmp_path, float(limit), eval_every=3, decay_by="time")
        assert again[0] == outcome and not again[1].shares and not again[1].validated
        longer, *_ = session(tmp_path, 2.0 * limit + 100, eval_every=3, decay_by="time")
        assert longer.finished and longer.step > outcome.step


def test_the_first_validation_under_a_limit_is_announced_and_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def die(self: SlowWork) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SlowWork, "validate", die)
        with pytest.raises(KeyboardInterrupt):
            session(tmp_path, 50.0, decay_by="time")
    assert "saved step 5; the first validation may take longer" in capsys.readouterr().err
    outcome, work, _ = session(tmp_path, 50.0, decay_by="time")
    assert outcome.finished and (outcome.step, work.validated, work.shares) == (5, [5], [])


def test_a_validation_that_has_to_wait_comes_once_and_first(tmp_path: Path):
    limit = 6 * STEP + VALIDATION + 2 * SAVING + 1  # enough for six steps, not to validate again
    outcome, work, seconds = session(tmp_path / "parts", limit, total_steps=6, eval_every=3)
    assert (outcome.step, outcome.finished, work.validated) == (6, False, [3])
    assert seconds <= limit + SAVING
    shutil.copytree(tmp_path / "parts", tmp_path / "killed")
    outcome, work, _ = session(tmp_path / "parts", None, total_steps=6, eval_every=3)
    assert outcome.finished and (work.validated, work.shares) == ([6], [])
    # A kill after that line and before its checkpoint
    shutil.copy(tmp_path / "parts/metrics.jsonl", tmp_path / "killed")
    session(tmp_path / "killed", None, total_steps=6, eval_every=3)
    session(tmp_path / "whole", None, total_steps=6, eval_every=3)
    for part in ("parts", "killed"):
        assert saved(tmp_path / part) == saved(tmp_path / "whole")
        found, wanted = (
            [{**line, "time": 0} for line in lines(tmp_path / p)] for p in (part, "whole")
        )
        assert found == wanted


@pytest.mark.parametrize("decay_by", ["steps", "time"])
def test_a_resumed_run_shows_what_is_left_of_its_time(
    decay_by: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Count the run's time where the rate decays by time, else the session's."""
    session(tmp_path, 100.0, total_steps=5, decay_by=decay_by)
    used = lines(tmp_path)[-1]["time"]
    assert used == 5 * STEP + SAVING + VALIDATION
    session(tmp_path, 1000.0, decay_by=decay_by)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "step 6/1,000" in x]
    assert f"{duration(1000 - STEP - (used if decay_by == 'time' else 0))} left" in line


def test_a_closed_pipe_ends_a_session_as_a_signal_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", closed)
        outcome, _, _ = session(tmp_path, None)
    assert (outcome.finished, outcome.reason) == (False, "a closed pipe")
    assert saved(tmp_path) == {"step": outcome.step}


@pytest.mark.parametrize("gone", [".", "metrics.jsonl", "replaced"])
def test_a_run_whose_folder_or_metrics_are_gone_ends_with_an_error(
    gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "run"

    def vandal(self: SlowWork) -> dict[str, float]:
        if gone == ".":
            shutil.rmtree(folder)
        else:
            (folder / "metrics.jsonl").unlink()
        if gone == "replaced":
            (folder / "metrics.jsonl").touch()
        return {"validation/score": 1.0}

    monkeypatch.setattr(SlowWork, "validate", vandal)
    with pytest.raises(ValueError, match=r"metrics\.jsonl has been removed while the run goes on"):
        session(folder, None, total_steps=2)
    assert folder.exists() == (gone != ".")


def test_removed_checkpoints_are_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def vandal(self: SlowWork) -> dict[str, float]:
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        return {"validation/score": 1.0}

    monkeypatch.setattr(SlowWork, "validate", vandal)
    assert session(tmp_path, None, total_steps=2, checkpoint_every=1)[0].finished
    assert saved(tmp_path) == {"step": 2}


def test_nohup_keeps_a_run_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    validate = SlowWork.validate

    def hang_up(self: SlowWork) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGHUP)
        return validate(self)

    monkeypatch.setattr(SlowWork, "validate", hang_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert session(tmp_path, None, total_steps=4, eval_every=2)[0].finished
    finally:
        signal.signal(signal.SIGHUP, before)
    (tmp_path / "checkpoints").rename(tmp_path / "old")
    outcome, *_ = session(tmp_path, None, total_steps=4, eval_every=2)
    assert (outcome.step, outcome.reason) == (2, "SIGHUP")
