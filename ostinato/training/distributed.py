"""Several processes, started by torchrun: who am I, and what do the others have?"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process among the `size` that train together; 0 of 1 without torchrun."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def join(cls, device_type: str) -> "World":
        """Meet the other processes that torchrun started (its environment variables say how)."""
        if "RANK" not in os.environ:
            return cls()
        backend = "nccl" if device_type == "cuda" else "gloo"
        if not dist.is_initialized():
            dist.init_process_group(backend)
        return cls(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", 0)))

    def leave(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def part(self, rows: Shaped[Tensor, "all ..."]) -> Shaped[Tensor, "mine ..."]:
        """This rank's contiguous share of rows that every rank holds."""
        assert len(rows) % self.size == 0
        return rows.chunk(self.size)[self.rank]

    def gather(self, rows: Shaped[Tensor, "mine ..."]) -> Shaped[Tensor, "all ..."]:
        """The rows of all ranks, in the order of ranks."""
        if self.size == 1:
            return rows
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks (in place)."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def agree(self, value: bool) -> bool:
        """True on every rank if it is true on any."""
        if self.size == 1:
            return value
        flag = torch.tensor(float(value))
        if dist.get_backend() == "nccl":
            flag = flag.cuda(self.local_rank)
        return bool(self.sum(flag) > 0)

    def main_first(self, make: Callable[[], object]) -> None:
        """Run `make` on rank 0 while the others wait."""
        if self.is_main:
            make()
        if self.size > 1:
            dist.barrier()
