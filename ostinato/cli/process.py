"""Set up the process around a verb: its streams, its signals, and its error messages."""

import errno
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any

from ostinato.files import Notice, remedy

STREAMS = {"stdin": "surrogateescape", "stdout": "backslashreplace", "stderr": "backslashreplace"}
"""Stream → handler of text that its encoding cannot represent."""

OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory", re.IGNORECASE)
"""PyTorch's messages for lack of memory, in a RuntimeError."""


OF_OUTPUT = (errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EBADF)
"""Errors that, without a path, come from standard output: errors of our files have a path."""


SPINS = 1000
"""How often a waiting thread of GNU OpenMP looks before it sleeps: some 50 µs (else 15 ms)."""


def let_threads_rest() -> None:
    """Let a thread that waits for another of PyTorch's sleep soon, so that the other gets its core.

    At the end of every operator its threads wait for the last one, by looking again and again for
    some 15 ms. Beside another busy program that keeps the core from the very thread that is waited
    for. Takes effect only before PyTorch is imported; what the environment says is kept.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys() and "torch" not in sys.modules:
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def prepare_streams() -> None:
    """Let the standard streams carry any text; ValueError if standard output is closed."""
    closed = [name for name in STREAMS if getattr(sys, name) is None]
    for name in closed:  # else the next file that is opened takes its place
        file = os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w")
        setattr(sys, name, file)
    if "stdout" in closed:
        raise ValueError("standard output is closed: send it to a file or to /dev/null")
    for name, errors in STREAMS.items():
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)


@contextmanager
def short_notices() -> Iterator[None]:
    """Print a notice as one line on standard error; show other warnings as Python does."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, Notice):
                print(f"ostinato: {message}", file=sys.stderr)
            else:
                shown(message, category, *place)

        warnings.showwarning = show
        yield


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit, so that half-written files are removed.

    Processes of torchrun die at once instead: they may be waiting for each other.
    """
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    if not alone or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def in_one_line(error: Exception) -> str | None:
    """Return a user's mistake in one line, with the remedy; None if the fault is ours."""
    text = " ".join(str(error).split())
    match error:
        case UnicodeError():
            return f"a text is not in UTF-8 ({text}): convert it"
        case ValueError():
            return text
        case OSError():
            place = error.filename or ("standard output" if error.errno in OF_OUTPUT else "")
            prefix = f"{os.fsdecode(place)}: " if place else ""
            return f"{prefix}{error.strerror or text}: {remedy(error)}"
        case MemoryError():
            return f"not enough memory ({text}): choose a smaller model or batch"
        case RuntimeError() if OUT_OF_MEMORY.search(text):
            return f"not enough memory ({text}): choose a smaller model or batch"
        case RuntimeError() if "InvalidCxxCompiler" in text or "No working C++ compiler" in text:
            return "there is no C++ compiler: install one, such as g++, or leave out --compile"
    return None


def fail(fault: str) -> SystemExit:
    """Print an error in one line."""
    with suppress(OSError):  # nobody can be told
        print(f"ostinato: {' '.join(fault.split())}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()
    return SystemExit(2)


def discard_output() -> None:
    """Discard further output, because Python flushes once more at exit and would fail again."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
