"""Measure how fast a recipe trains, absolutely and as a share of the machine's own speed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ostinato.bench.measure import Spread, measure_peak, peak_memory, seconds_of
from ostinato.data.batches import Batch
from ostinato.models import NanoChat, RecursiveConfig, RecursiveModel
from ostinato.training import puzzles, text
from ostinato.training.config import AnyRecipe, PromptRecipe, Recipe, TextRecipe, with_dtypes
from ostinato.training.distributed import World
from ostinato.training.memory import check_recipe
from ostinato.training.state import TrainState
from ostinato.training.text_state import TextState

WARM_UP_STEPS = 2
"""Warm-up steps before the measurement: the first one compiles, and they fill the allocator."""


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of matrix products; a multiplication with its addition counts as
    two."""

    forward_without_gradient: int
    forward_with_gradient: int
    backward: int

    @property
    def total(self) -> int:
        return self.forward_without_gradient + self.forward_with_gradient + self.backward


@dataclass(frozen=True)
class Subject:
    """A model in training."""

    unit: str
    """Unit of its speed: "sample-step" or "token"."""
    units: int
    """Units in a step."""
    tokens: int
    """Positions of a puzzle, or of a window of text."""
    parameters: int
    flops: Flops
    """Floating-point operations of one unit."""
    step: Callable[[], object]
    """Run a training step of the whole batch, including the update of the weights."""


def subject_of(recipe: AnyRecipe, device: torch.device) -> Subject:
    """Return the model of `recipe` at the start of its training, on random tokens."""
    check_recipe(recipe, device)
    if isinstance(recipe, PromptRecipe):
        raise ValueError(
            f"{recipe.name} learns from its own samples, whose speed is in RUN/metrics.jsonl: "
            "name another recipe"
        )
    if isinstance(recipe, TextRecipe):
        return text_subject(recipe, device)
    return puzzle_subject(recipe, device)


def puzzle_subject(recipe: Recipe, device: torch.device) -> Subject:
    """Return a recursive model; a unit is a supervision step of a single puzzle."""
    config, batch_size = recipe.model, recipe.training.global_batch_size
    state = TrainState.start(recipe, device, World())
    batches = random_batches(config, batch_size, device)
    return Subject(
        unit="sample-step",
        units=batch_size,
        tokens=config.prefix_len + config.seq_len,
        parameters=sum(p.numel() for p in state.model.parameters()),
        flops=puzzle_flops(state.model),
        step=lambda: puzzles.train_step(state, recipe, next(batches)),
    )


def text_subject(recipe: TextRecipe, device: torch.device) -> Subject:
    """Return a language model; a unit is a token."""
    config, batch_size = recipe.model, recipe.training.global_batch_size
    state = TextState.start(recipe, device, World())
    windows = torch.randint(
        config.vocab_size,
        (batch_size, config.seq_len + 1),
        generator=torch.Generator().manual_seed(0),
    ).to(device)
    return Subject(
        unit="token",
        units=batch_size * config.seq_len,
        tokens=config.seq_len,
        parameters=sum(p.numel() for p in state.model.parameters()),
        flops=text_flops(state.model),
        step=lambda: text.train_step(state, recipe, windows),
    )


def random_batches(
    config: RecursiveConfig, batch_size: int, device: torch.device
) -> Iterator[Batch]:
    """Yield batches of random tokens, endlessly."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, config.seq_len)

    def draw(end: int, *shape: int) -> Tensor:
        numbers = torch.randint(end, shape, generator=generator, dtype=torch.int32)
        return numbers.to(device, non_blocking=True)

    while True:
        yield Batch(
            inputs=draw(config.vocab_size, *shape),
            labels=draw(config.vocab_size, *shape),
            puzzle_ids=draw(config.num_puzzle_identifiers, batch_size),
        )


def puzzle_flops(model: RecursiveModel) -> Flops:
    """Return the operations of one supervision step of one puzzle in training, without the
    optimiser.

    They are counted while a twin of the model without data (on the "meta" device) makes the step.
    """
    config = model.config
    with torch.device("meta"):
        twin = type(model)(config)
        inputs = torch.zeros(1, config.seq_len, dtype=torch.int32)
        ids = torch.zeros(1, dtype=torch.int32)
    rows = twin.puzzle_emb and twin.puzzle_emb.copy_rows(ids)
    with FlopCounterMode(display=False) as counter:
        without = flops_without_gradient(twin, counter)
        state, output = twin(twin.initial_state(1), inputs, ids, rows)
        if not config.no_ACT_continue:
            with torch.no_grad():
                twin(state, inputs, ids, rows)
        forward = counter.get_total_flops()
        (output.logits.sum() + output.q_halt.sum()).backward()
        backward = counter.get_total_flops() - forward
    return Flops(sum(without), forward - sum(without), backward)


def flops_without_gradient(model: RecursiveModel, counter: FlopCounterMode) -> list[int]:
    """Return a list that grows with every pass through a reasoning module or head without
    gradient."""
    before: list[int] = []
    found: list[int] = []

    def enter(module: nn.Module, arguments: object) -> None:
        before.append(counter.get_total_flops())

    def leave(module: nn.Module, arguments: object, output: object) -> None:
        passed = counter.get_total_flops() - before.pop()
        if not torch.is_grad_enabled():
            found.append(passed)

    for module in (*model.reasoning_modules(), model.lm_head, model.q_head):
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    return found


def text_flops(model: NanoChat) -> Flops:
    """Return the operations of one token of a full-length window in training, without the
    optimiser.

    They are counted as for puzzles. Attention scores are counted for the whole square of positions.
    """
    config = model.config
    with torch.device("meta"):
        twin = NanoChat(config)
        tokens = torch.zeros(1, config.seq_len, dtype=torch.int32)
    with FlopCounterMode(display=False) as counter:
        logits = twin(tokens)
        forward = counter.get_total_flops()
        logits.sum().backward()
        backward = counter.get_total_flops() - forward
    return Flops(0, forward // config.seq_len, backward // config.seq_len)


@dataclass(frozen=True)
class TrainingSpeed:
    """The result of `bench_training`."""

    recipe: str
    device: str
    dtype: str
    threads: int
    """CPU threads."""
    compiled: bool
    parameters: int
    batch_size: int
    """Puzzles, or windows of text, per step."""
    tokens: int
    """Positions of one puzzle (prefix and grid) or of one window of text."""
    steps: int
    """Training steps of a repetition."""
    repetitions: int
    warm_up_seconds: float
    """Seconds that the warm-up steps took, including compilation."""
    seconds_per_step: Spread
    unit: str
    """Unit that is counted: "sample-step", a supervision step of a single puzzle, or "token"."""
    units_per_second: Spread
    flops_per_unit: Flops
    flops_per_second: Spread
    peak_flops_per_second: Spread
    """Floating-point operations per second of the large square product."""
    share_of_peak: Spread
    peak_memory_bytes: int
    """Peak memory: on CUDA the most that was allocated, else the most that this process has ever
    held."""


def bench_training(
    recipe: AnyRecipe,
    device: torch.device,
    steps: int = 5,
    repetitions: int = 5,
    report: Callable[[str], None] = print,
) -> TrainingSpeed:
    """Train on random tokens; the time includes the optimiser but not reading data.

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
