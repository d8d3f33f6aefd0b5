"""`torchrun … -m ostinato train`: the processes stop, fail and start again together."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ostinato.cli import main

ROOT = Path(__file__).parents[2]
SETTINGS = "--global-batch-size 8 --num-train 40 --num-validation 8 --num-test 8 --log-every 1"


def torchrun(folder: Path, options: str, words: str) -> subprocess.Popen[str]:
    """`torchrun` with two processes, in `folder`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *options.split()]
    return subprocess.Popen(
        [*command, "--nproc-per-node", "2", "-m", "ostinato", *words.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def steps_done(folder: Path) -> list[int]:
    file = folder / "runs/sudoku4-tiny/metrics.jsonl"
    lines = [json.loads(line) for line in file.open()] if file.exists() else []
    return [line["step"] for line in lines if "train/loss" in line]


def wait_for(condition: Callable[[], object], job: subprocess.Popen[str]) -> None:
    while not condition():
        assert job.poll() is None, job.communicate()
        time.sleep(0.1)


def test_torchrun_stops_at_a_signal_and_one_process_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = f"train sudoku4-tiny {SETTINGS} --run-folder runs/sudoku4-tiny"
    job = torchrun(tmp_path, "", f"{words} --total-steps 100000")
    wait_for(lambda: len(steps_done(tmp_path)) > 3, job)
    job.terminate()
    output, errors = job.communicate()
    assert errors.count("data are in") == 1, errors
    ended = re.findall(r"^stopped by SIGTERM at step ([\d,]+); ", output, re.MULTILINE)
    assert len(ended) == 1, output + errors
    step = int(ended[0].replace(",", ""))
    assert (tmp_path / f"runs/sudoku4-tiny/checkpoints/step-{step:08d}.safetensors").exists()

    monkeypatch.chdir(tmp_path)
    assert main([*words.split(), "--total-steps", str(step + 2), "--extend"]) == 0
    assert "done after" in capsys.readouterr().out
    assert steps_done(tmp_path) == list(range(1, step + 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("--global-batch-size 7", "not divisible by accumulation 1 × 2"),
        ("--no-such-setting 1", "unknown setting"),
    ],
)
def test_torchrun_shows_a_mistake_once(setting: str, message: str, tmp_path: Path):
    job = torchrun(tmp_path, "", f"train sudoku4-tiny {SETTINGS} {setting}")
    output, errors = job.communicate()
    said = [line for line in errors.splitlines() if line.startswith("ostinato:")]
    assert job.returncode != 0 and len(said) == 1 and message in said[0], output + errors


@pytest.mark.slow
def test_torchrun_restarts_after_a_kill(tmp_path: Path):
    words = f"train sudoku4-tiny {SETTINGS} --checkpoint-every 2 --total-steps 40 --eval-every 40"
    job = torchrun(tmp_path, "--max-restarts 1", words)
    wait_for(lambda: len(steps_done(tmp_path)) > 5, job)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    output, errors = job.communicate()
    assert job.returncode == 0 and "resuming from" in errors, output + errors
    assert steps_done(tmp_path) == list(range(1, 41))
