"""Each logged value is in metrics.jsonl once, and the progress line tells the truth."""

import io
import json
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

import jaxtyping
import pytest
import torch
from rich.console import Console

from ostinato.training.run_folder import RunFolder
from ostinato.training.trackers import WandB
from ostinato.training.tracking import Tracker


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Config:
    lr: float = 1e-3


def screen(*, terminal: bool, width: int = 200) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=50)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def records(folder: RunFolder) -> list[dict]:
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    lines = folder.metrics.read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_metrics_are_lines_of_json_that_are_on_disk_at_once(tmp_path):
    folder, clock = RunFolder(tmp_path), Clock()
    with Tracker(folder, 100, console=screen(terminal=False), clock=clock) as tracker:
        clock.now += 2.5
        tracker.log(10, {"train/loss": 0.1 + 0.2, "lr": 1e-4})
        tracker.log(10, {"validation/exact_accuracy": 1})
        clock.now += 1
        tracker.log(20, {"train/loss": float("nan"), "train/norm": float("inf")})
        assert records(folder) == [
            {"step": 10, "time": 2.5, "train/loss": 0.1 + 0.2, "lr": 1e-4},
            {"step": 10, "time": 2.5, "validation/exact_accuracy": 1},
            {"step": 20, "time": 3.5, "train/loss": None, "train/norm": None},
        ]


