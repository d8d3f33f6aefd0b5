"""What `bench train` trains: puzzles or text, at random, and the operations that takes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ostinato.data.batches import Batch
from ostinato.models import NanoChat, RecursiveConfig, RecursiveModel
from ostinato.training import puzzles, text
from ostinato.training.config import AnyRecipe, Recipe, TextRecipe
from ostinato.training.distributed import World
from ostinato.training.memory import check_recipe
from ostinato.training.state import TrainState


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of matrix products, two for a multiplication with its addition."""

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
    """What its speed is counted in: "sample-step" or "token"."""
    units: int
    """How many of them a step is."""
    tokens: int
    """Positions of a puzzle, or of a window of text."""
    parameters: int
    flops: Flops
    """Of one unit."""
    step: Callable[[], object]
    """A training step of the whole batch, the update of the weights included."""


def subject_of(recipe: AnyRecipe, device: torch.device) -> Subject:
    """The model of `recipe` at the start of its training, on random tokens."""
    check_recipe(recipe, device)
    if isinstance(recipe, TextRecipe):
        return text_subject(recipe, device)
    return puzzle_subject(recipe, device)


def puzzle_subject(recipe: Recipe, device: torch.device) -> Subject:
    """A recursive model; a unit is a supervision step of a single puzzle."""
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
    """A language model; a unit is a token."""
    config, batch_size = recipe.model, recipe.training.global_batch_size
    state = text.TextState.start(recipe, device, World())
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
    """Batches of random tokens, endless."""
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
    """What one supervision step of one puzzle takes in training, without the optimiser.

    Counted while a twin of the model without data (on the "meta" device) makes the step.
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
    """A list that grows with every pass through a reasoning module or head without gradient."""
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
    """What one token of a window of full length takes in training, without the optimiser.

    Counted as for puzzles. Scores of attention are counted for the whole square of positions.
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
