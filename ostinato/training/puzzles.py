"""Train the recursive models, TRM and HRM.

One supervision step of every slot, one backward, one update; the slots persist (see `slots.py`).
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ostinato.data.batches import Batch, training_batches
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.tasks import find_task
from ostinato.evaluation.puzzles import evaluate
from ostinato.files import write_json
from ostinato.layers import REPLACE, Relaxation
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.distributed import World
from ostinato.training.feed import AlignedFeed, Feed, StreamFeed
from ostinato.training.loop import Loop, Outcome, Work
from ostinato.training.losses import act_loss
from ostinato.training.run_folder import RunFolder
from ostinato.training.schedule import cycles_at
from ostinato.training.slots import Slots, draw_minimum_steps, target_q_continue
from ostinato.training.state import TrainState
from ostinato.weights.save import save_weights


def prepare(recipe: Recipe, folder: RunFolder, root: Path, report: Callable[[str], None]) -> Path:
    """Build the recipe's data below `root`."""
    return recipe.data.prepare(root, report)


def load_split(data: Path, split: str) -> PuzzleSet:
    """Return a split of the data set in the folder `data`."""
    return PuzzleSet.load(data, split)


def check_fits(recipe: Recipe, puzzles: PuzzleSet, data: Path) -> None:
    """Raise ValueError if the model's shape is not that of the data."""
    for name in ("vocab_size", "seq_len", "num_puzzle_identifiers"):
        wanted, given = getattr(puzzles.metadata, name), getattr(recipe.model, name)
        if wanted > given or (name == "seq_len" and wanted != given):
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{data} has {name} {wanted}, the model {given}: use {flag} {wanted}")


def describe(recipe: Recipe, train_set: PuzzleSet, validation_set: PuzzleSet) -> str:
    """Return a description of the training that is about to start."""
    return (
        f"{len(train_set):,} training and {len(validation_set):,} validation examples, "
        f"{recipe.training.total_steps:,} steps of {recipe.training.global_batch_size} slots"
    )


def train(
    recipe: Recipe,
    folder: RunFolder,
    train_set: PuzzleSet,
    validation_set: PuzzleSet,
    device: torch.device,
    world: World,
    checkpoint: dict | None = None,
    time_limit: float | None = None,
) -> Outcome:
    """Train from the start, or resume from `checkpoint`, until done, signalled or out of time.

    However it ends, the run folder holds a checkpoint from which the same call resumes.
    `time_limit` is in seconds. Raises TrainingError if the loss is no longer finite.
    """
    loop = Loop(recipe, folder, world, time_limit)
    state = TrainState.start(recipe, device, world, resumed=checkpoint is not None)
    if checkpoint is not None:
        state.restore(checkpoint)
    taken = 0 if checkpoint is None else checkpoint["taken"]
    feed = make_feed(train_set, recipe.training, world, device, state.step, taken)
    work = PuzzleWork(recipe, folder, train_set, validation_set, state, feed)
    return loop.run(work, checkpoint)


class PuzzleWork(Work):
    """The part of the training loop that is specific to puzzle models."""

    unit = "examples"
    shown = ("train/lm_loss", "train/halted_exact_accuracy", "validation/exact_accuracy")

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        train_set: PuzzleSet,
        validation_set: PuzzleSet,
        state: TrainState,
        feed: Feed,
    ):
        self.recipe, self.folder, self.feed = recipe, folder, feed
        self.state: TrainState = state
        self.train_set, self.validation_set = train_set, validation_set
        self.units_per_step = recipe.training.global_batch_size
        self.augmented = find_task(train_set.metadata.task) if recipe.data.augment else None

    def update(self, time_used: float) -> dict[str, Tensor]:
        batch = self.feed.next(self.state.slots.halted)
        if self.augmented:
            inputs, labels = self.augmented.augment(
                batch.inputs, batch.labels, self.state.symmetries
            )
            batch = Batch(inputs, labels, batch.puzzle_ids)
        batch = Batch(*(self.state.world.part(tensor) for tensor in batch))
        return train_step(self.state, self.recipe, batch, time_used)

    def means(self, sums: dict[str, Tensor]) -> dict[str, float]:
        means = mean_metrics(sums, self.state.world)
        return {**means, "lr": self.state.optimizers[-1].param_groups[0]["lr"]}

    def validate(self) -> dict[str, float]:
        return validate(self.state, self.recipe, self.folder, self.validation_set)

    def tree(self) -> dict[str, Any]:
        data = self.train_set.fingerprint
        return {**self.state.tree(), "taken": self.feed.taken, "data": data}

    def best_in_words(self) -> str:
        return f"best exact accuracy on validation {self.state.best:.1%}"


def make_feed(
    train_set: PuzzleSet,
    config: TrainingConfig,
    world: World,
    device: torch.device,
    step: int,
    taken: int,
) -> Feed:
    """Return the feed that continues after `step` batches, or after `taken` rows of a stream."""
    size = config.global_batch_size
    start = step if config.refill == "aligned" else taken // size
    batches = training_batches(train_set, size, config.seed, start)
    if config.refill == "aligned":
        return AlignedFeed(batches, device)
    return StreamFeed(batches, world, device, taken)


