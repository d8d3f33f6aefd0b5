"""Run a program that nobody has read, and learn whether it came to its end.

The program gets its own user, process and network namespaces (`unshare`, Linux), an empty folder as
its home, an empty environment, and limits on time, memory, files and processes. The first process
of the namespace is ours: when it ends, at the latest after the time limit, the kernel ends all
others, whatever they have become. docs/reinforcement.md says what this does not protect.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from ostinato.data.prompts import sandbox_child

NAMESPACES = (
    "unshare --user --map-root-user --net --pid --fork --kill-child --mount-proc --".split()
)
NOBODY = 65534
"""User and group that root becomes, so that the kernel's limits apply."""
GRACE = 10.0
"""Seconds after the time limit until the sandbox is ended from outside."""
OUTPUT = 4096
"""Bytes that are read of what a program says."""
REMEDY = "use another machine, or give --unsafe-sandbox if you trust the model"


@dataclass(frozen=True)
class Limits:
    """Bound what a program may use."""

    seconds: int = 5
    """Time, and time of the processor for each process."""
    memory: int = 2**28
    """Bytes of address space of a process."""
    file_size: int = 2**24
    processes: int = 16
    open_files: int = 64


USUAL = Limits()


@cache
def interpreter() -> str:
    """Return a Python that a sandbox can run. Raises ValueError if root has none for others."""
    known = [sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")]
    for path in filter(None, known):
        command = [path, "-I", "-S", "-c", "import doctest, resource"]
        if not run_quietly(command, cwd="/", timeout=60):
            return path
    raise ValueError(
        "no Python is readable for other users, and root runs no samples: work as another user, or "
        "install one in /usr/bin"
    )


@cache
def check_kernel() -> None:
    """Raise ValueError if the kernel, or the container around us, allows no namespaces."""
    if shutil.which("unshare") is None or run_quietly([*NAMESPACES, "true"], cwd="/", timeout=60):
        raise ValueError(f"the kernel allows no namespaces for programs of a model: {REMEDY}")


def run_quietly(command: list[str], **settings: object) -> int:
    """Run a command as the user of a sandbox, and return its exit code."""
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    try:
        return subprocess.run(command, env={}, **quiet, **other_user(), **settings).returncode  # pyright: ignore
    except (OSError, subprocess.TimeoutExpired):
        return 1


def other_user() -> dict[str, object]:
    """Return the arguments of `Popen` by which root becomes nobody."""
    if os.getuid():
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def passes(program: str, limits: Limits = USUAL, unsafe: bool = False) -> bool:
    """Return whether a Python program runs to its end within the limits, without an exception.

    A program that leaves early, by `os._exit(0)` too, does not pass. With `unsafe` there are no
    namespaces: the limits hold, but the network and other processes are in reach. Raises ValueError
    if the kernel allows no namespaces otherwise.
    """
    if not unsafe:
        check_kernel()
    home = Path(tempfile.mkdtemp(prefix="ostinato-sandbox-"))
    try:
        if not os.getuid():
            os.chown(home, NOBODY, NOBODY)
        return _run(program, home, limits, unsafe)
    finally:
        _remove(home)


def _remove(home: Path) -> None:
    """Remove a folder, even one that forbids it or is nested too deeply for Python."""
    try:
        shutil.rmtree(home)
    except (OSError, RecursionError):
        for command in ("chmod -R u+rwx", "rm -rf"):
            subprocess.run([*command.split(), home], stderr=subprocess.DEVNULL, check=False)


def _run(program: str, home: Path, limits: Limits, unsafe: bool) -> bool:
    word = secrets.token_hex(16)
    order = {"word": word, "program": program, "apart": not unsafe, **asdict(limits)}
    command = [interpreter(), "-I", "-S", "-B", "-c", Path(sandbox_child.__file__).read_text()]
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
        told.write(json.dumps(order).encode())
        told.seek(0)
        process = subprocess.Popen(  # pyright: ignore[reportCallIssue]
            command if unsafe else [*NAMESPACES, *command],
            stdin=told,
            stdout=said,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env={"HOME": str(home)},
            start_new_session=True,
            **other_user(),  # pyright: ignore[reportArgumentType]
        )
        try:
            process.wait(limits.seconds + GRACE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _end(process)
        said.seek(0)
        return said.read(OUTPUT) == word.encode()


def _end(process: subprocess.Popen) -> None:
    """End a sandbox, if it has not ended yet, and wait until nothing of it is left."""
    if process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        first = children.read_text().split() if children.exists() else []
        # The death of the first process takes all others along; `unshare` waits for that
        for number in first or [str(process.pid)]:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(int(number), 9)
        process.wait()
