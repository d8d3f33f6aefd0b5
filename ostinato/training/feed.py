"""Feed puzzles to slots.

"aligned", as in TRM and HRM: the rows of the slots that have halted are used from every batch, and
the others are thrown away. "stream": the rows are handed out one after the other to whichever slot
needs one, so that no example is left out.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from ostinato.data.batches import Batch
from ostinato.training.distributed import World

Refill = Literal["aligned", "stream"]

BATCHES_HELD = 32
"""Number of batches that a stream holds. Counting what is left forces a device sync, so it happens
about once per this many steps."""


class AlignedFeed:
    """Hand out one global batch after the other, whatever the slots use of it."""

    taken = 0
    """Always 0: nothing is carried over from batch to batch."""

    def __init__(self, batches: Iterator[Batch], device: torch.device):
        self.batches, self.device = batches, device

    def next(self, halted: Bool[Tensor, " mine"]) -> Batch:
        """Return the global batch, whose rows are for the slots of the same places."""
        return to_device(next(self.batches), self.device)


class StreamFeed:
    """Hand out the rows of all batches in order, to halted slots in the order of their places.

    The only device sync is the count of what is left, when it might be less than a batch. A resumed
    run needs only `taken` to continue.
    """

    def __init__(
        self, batches: Iterator[Batch], world: World, device: torch.device, taken: int = 0
    ):
        """Start with `batches`, whose first batch holds row `taken` of all rows."""
        self.batches, self.world, self.device = batches, world, device
        first = next(batches)
        self.size = len(first.inputs)
        self.rows = to_device(first, device)
        self.skipped = taken - taken % self.size
        """Number of rows in the batches before those held."""
        self.place = torch.tensor(taken % self.size, device=device)
        """Index of the next row among those held."""
        self.left = self.size - taken % self.size
        """Lower bound on the rows that are left."""

    def next(self, halted: Bool[Tensor, " mine"]) -> Batch:
        """Return a global batch with new rows at the places of halted slots; ignore its other
        rows."""
        halted = self.world.gather(halted)
        if self.left < self.size:
            self.fill_up()
        order = halted.cumsum(0)
        chosen = self.place + (order - 1).clamp(min=0)
        self.place = self.place + order[-1]
        self.left -= self.size
        return Batch(*(tensor[chosen] for tensor in self.rows))

    def fill_up(self) -> None:
        """Drop the rows that were handed out, and read batches until `BATCHES_HELD` are held."""
        place = int(self.place)
        held = len(self.rows.inputs)
        missing = max(1, BATCHES_HELD - -(-(held - place) // self.size))
        fresh = [to_device(b, self.device) for b in islice(self.batches, missing)]
        kept = [tensor[place:] for tensor in self.rows]
        self.rows = Batch(*(torch.cat(parts) for parts in zip(kept, *fresh, strict=True)))
        self.skipped += place
        self.place = torch.zeros_like(self.place)
        self.left = len(self.rows.inputs)

    @property
    def taken(self) -> int:
        """Return the number of rows handed out since the beginning of training."""
        return self.skipped + int(self.place)


Feed = AlignedFeed | StreamFeed


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return `batch` on `device`; a copy to CUDA does not make the CPU wait."""
    if device.type == "cuda":
        batch = Batch(*(tensor.pin_memory() for tensor in batch))
    return Batch(*(tensor.to(device, non_blocking=True) for tensor in batch))
