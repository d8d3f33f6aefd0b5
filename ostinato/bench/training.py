"""How fast a recipe trains, and what share of the machine's own speed that is."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ostinato.bench.measure import Spread, measure_peak, peak_memory, seconds_of
from ostinato.bench.subjects import Flops, subject_of
from ostinato.training.config import AnyRecipe, with_dtypes

WARM_UP_STEPS = 2
"""Steps before anything is measured: the first compiles, and fills the allocator."""


@dataclass(frozen=True)
class TrainingSpeed:
    """The result of `bench_training`."""

    recipe: str
    device: str
    dtype: str
    threads: int
    """Of the CPU."""
    compiled: bool
    parameters: int
    batch_size: int
    """Puzzles, or windows of text, a step."""
    tokens: int
    """Positions of one of them; of a puzzle, prefix and grid."""
    steps: int
    """Training steps of a repetition."""
    repetitions: int
    warm_up_seconds: float
    """What the first steps took, compilation included."""
    seconds_per_step: Spread
    unit: str
    """What is counted: "sample-step", a supervision step of a single puzzle, or "token"."""
    units_per_second: Spread
    flops_per_unit: Flops
    flops_per_second: Spread
    peak_flops_per_second: Spread
    """Of the large square product."""
    share_of_peak: Spread
    peak_memory_bytes: int
    """CUDA: the most that was allocated; else the most that this process has ever held."""


def bench_training(
    recipe: AnyRecipe,
    device: torch.device,
    steps: int = 5,
    repetitions: int = 5,
    report: Callable[[str], None] = print,
) -> TrainingSpeed:
    """Train on random tokens: reading data is no part of it, the optimiser is.

    The product of large matrices is timed before each repetition of `steps` training steps.
    """
    for name, value in (("steps", steps), ("repeat", repetitions)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    recipe = with_dtypes(recipe, device)
    config = recipe.model
    subject = subject_of(recipe, device)

    def train(count: int) -> None:
        for _ in range(count):
            subject.step()

    report(f"warming up {recipe.name} on {device}")
    warm_up_seconds = seconds_of(lambda: train(WARM_UP_STEPS), device)
    measure_peak(config.dtype, device)
    step_seconds, speeds, peaks, memory = [], [], [], []
    for number in range(1, repetitions + 1):
        peaks.append(measure_peak(config.dtype, device))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        step_seconds.append(seconds_of(lambda: train(steps), device) / steps)
        memory.append(peak_memory(device))
        units_per_second = subject.units / step_seconds[-1]
        speeds.append(subject.flops.total * units_per_second)
        report(
            f"{number} of {repetitions}: {units_per_second:,.4g} {subject.unit}s/s, "
            f"{speeds[-1] / peaks[-1]:.0%} of peak"
        )
    return TrainingSpeed(
        recipe=recipe.name,
        device=str(device),
        dtype=config.forward_dtype,
        threads=torch.get_num_threads(),
        compiled=recipe.training.compile,
        parameters=subject.parameters,
        batch_size=recipe.training.global_batch_size,
        tokens=subject.tokens,
        steps=steps,
        repetitions=repetitions,
        warm_up_seconds=warm_up_seconds,
        seconds_per_step=Spread.of(step_seconds),
        unit=subject.unit,
        units_per_second=Spread.of([subject.units / seconds for seconds in step_seconds]),
        flops_per_unit=subject.flops,
        flops_per_second=Spread.of(speeds),
        peak_flops_per_second=Spread.of(peaks),
        share_of_peak=Spread.of([s / p for s, p in zip(speeds, peaks, strict=True)]),
        peak_memory_bytes=max(memory),
    )
