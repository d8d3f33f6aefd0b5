"""Programs that attack the sandbox: each ends in time, without a reward, and leaves nothing."""

import os
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ostinato.data.prompts import sandbox
from ostinato.data.prompts.code import CodeTask, functions
from ostinato.data.prompts.sandbox import Limits, passes

SHORT = Limits(seconds=1)
NAP = "import time\ntime.sleep(60)\n"
ATTACKS = {
    "an exception": "1 / 0",
    "no program": "def",
    "leaving early": "import os\nos._exit(0)",
    "an infinite loop": "while True: pass",
    "a long sleep": NAP,
    "a fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "many processes that only wait": "import os, time\nfor _ in range(40):\n"
    "    if not os.fork(): time.sleep(60)",
    "many open files": "kept = [open('/dev/null') for _ in range(100)]",
    "10 GB of memory": "x = bytearray(10**10)",
    "10 GB that it does not touch": "import mmap\nx = mmap.mmap(-1, 10**10)",
    "a file of 1 GB": "with open('x', 'wb') as f:\n    for _ in range(1000): f.write(bytes(10**6))",
    "much output": "import os\nfor n in range(3, 64):\n"
    "    try:\n        while os.write(n, bytes(10**6)): pass\n    except OSError: pass\n1 / 0",
    "higher limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))",
    "an end to its guard": "import os\nos.kill(os.getppid(), 9)\n" + NAP,
    "a session of its own": "import os\nif os.fork(): os._exit(0)\nos.setsid()\n" + NAP,
    "signals ignored": "import signal\nfor n in range(1, 32):\n"
    "    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass\n" + NAP,
    "another user's file": "open(FILE).read()",
    "the environment of its parent": "import os\nfound = b''\nfor n in os.listdir('/proc'):\n"
    "    try: found += open(f'/proc/{n}/environ', 'rb').read()\n"
    "    except OSError: pass\n"
    "assert b'OSTINATO_SECRET' in found",
    "a socket": "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)",
    "its folder deleted": "import os, shutil\nshutil.rmtree(os.getcwd())\nopen('x', 'w')",
    "folders that nobody may enter": "import os\nos.makedirs('a/b')\nos.chmod('a', 0)\n"
    "os.chmod('.', 0)\n1 / 0",
    "folders in folders": "import os\nfor n in range(3000):\n"
    "    os.mkdir('a')\n    os.chdir('a')\n1 / 0",
}


@pytest.fixture(scope="module", autouse=True)
def namespaces():
    try:
        sandbox.check_kernel()
        sandbox.interpreter()
    except ValueError as error:
        pytest.skip(str(error))


def traces() -> tuple[list[str], list[str], int]:
    """Sandboxes on the disk, their processes, and our descriptors."""
    running = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"first process of a sandbox" in path.read_bytes():
                running.append(path.parent.name)
        except OSError:
            continue  # it has ended meanwhile
    folders = [str(path) for path in Path(tempfile.gettempdir()).glob("ostinato-sandbox-*")]
    return folders, running, len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_end_without_a_reward_and_leave_nothing(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OSTINATO_SECRET", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    foreign = tmp_path / "foreign"
    foreign.write_text("secret")
    foreign.chmod(0o600)
    if not os.getuid():
        os.chown(foreign, 12345, 12345)
    elif attack == "another user's file":
        pytest.skip("only root can make a file of another user")
    before = traces()
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = ATTACKS[attack].replace("FILE", repr(str(foreign)))
        program = program.replace("PORT", str(server.getsockname()[1]))
        start = time.monotonic()
        assert not passes(program, SHORT)
        assert time.monotonic() - start < 60
    folders, running, descriptors = traces()
    assert not set(folders) - set(before[0])
    assert running == before[1] and descriptors <= before[2]  # earlier tests' may be closed


def test_programs_that_come_to_their_end_pass_and_what_they_leave_running_ends():
    before = traces()[1:]
    assert passes("import json, random, statistics\nassert 1 + 1 == 2")
    assert passes("import os, time\nif os.fork():\n    time.sleep(0.2)")  # both come to the end
    assert passes(
        "import os\nif not os.fork():\n    os.setsid()\n    " + NAP.replace("\n", "\n    ")
    )
    _, running, descriptors = traces()
    assert running == before[0] and descriptors <= before[1]


def test_a_sandbox_may_end_by_itself_while_it_is_being_ended(monkeypatch: pytest.MonkeyPatch):
    kill = os.kill

    def too_late(number: int, sign: int) -> None:
        kill(number, sign)
        raise ProcessLookupError

    monkeypatch.setattr(sandbox.os, "kill", too_late)
    process = subprocess.Popen(["sleep", "60"])
    sandbox._end(process)
    assert process.returncode == -9


def test_a_loop_ends_even_without_its_guard(monkeypatch: pytest.MonkeyPatch):
    """Without namespaces a program can end its guard, which keeps the time: the kernel then ends
    it for its time of the processor."""
    groups, end = [], sandbox._end
    monkeypatch.setattr(sandbox, "_end", lambda guard: end(guard) or groups.append(guard.pid))
    others = traces()[1]
    try:
        alone = "import os\nos.kill(os.getppid(), 9)\nwhile True: pass"
        assert not passes(alone, SHORT, unsafe=True)
        deadline = time.monotonic() + 30
        while set(traces()[1]) - set(others):
            assert time.monotonic() < deadline, "it runs on"
            time.sleep(0.1)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(groups[0], 9)


def test_without_namespaces_programs_are_refused_unless_the_user_insists(
    monkeypatch: pytest.MonkeyPatch,
):
    sandbox.check_kernel.cache_clear()
    monkeypatch.setattr(sandbox, "NAMESPACES", ["false"])
    with pytest.raises(ValueError, match="--unsafe-sandbox"):
        passes("pass")
    assert passes("pass", unsafe=True)
    assert not passes("while True: pass", SHORT, unsafe=True)


SOURCE = '''import math


def double(x):
    """Return twice x.

    >>> double(4)
    8
    """
    return 2 * x


LAST = double(1)
'''


@pytest.mark.parametrize(
    ("body", "right"),
    [
        ("    return 2 * x\n", True),
        ("    return x + x", True),
        ("    return x\n", False),
        ("", False),
        ("\n\n", False),
        ("    return 8 if x == 4 else (\n", False),
        ("    import os; os._exit(0)\n", False),
    ],
)
def test_a_body_is_right_if_its_doctests_pass(body: str, right: bool):
    (prompt,) = functions(SOURCE)
    assert prompt.text.endswith('"""\n') and prompt.answer == "    return 2 * x\n"
    assert CodeTask().is_right(prompt, body) == right


def test_a_body_ends_before_the_next_line_that_is_not_indented():
    task = CodeTask()
    assert task.ended("    return 1\n\nclass A:", False) == "    return 1\n"
    assert task.ended("    return 1\n    pa", False) is None
    assert task.ended("    return 1", True) == "    return 1"
