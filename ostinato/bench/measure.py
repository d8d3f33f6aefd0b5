"""Measure time, memory and the machine's own speed.

The machine's speed is that of a large product of square matrices, in the dtype and on the device of
the run. It is measured between the repetitions of training. Other load on the machine then slows
both, and their ratio hardly changes.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

PEAK_SECONDS = 0.5
"""Shortest time that each measurement of the machine's speed takes."""
SMALLEST_SQUARE = 128
SQUARE = {"cpu": 2048, "cuda": 8192}
"""Largest side of the square matrices for each type of device; 4096 for the others."""


@dataclass(frozen=True)
class Spread:
    """The median, minimum and maximum of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def measure_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Return the floating-point operations per second of a large square product.

    The matrices are doubled as long as the next product should take less than `PEAK_SECONDS`. So
    the measurement does not take longer on a machine that is slow in `dtype`.
    """
    generator = torch.Generator(device).manual_seed(0)
    largest = SQUARE.get(device.type, 4096)
    side = min(SMALLEST_SQUARE, largest)
    while True:
        left, right = (
            torch.randn(side, side, generator=generator, dtype=dtype, device=device)
            for _ in range(2)
        )
        multiply = partial(torch.mm, left, right)
        seconds_of(multiply, device)
        once = seconds_of(multiply, device)
        if side >= largest or 8 * once > PEAK_SECONDS:
            break
        side *= 2
    count, seconds = 1, once
    while seconds < PEAK_SECONDS:
        seconds += seconds_of(multiply, device)
        count += 1
    return 2 * side**3 * count / seconds


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return how long `work` takes, up to the end of its last kernel."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queued work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Return peak bytes: on CUDA the most that was allocated, else the most the process has
    held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
