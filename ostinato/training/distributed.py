"""Train in several processes, started by torchrun.

Every rank draws the whole global batch, its symmetries and the exploration from the same seeds, and
takes its contiguous part. Gradients are summed over ranks, and those of puzzle rows are gathered.
So weights stay equal everywhere without ever being sent.
"""

import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

BACKEND = "OSTINATO_BACKEND"
"""Environment variable that overrides the backend: gloo for the CPU, NCCL for CUDA by default."""
PATIENCE = timedelta(minutes=30)
"""Timeout after which a hung process counts as dead; a checkpoint that rank 0 writes meanwhile must
be done by then."""


def is_first_process() -> bool:
    """Return whether this is the main process of those torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class World:
    """This process among the `size` that train together; 0 of 1 without torchrun.

        with World.join() as world:
            ...

    If one fails, all end. The first to fail reports its error; the others exit quietly.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number of this process on its machine."""
    store: dist.Store | None = None
    """Key-value store where processes leave messages for each other without a collective call."""

    @classmethod
    def join(cls) -> "World":
        """Join the other processes that torchrun started, as its environment variables describe."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
        # Processes that torchrun restarts must not read the messages of the earlier ones
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        dist.init_process_group(
            os.environ.get(BACKEND, backend),
            timeout=PATIENCE,
            rank=rank,
            world_size=size,
            store=store,
        )
        return cls(rank, size, int(os.environ.get("LOCAL_RANK", "0")), store)

    def __enter__(self) -> "World":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.store is None:
            return
        if error is None:
            dist.destroy_process_group()
        elif isinstance(error, Exception):
            # Leave the group as it is: destroying it may wait for the others
            if not self.fails_first():
                raise SystemExit(1) from None
            get_error_handler().record_exception(error)  # for the summary that torchrun prints

    def fails_first(self) -> bool:
        """Record that this process fails, and return whether it is the first."""
        assert self.store is not None
        me = str(self.rank)
        try:
            return self.store.compare_set("failed", "", me) == me.encode()
        except dist.DistError:  # the machine that keeps the store is gone
            return True

    @property
    def is_main(self) -> bool:
        """Return whether this is the process that writes and prints."""
        return self.rank == 0

    def device(self, wanted: torch.device) -> torch.device:
        """Return `wanted`, or for CUDA the GPU of this process; ValueError if there is none."""
        if self.size == 1 or wanted.type == "cpu":
            return wanted
        if wanted.type != "cuda":
            raise ValueError(f"several processes cannot train on {wanted}: use --device cpu")
        if self.local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"process {self.local_rank} of this machine finds no GPU, as there are "
                f"{torch.cuda.device_count()}: lower --nproc-per-node"
            )
        device = torch.device("cuda", self.local_rank)
        torch.cuda.set_device(device)
        return device

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return `model`, or DDP around it, which averages gradients over ranks."""
        if self.size == 1:
            return model
        # Buffers are equal by construction; the puzzle table is too large to be sent at every step.
        # (`broadcast_buffers=False` says the same, but torch 2.13 warns of it.)
        buffers = [name for name, _ in model.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, buffers)
        devices = [device] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)

    def part(self, rows: Shaped[Tensor, "all ..."]) -> Shaped[Tensor, "mine ..."]:
        """Return this rank's contiguous share of rows that every rank holds."""
        assert len(rows) % self.size == 0
        return rows.chunk(self.size)[self.rank]

    def gather(self, rows: Shaped[Tensor, "mine ..."]) -> Shaped[Tensor, "all ..."]:
        """Return the rows of all ranks, in the order of ranks."""
        if self.size == 1:
            return rows
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    def collect(self, mine: T) -> list[T]:
        """Return what all ranks have, in their order, on rank 0; an empty list elsewhere."""
        if self.size == 1:
            return [mine]
        found = [mine] * self.size if self.is_main else None
        dist.gather_object(mine, found)
        return found or []

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all ranks (in place)."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def highest(self, value: int) -> int:
        """Return the largest value on any rank."""
        if self.size == 1:
            return value
        highest = torch.tensor(value)
        dist.all_reduce(highest, dist.ReduceOp.MAX)
        return int(highest)

    def ask_main(self, question: str, answer: Callable[[], T]) -> T:
        """Return the result of `answer`, which only rank 0 calls; ask each question only once.

        The others wait for as long as it takes: building a data set may take hours.
        """
        if self.store is None:
            return answer()
        if self.is_main:
            result = answer()
            self.store.set(question, pickle.dumps(result))  # pyright: ignore[reportArgumentType] bytes work too
            return result
        while not self.store.check([question]):
            if self.store.check(["failed"]):
                raise SystemExit(1)
            time.sleep(0.05)
        return pickle.loads(self.store.get(question))

    def check_same(self, what: str, find: Callable[[], object]) -> None:
        """Raise ValueError if `find` does not return the same on this rank as on rank 0."""
        if self.size == 1:
            return
        mine = find()
        if self.ask_main(what, lambda: mine) != mine:
            raise ValueError(
                f"process {self.rank} has other {what} than process 0: start all of them with the "
                "same command, and with folders that all machines share"
            )
