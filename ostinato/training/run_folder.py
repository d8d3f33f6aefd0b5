"""Describe the files of a run folder, read them and write them.

    RUN/
      config.json           every setting of the run, the whole truth
      environment.json      code version, packages, machine and data of each start and resume
      metrics.jsonl         one object a line: step, time in seconds, metrics
      checkpoints/          step-00001000.safetensors …: everything needed to go on
      model.safetensors     the weights that did best on validation
      tokenizer.json        of a language model
      result.json           the final evaluation
      curves.png            drawn by `ostinato plot RUN`

and on ARC:

      identifiers.json      what each row of the puzzle embedding stands for
      submission.json, votes.json   of the final evaluation
      tasks.png             drawn by `ostinato plot RUN --tasks all`

Every file but metrics.jsonl is replaced whole, so that a kill leaves the old one or the new one.
"""

import fcntl
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta

from ostinato import decoding
from ostinato.data.text.tokenizer import TOKENIZER_FILE
from ostinato.decoding import convert, decode_json, read_text
from ostinato.files import open_known, remedy, remove_partial_files, write_json, write_text


@dataclass(frozen=True)
class Record:
    """A line of metrics.jsonl."""

    step: Annotated[int, Meta(ge=0, lt=2**53)]
    time: Annotated[float, Meta(ge=0, lt=1e12)] = 0.0
    """Seconds of training."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """Metrics by name; None where a value was not finite."""
    line: str = ""
    """Text of the line."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run, and the lock that keeps two processes from training in it at once."""

    path: Path

    @property
    def is_begun(self) -> bool:
        """Return whether something has been learnt here: there are weights or checkpoints."""
        return self.model.exists() or any(self.checkpoints.glob("step-*"))

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def identifiers(self) -> Path:
        return self.path / "identifiers.json"

    @property
    def tokenizer(self) -> Path:
        return self.path / TOKENIZER_FILE

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder, making it if needed; ValueError if another process trains in it.

        The kernel releases the lock when the process ends, however it ends.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open_known(self.path / ".lock", "ab+")
        except OSError as error:
            raise ValueError(
                f"cannot write to {error.filename}: {error.strerror}: {remedy(error)}"
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read(32).decode("ascii", "replace") or "unknown"
                raise ValueError(
                    f"process {owner} trains in {self.path}: wait for it or choose another folder"
                ) from None
            with suppress(OSError):  # on a full disk the owner stays unknown
                file.truncate(0)
                file.write(str(os.getpid()).encode())
            remove_partial_files(self.path)
            yield

    def record_environment(
        self, device: torch.device, step: int = 0, data: Path | None = None, sha256: str = ""
    ) -> None:
        """Add the environment to environment.json, with the step from which the run resumes.

        The folder `data` of the training data is recorded with their hash.
        """
        starts = (
            read_json(self.environment, list[dict[str, Any]]) if self.environment.exists() else []
        )
        facts = {} if data is None else {"data": str(data.resolve()), "data_sha256": sha256}
        write_json(self.environment, [*starts, {"step": step, **environment(device), **facts}])

    def discard_metrics_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl later than `step`, and a last line cut off by a kill.

        A resumed run logs those steps again. Raises ValueError if another line is damaged.
        """
        if not self.metrics.exists():
            return
        kept = "".join(record.line for record in self.records() if record.step <= step)
        if kept != read_text(self.metrics):
            write_text(self.metrics, kept)

    def records(self) -> list[Record]:
        """Return the lines of metrics.jsonl, except a last one that is unfinished or was cut off.

        Raises ValueError if another line is damaged.
        """
        lines = read_text(self.metrics).split("\n")[:-1] if self.metrics.exists() else []
        records = []
        for number, line in enumerate(lines, 1):
            try:
                metrics = decode_json(line, dict[str, Any], "")
                place = {key: metrics.pop(key) for key in ("step", "time") if key in metrics}
                content = {**place, "metrics": metrics, "line": f"{line}\n"}
                records.append(convert(content, Record, ""))
            except ValueError:
                raise ValueError(
                    f"line {number} of {self.metrics} is damaged: remove that line"
                ) from None
        return records


def read_json(path: Path, kind: Any = Any) -> Any:
    """Return the `kind` in a JSON file; ValueError in one line if it is missing or damaged."""
    if not path.exists():
        raise ValueError(f"there is no {path}: give a folder made by `ostinato train`")
    return decoding.read_json(path, kind, "restore it from a copy")


def environment(device: torch.device) -> dict[str, Any]:
    """Return code version, packages and machine: what a result depends on beside config.json."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "ostinato": _package_version("ostinato"),
        "git": _git_state(Path(__file__).parents[1]),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # imported from a source tree that is not installed
        return None


def _git_state(package: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout that holds `package`; None outside one or without git."""

    def git(*arguments: str) -> str | None:
        try:
            run = subprocess.run(
                ["git", "-C", package, *arguments],
                check=False,
                capture_output=True,
                text=True,
                timeout=10,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return run.stdout.strip() if run.returncode == 0 else None

    # Without tracked files the package is merely installed somewhere below another checkout.
    if not git("ls-files", "--", "."):
        return None
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain", "--", ".")),
    }


def _cpu_name() -> str:
    """Return the CPU's model name, which Linux has in /proc and `platform` does not look up
    there."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
