"""Files are replaced whole, one process trains at a time, and a resume logs no step twice."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostinato.training import run_folder
from ostinato.training.run_folder import RunFolder, environment, read_json


def test_missing_and_damaged_json(tmp_path):
    with pytest.raises(ValueError, match=r"there is no .*config\.json: give a folder"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"config\.json cannot be read"):
        read_json(tmp_path / "config.json")


HOLD = """
import sys, time
from pathlib import Path
from ostinato.training.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    time.sleep(600)
"""


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "a")
    for _ in range(2):  # a lock is given back when its block ends
        with folder.lock():
            pass
    command = [sys.executable, "-c", HOLD, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "locked\n"
            with pytest.raises(ValueError, match=f"process {holder.pid} trains in"), folder.lock():
                pytest.fail("two hold the lock")
        finally:
            os.kill(holder.pid, signal.SIGKILL)
    (folder.path / ".config.json.partial").write_text("left by the kill")
    with folder.lock():
        assert [path.name for path in folder.path.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ValueError, match="cannot write to"),
        RunFolder(tmp_path / "file" / "run").lock(),
    ):
        pytest.fail("the parent is a file")


@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    pauses=st.lists(st.integers(0, 3), max_size=20),
    resumed=st.integers(-1, 40),
    torn=st.integers(0, 30),
)
def test_metrics_after_the_resumed_step_go(tmp_path, pauses, resumed, torn):
    steps = [sum(pauses[: index + 1]) for index in range(len(pauses))]
    lines = [json.dumps({"step": step, "time": 0.0, "n": n}) for n, step in enumerate(steps)]
    folder = RunFolder(tmp_path)
    unfinished = json.dumps({"step": 0, "train/loss": 1 / 3})[:torn]
    folder.metrics.write_text("".join(line + "\n" for line in lines) + unfinished)
    folder.discard_metrics_after(resumed)
    kept = [json.loads(line)["n"] for line in folder.metrics.read_text().splitlines()]
    assert kept == [n for n, step in enumerate(steps) if step <= resumed]
    assert folder.metrics.read_text() == "" or folder.metrics.read_text().endswith("\n")


def test_damage_in_the_middle_of_the_metrics_is_an_error(tmp_path):
    folder = RunFolder(tmp_path)
    folder.discard_metrics_after(0)
    assert not folder.metrics.exists()
    for damage in ("{", '{"time": 1.0}', "[]"):
        folder.metrics.write_text('{"step": 1}\n' + damage + '\n{"step": 3}\n')
        with pytest.raises(ValueError, match=r"line 2 of .*metrics\.jsonl is damaged: remove"):
            folder.discard_metrics_after(1)


def test_the_environment_of_every_start_is_recorded(tmp_path):
    folder = RunFolder(tmp_path)
    folder.record_environment(torch.device("cpu"))
    data = tmp_path / "runs" / ".." / "data"
    folder.record_environment(torch.device("cpu"), 700, data, "0a")
    first, second = read_json(folder.environment)
    assert (first["step"], second["step"]) == (0, 700)
    assert "data" not in first
    assert (second["data"], second["data_sha256"]) == (str(tmp_path / "data"), "0a")
    assert second["torch"] == torch.__version__
    assert second["threads"] == torch.get_num_threads()
    assert second["cpu"] and second["gpu"] is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_checkout_the_code_is_part_of(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    module = tmp_path / "ostinato" / "training" / "run_folder.py"
    installed = tmp_path / ".venv" / "ostinato" / "training" / "run_folder.py"
    for file in (module, installed):
        file.parent.mkdir(parents=True)
        file.write_text("1")
    git("init")
    git("add", "ostinato")
    git("commit", "--no-verify", "--no-gpg-sign", "-m", "first")
    monkeypatch.setattr(run_folder, "__file__", str(module))
    cpu = torch.device("cpu")
    assert environment(cpu)["git"] == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    module.write_text("2")
    assert environment(cpu)["git"] == {"commit": git("rev-parse", "HEAD"), "dirty": True}
    monkeypatch.setattr(run_folder, "__file__", str(installed))
    assert environment(cpu)["git"] is None
