"""Where slots get their puzzles from.

"aligned", as in the originals: of every batch, the rows of the slots that have halted are used and
the others thrown away. "stream": the rows are handed out one after the other to whichever slot
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
"""How many batches a stream holds. To know how many of them are left it has to wait for the device,
once in about so many steps."""


class AlignedFeed:
    """One global batch after the other, whatever slots make of it."""

    taken = 0
    """Nothing is carried over from batch to batch."""

    def __init__(self, batches: Iterator[Batch], device: torch.device):
        self.batches, self.device = batches, device

    def next(self, halted: Bool[Tensor, " mine"]) -> Batch:
        """The global batch whose rows are for the slots of the same places."""
        return to_device(next(self.batches), self.device)


class StreamFeed:
    """Hands the rows of all batches out in order, to halted slots in the order of their places.

    Nothing waits for the device but the count of what is left, when less than a batch might be.
    `taken` is all that a resumed run needs to go on.
    """

    def __init__(
        self, batches: Iterator[Batch], world: World, device: torch.device, taken: int = 0
    ):
        """`batches` begins with the one that holds row `taken` of all rows."""
        self.batches, self.world, self.device = batches, world, device
        first = next(batches)
        self.size = len(first.inputs)
        self.rows = to_device(first, device)
        self.skipped = taken - taken % self.size
        """Rows of the batches before those held."""
        self.place = torch.tensor(taken % self.size, device=device)
        """Where the next row is among those held."""
        self.left = self.size - taken % self.size
        """Rows that are left at least."""

    def next(self, halted: Bool[Tensor, " mine"]) -> Batch:
        """A global batch with new rows at the places of halted slots; the others mean nothing."""
        halted = self.world.gather(halted)
        if self.left < self.size:
            self.fill_up()
        order = halted.cumsum(0)
        chosen = self.place + (order - 1).clamp(min=0)
        self.place = self.place + order[-1]
        self.left -= self.size
        return Batch(*(tensor[chosen] for tensor in self.rows))

    def fill_up(self) -> None:
        """Drop the rows that were handed out, and read batches until `BATCHES_HELD` are there."""
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
        """Rows handed out since the beginning of training."""
        return self.skipped + int(self.place)


Feed = AlignedFeed | StreamFeed


def to_device(batch: Batch, device: torch.device) -> Batch:
    """`batch` on `device`; a copy to CUDA does not make the CPU wait."""
    if device.type == "cuda":
        batch = Batch(*(tensor.pin_memory() for tensor in batch))
    return Batch(*(tensor.to(device, non_blocking=True) for tensor in batch))
