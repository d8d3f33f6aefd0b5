"""The first process of a sandbox: it limits itself, runs a program in a child, and ends with it.

It is given to another Python as text, and so imports nothing but the standard library.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

CLONE_NEWUSER = 0x10000000


def main() -> None:
    """Run the program that standard input describes, and end after the time limit."""
    order = json.load(sys.stdin)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    # The first process of a namespace ignores signals that it does not handle
    signal.signal(signal.SIGALRM, lambda *_: end(order))
    signal.alarm(order["seconds"])
    child = os.fork()
    if not child:
        run(order)
    while os.wait()[0] != child:
        pass  # a grandchild whose parent has gone
    end(order)


def end(order: dict[str, Any]) -> None:
    """End this process, and the namespace with it; without one, the process group."""
    if not order["apart"]:
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def run(order: dict[str, Any]) -> None:
    """Run the program within its limits, say the word if it came to its end, and leave."""
    said, me = os.dup(1), os.getpid()
    os.dup2(0, 1)
    for kind, limit in (
        (resource.RLIMIT_CPU, order["seconds"]),
        (resource.RLIMIT_AS, order["memory"]),
        (resource.RLIMIT_FSIZE, order["file_size"]),
        (resource.RLIMIT_NOFILE, order["open_files"]),
        (resource.RLIMIT_NPROC, order["processes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    # Another user namespace: without rights over those around it
    if order["apart"] and ctypes.CDLL(None).unshare(CLONE_NEWUSER):
        os._exit(1)
    try:
        scope = {"__name__": "program"}
        exec(compile(order["program"], "program", "exec"), scope)
        if os.getpid() == me:  # and no child of the program's
            os.write(said, order["word"].encode())
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
