"""Several processes that find each other as those of torchrun do."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

CONTEXT = multiprocessing.get_context("forkserver")
"""Processes come from one without threads: a fork of one that has some can hang."""
CONTEXT.set_forkserver_preload(["pytest", "torch._dynamo", "ostinato.training.run"])


def in_processes(size: int, work: Callable[..., object], *arguments: object) -> list[Any]:
    """Return what `work(*arguments)` gives in each of `size` processes that can `World.join`."""
    with tempfile.TemporaryDirectory() as folder:
        codes = exit_codes(size, store_result, Path(folder), work, *arguments)
        assert not any(codes), f"exit codes {codes}: see what was written on standard error"
        return [torch.load(Path(folder) / str(rank), weights_only=False) for rank in range(size)]


def store_result(folder: Path, work: Callable[..., object], *arguments: object) -> None:
    """Store a result where `in_processes` finds it."""
    torch.save(work(*arguments), folder / os.environ["RANK"])


def exit_codes(size: int, work: Callable[..., object], *arguments: object) -> list[int | None]:
    """Let `size` processes call `work(*arguments)`, and wait for them."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = [
        CONTEXT.Process(target=one_process, args=(rank, size, store.port, work, arguments))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def one_process(rank: int, size: int, port: int, work: Any, arguments: Any) -> None:
    """Have the environment that torchrun gives, and work."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in place.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", TORCHELASTIC_USE_AGENT_STORE="True")
    work(*arguments)


def how_it_ends(act: Callable[..., object], *arguments: object) -> str:
    """The error with which `act(*arguments)` ends, or "well"."""
    try:
        act(*arguments)
    except (ValueError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    except SystemExit as end:
        return f"exit {end.code}"
    return "well"