def test_a_tensor_is_refused_since_reading_it_would_wait_for_the_device(tmp_path, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse first
    with Tracker(RunFolder(tmp_path), 100, console=screen(terminal=False)) as tracker:
        with pytest.raises(TypeError, match=r"train/loss is a Tensor.*\.item"):
            tracker.log(1, {"train/loss": torch.tensor(1.0)})  # pyright: ignore[reportArgumentType]
        with pytest.raises(AssertionError):
            tracker.log(2, {})
            tracker.log(1, {})


@pytest.mark.parametrize("resumed", [None, 20])
def test_a_resumed_run_holds_each_step_once_and_its_clock_goes_on(tmp_path, resumed):
    folder, clock = RunFolder(tmp_path), Clock()
    with Tracker(folder, 100, console=screen(terminal=False), clock=clock) as tracker:
        for step in (10, 20, 30):
            clock.now += 5
            tracker.log(step, {"course": 1})
    with folder.metrics.open("a") as file:
        file.write('{"step": 40, "time": 2')  # cut off by a kill
    clock.now += 1000
    with Tracker(
        folder, 100, resumed_step=resumed, console=screen(terminal=False), clock=clock
    ) as tracker:
        assert tracker.elapsed == (0 if resumed is None else 10)
        for step in (30, 40):
            clock.now += 1
            tracker.log(step, {"course": 2})
    found = [(record["step"], record["time"], record["course"]) for record in records(folder)]
    if resumed is None:
        assert found == [(30, 1, 2), (40, 2, 2)]
    else:
        assert found == [(10, 5, 1), (20, 10, 1), (30, 11, 2), (40, 12, 2)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(ValueError, match=r"could not write .*No space left.*--resume auto"),
        open("/dev/full", "wb", buffering=0) as full,
        Tracker(RunFolder(tmp_path), 100, console=screen(terminal=False)) as tracker,
    ):
        tracker.file.close()
        tracker.file = full
        tracker.log(1, {"train/loss": 1.0})


def test_the_line_has_rate_elapsed_and_remaining_time(tmp_path):
    console, clock = screen(terminal=False), Clock()
    with Tracker(
        RunFolder(tmp_path),
        2000,
        units_per_step=32,
        shown=("train/loss",),
        console=console,
        clock=clock,
    ) as tracker:
        for step in range(1, 1001):  # 4 steps/s
            clock.now += 0.25
            tracker.advance(step)
            if step % 100 == 0:
                tracker.log(step, {"train/loss": step / 10_000, "lr": 0.5})
        tracker.note("saved [step 1000]")
    lines = printed(console).splitlines()
    assert lines[-2] == "saved [step 1000]"
    assert lines[-1] == (
        "step 1,000/2,000 · 50.0% · 4 steps/s · 128 examples/s · 4:10 elapsed · 4:10 left · "
        "train/loss 0.1"
    )
    assert len(lines) == 250 // 10 + 2


def test_the_rate_is_the_recent_one(tmp_path):
    console, clock = screen(terminal=False), Clock()
    with Tracker(RunFolder(tmp_path), 10_000, console=console, clock=clock) as tracker:
        for step in range(1, 401):
            clock.now += 1.0 if step <= 200 else 0.5
            tracker.advance(step)
    assert " · 2 steps/s · " in printed(console).splitlines()[-1]


def test_a_resumed_run_counts_its_own_steps_for_the_rate(tmp_path):
    console, clock = screen(terminal=False), Clock()
    with Tracker(
        RunFolder(tmp_path), 1000, resumed_step=900, console=console, clock=clock, time_limit=20.0
    ) as tracker:
        for step in range(901, 911):
            clock.now += 1
            tracker.advance(step)
    # 90 steps are left at 1 step/s, but only 10 seconds of the time limit
    assert printed(console).splitlines()[-1] == (
        "step 910/1,000 · 91.0% · 1 steps/s · 0:10 elapsed · 0:10 left"
    )


def test_the_log_of_a_week_stays_small(tmp_path):
    console, clock = screen(terminal=False), Clock()
    week = 7 * 24 * 3600
    with Tracker(RunFolder(tmp_path), week, console=console, clock=clock) as tracker:
        for step in range(10, week + 1, 10):
            clock.now += 10
            tracker.advance(step)
    text = printed(console)
    assert 100 < len(text.splitlines()) < 1000
    assert text.splitlines()[-1].startswith("step 604,800/604,800 · 100.0%")


@pytest.mark.parametrize("width", [60, 200])
def test_on_a_terminal_the_line_moves_and_shows_all_of_it(tmp_path, width):
    console, clock = screen(terminal=True, width=width), Clock()
    with Tracker(
        RunFolder(tmp_path), 100, shown=("train/loss",), console=console, clock=clock
    ) as tracker:
        for step in range(1, 51):
            clock.now += 1
            tracker.log(step, {"train/loss": 0.25})
        tracker.note("a note")
    text = printed(console)
    assert "━" in text and "50/100" in text and "0.25" in text and "a note" in text


def test_tensorboard_gets_every_metric_and_forgets_what_a_resume_redoes(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = RunFolder(tmp_path)
    for resumed, steps, value in [(None, (10, 20, 30), 1.0), (20, (30, 40), 2.0)]:
        with Tracker(
            folder,
            100,
            track=("tensorboard",),
            config=Config(),
            resumed_step=resumed,
            console=screen(terminal=False),
        ) as tracker:
            for step in steps:
                tracker.log(step, {"train/loss": value})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(10, 1.0), (20, 1.0), (30, 2.0), (40, 2.0)]


@pytest.mark.slow
def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for resumed, value in ((None, 1.0), (10, 2.0)):
        with Tracker(
            RunFolder(tmp_path),
            100,
            track=("wandb",),
            config=Config(),
            resumed_step=resumed,
            console=screen(terminal=False),
        ) as tracker:
            tracker.log(20, {"train/loss": value})
            (sink,) = tracker.sinks
            assert isinstance(sink, WandB)
            assert dict(sink.run.config) == {"class": "Config", "lr": 1e-3}
            assert (sink.run.summary["step"], sink.run.summary["train/loss"]) == (20, value)
    runs = list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(runs) == 2
    assert len({run.name for run in runs}) == 1, "a resumed run is the same run"


@pytest.mark.slow
def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    (tmp_path / "run").mkdir()
    for resumed in (None, 20):
        with Tracker(
            RunFolder(tmp_path / "run"),
            100,
            track=("trackio",),
            config=Config(),
            resumed_step=resumed,
            console=screen(terminal=False),
        ) as tracker:
            tracker.log(30, {"train/loss": 1.0 if resumed is None else 2.0})
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select run_name, step, metrics from metrics").fetchall()
    assert [row[:2] for row in rows] == [("run", 30), ("run", 30)]
    assert [json.loads(row[2])["train/loss"] for row in rows] == [1.0, 2.0]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_an_error_before_anything_is_touched(
    tmp_path, monkeypatch, name
):
    folder = RunFolder(tmp_path)
    folder.metrics.write_text('{"step": 1, "time": 0.0}\n')
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ValueError, match=rf"{name} needs .*: pip install 'ostinato\[track\]'$"):
        Tracker(folder, 100, track=(name,), console=screen(terminal=False))
    assert len(records(folder)) == 1