def train_step(
    state: TrainState, recipe: Recipe, batch: Batch, time_used: float = 0.0
) -> dict[str, Tensor]:
    """Take one supervision step of every slot, update the weights, and return summed metrics.

    `time_used` is the share of the run's time that is over, if the learning rate depends on it.
    """
    config, world = recipe.training, state.world
    state.set_learning_rate(config.schedule(state.step + 1, time_used))
    progress = max(state.step / config.total_steps, time_used)
    state.model.training_cycles = cycles_at(progress, config.depth_curriculum, recipe.model.cycles)

    slots = state.slots.refill(batch, state.initial_state())
    table = state.model.puzzle_emb
    rows = None if table is None else table.copy_rows(slots.puzzle_ids)
    minimum = world.part(
        draw_minimum_steps(
            config.global_batch_size,
            recipe.model.halt_max_steps,
            config.halt_exploration_prob,
            state.exploration,
        )
    )
    size = config.micro_batch_size(world.size)
    parts = slots.split(size)
    sums: dict[str, Tensor] = {}
    for number, part in enumerate(parts):
        here = slice(number * size, (number + 1) * size)
        with state.exchange(last=number == len(parts) - 1):
            parts[number], loss, metrics = supervision_step(
                state,
                config,
                part,
                None if rows is None else rows[here],
                minimum[here],
                state.model.relaxation(state.generator(number + 1)),
            )
            # DDP takes the mean over ranks, but the sum is wanted
            (loss * (world.size / config.global_batch_size)).backward()
        sums = {k: sums[k] + v for k, v in metrics.items()} if sums else metrics
    slots = Slots.join(parts)
    if config.grad_clip:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.grad_clip)

    for optimizer in state.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if state.sparse is not None:
        assert rows is not None and rows.grad is not None
        gradients = rows.grad / world.size
        state.sparse.step(world.gather(slots.puzzle_ids), world.gather(gradients))
    if state.ema is not None:
        state.ema.update()
    state.end_turn(slots)
    state.step += 1
    return sums


def supervision_step(
    state: TrainState,
    config: TrainingConfig,
    slots: Slots,
    rows: Float[Tensor, "batch ndim"] | None,
    minimum_steps: Int[Tensor, " batch"],
    relax: Relaxation = REPLACE,
) -> tuple[Slots, Float[Tensor, ""], dict[str, Tensor]]:
    """Take one more step; return the slots, the loss (a sum over them) and metrics (sums too).

    `rows` are copies of their puzzle rows, which take the gradient of these.
    """
    model = state.model.config
    thought, output = state.wrapped(slots.state, slots.inputs, slots.puzzle_ids, rows, relax=relax)
    slots = slots.advance(thought, output, model, minimum_steps)
    target = None
    if not model.no_ACT_continue:
        with torch.no_grad():
            _, following = state.model(thought, slots.inputs, slots.puzzle_ids, rows, relax=relax)
        target = target_q_continue(following, slots.steps, model.halt_max_steps)
    loss, metrics = act_loss(
        output, slots, config.loss_type, target, config.label_smoothing, config.q_weight
    )
    examples = loss.new_full((), len(slots.steps))  # new_tensor() would wait for the device
    return slots, loss, {"loss": loss.detach(), "examples": examples, **metrics}


def mean_metrics(sums: dict[str, Tensor], world: World) -> dict[str, float]:
    """Turn metrics summed over steps and slots into means over examples, or over halted slots."""
    names = sorted(sums)
    total = world.sum(torch.stack([sums[name].to(torch.float32) for name in names])).tolist()
    values = dict(zip(names, total, strict=True))
    examples, halted = values.pop("examples"), values.pop("halted_count")
    means = {}
    for name, value in values.items():
        if not name.startswith("halted_"):
            means[f"train/{name}"] = value / examples
        elif halted:
            means[f"train/{name}"] = value / halted
    return {**means, "train/halted_share": halted / examples}


def validate(
    state: TrainState,
    recipe: Recipe,
    folder: RunFolder,
    validation_set: PuzzleSet,
) -> dict[str, float]:
    """Score the averaged weights on the validation split and keep them if none were better yet."""
    config, world, device = recipe.training, state.world, state.model.H_init.device
    state.model.eval()
    with state.ema.applied() if state.ema else nullcontext():
        result = evaluate(
            state.model,
            validation_set,
            config.eval_batch_size,
            rank=world.rank,
            world_size=world.size,
            sum_over_ranks=world.sum,
        )
        if world.is_main and result.exact_accuracy >= state.best:
            score = {"puzzles": result.puzzles, "exact_accuracy": result.exact_accuracy}
            notes = {"recipe": recipe.name, "step": state.step, "validation": score}
            save_weights(folder.model, state.model, **notes)
            place = {"model": str(folder.path), "split": "validation", "device": str(device)}
            write_json(folder.result, {**place, **notes, **result.to_json()})
    state.best = max(state.best, result.exact_accuracy)
    state.model.train()
    return {
        "validation/exact_accuracy": result.exact_accuracy,
        "validation/cell_accuracy": result.cell_accuracy,
        **{f"validation/{name}": score.share for name, score in result.scores.items()},
    }
