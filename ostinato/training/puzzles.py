"""The training loop of the recursive models.

One supervision step of every slot, one backward, one update; the slots persist (see `slots.py`).
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ostinato.data.batches import Batch, training_batches
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.tasks import TASKS
from ostinato.evaluation.puzzles import evaluate
from ostinato.models.pretrained import save_weights
from ostinato.training.checkpoint import Checkpoints
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.distributed import World
from ostinato.training.feed import AlignedFeed, Feed, StreamFeed
from ostinato.training.losses import act_loss
from ostinato.training.run_folder import RunFolder, atomic, write_json
from ostinato.training.slots import draw_minimum_steps, target_q_continue
from ostinato.training.state import TrainState
from ostinato.training.tracking import Silent, Tracker

SHOWN = ("train/lm_loss", "train/halted_exact_accuracy", "validation/exact_accuracy")
"""Metrics beside the progress bar."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message is for the user, the last checkpoint is still good."""


@dataclass(frozen=True)
class Outcome:
    """How a session of training ended."""

    step: int
    finished: bool
    reason: str
    """Why it ended before `total_steps`: a signal, the time limit; empty if it did not."""
    best: float
    """Best exact accuracy on validation so far."""


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
    """Train from the start, or on from `checkpoint`, until done, signalled or out of time.

    Whatever ends it, the run folder holds a checkpoint from which the same call goes on.
    `time_limit` is in seconds. Raises TrainingError if the loss is no longer finite.
    """
    config = recipe.training
    by_time = time_limit is not None and config.decay_by == "time"
    deadline = math.inf if time_limit is None or by_time else time.monotonic() + time_limit
    state = TrainState.start(recipe, device, world, resumed=checkpoint is not None)
    if checkpoint is not None:
        state.restore(checkpoint)
    world.check_same("weights", state.checksums)
    checkpoints = Checkpoints(folder.checkpoints, config.keep_checkpoints)
    taken = 0 if checkpoint is None else checkpoint["taken"]
    feed = make_feed(train_set, config, world, device, state.step, taken)
    augmented = recipe.data.augment and TASKS.get(train_set.metadata.task)
    sums: dict[str, Tensor] = {}

    def save() -> None:
        tree = {**state.tree(), "taken": feed.taken, "data": train_set.fingerprint}
        if world.is_main:
            checkpoints.save(state.step, tree)

    def log() -> None:
        nonlocal sums
        means = mean_metrics(sums, config.global_batch_size, world)
        sums = {}
        if not math.isfinite(means["train/loss"]):
            raise TrainingError(
                f"the loss is no longer finite near step {state.step}: the last good state is in "
                f"{checkpoints.folder}; continue from it with a lower --lr, or with --grad-clip 1.0"
            )
        tracker.log(state.step, {**means, "lr": state.optimizers[-1].param_groups[0]["lr"]})

    def time_used() -> float:
        """The share of the run's time that is over, the same on every rank."""
        if not by_time:
            return 0.0
        assert time_limit is not None
        return world.highest(int(1000 * tracker.elapsed / time_limit)) / 1000

    tracker = open_tracker(recipe, folder, world, checkpoint, time_limit)
    with tracker, signals() as received:
        reason, used = "", time_used()
        while state.step < config.total_steps and used < 1:
            batch = feed.next(state.slots.halted)
            if augmented:
                inputs, labels = augmented.augment(batch.inputs, batch.labels, state.symmetries)
                batch = Batch(inputs, labels, batch.puzzle_ids)
            metrics = train_step(state, recipe, Batch(*(world.part(t) for t in batch)), used)
            sums = {k: sums[k] + v for k, v in metrics.items()} if sums else metrics
            tracker.advance(state.step)

            used = time_used()
            last = state.step == config.total_steps or used >= 1
            due = last or state.step % config.eval_every == 0
            # What ends one process ends all, at the same step; signals count for more than time
            ends = received[0] if received else int(time.monotonic() > deadline)
            ends = world.highest(ends)
            if ends:
                reason = signal.Signals(ends).name if ends > 1 else "the time limit"
            if due or reason or state.step % config.log_every == 0:
                log()
            if due:
                validate(state, recipe, folder, validation_set, tracker)
            if due or reason or state.step % config.checkpoint_every == 0:
                if sums:
                    log()  # nothing that is not finite is ever saved
                save()
            if reason and not last:
                break
    finished = state.step >= config.total_steps or used >= 1
    return Outcome(state.step, finished, "" if finished else reason, state.best)


def make_feed(
    train_set: PuzzleSet,
    config: TrainingConfig,
    world: World,
    device: torch.device,
    step: int,
    taken: int,
) -> Feed:
    """The feed that goes on after `step` batches, or after `taken` rows of a stream."""
    size = config.global_batch_size
    start = step if config.refill == "aligned" else taken // size
    batches = training_batches(train_set, size, config.seed, start)
    if config.refill == "aligned":
        return AlignedFeed(batches, device)
    return StreamFeed(batches, world, device, taken)


def train_step(
    state: TrainState, recipe: Recipe, batch: Batch, time_used: float = 0.0
) -> dict[str, Tensor]:
    """One supervision step of every slot and the update that follows; returns summed metrics.

    `time_used` is the share of the run's time that is over, if the learning rate depends on it.
    """
    model, config, world = state.model.config, recipe.training, state.world
    state.set_learning_rate(config.schedule(state.step + 1, time_used))

    slots = state.slots.refill(batch, state.initial_state())
    table = state.model.puzzle_emb
    rows = None if table is None else table.copy_rows(slots.puzzle_ids)
    thought, output = state.wrapped(slots.state, slots.inputs, slots.puzzle_ids, rows)
    minimum = draw_minimum_steps(
        config.global_batch_size,
        model.halt_max_steps,
        config.halt_exploration_prob,
        state.exploration,
    )
    slots = slots.advance(thought, output, model, world.part(minimum))

    target = None
    if not model.no_ACT_continue:
        with torch.no_grad():
            _, following = state.model(thought, slots.inputs, slots.puzzle_ids, rows)
        target = target_q_continue(following, slots.steps, model.halt_max_steps)
    loss, metrics = act_loss(
        output, slots, config.loss_type, target, config.label_smoothing, config.q_weight
    )
    # DDP takes the mean over ranks where the sum is wanted
    (loss * (world.size / config.global_batch_size)).backward()
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
    return {"loss": loss.detach(), "examples": loss.new_tensor(len(slots.steps)), **metrics}


def mean_metrics(sums: dict[str, Tensor], batch_size: int, world: World) -> dict[str, float]:
    """Metrics summed over steps and slots → means over examples, or over halted slots."""
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
    tracker: Tracker | Silent,
) -> None:
    """Score the averaged weights on the validation split and keep them if they are the best yet."""
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
        if world.is_main and result.exact_accuracy > state.best:
            with atomic(folder.model) as path:
                score = {"puzzles": result.puzzles, "exact_accuracy": result.exact_accuracy}
                notes = {"recipe": recipe.name, "step": state.step, "validation": score}
                save_weights(path, state.model, **notes)
            place = {"model": str(folder.path), "split": "validation", "device": str(device)}
            write_json(folder.result, {**place, **notes, **result.to_json()})
    state.best = max(state.best, result.exact_accuracy)
    state.model.train()
    tracker.log(
        state.step,
        {
            "validation/exact_accuracy": result.exact_accuracy,
            "validation/cell_accuracy": result.cell_accuracy,
            **{f"validation/{name}": score.share for name, score in result.scores.items()},
        },
    )


def open_tracker(
    recipe: Recipe,
    folder: RunFolder,
    world: World,
    checkpoint: dict | None,
    time_limit: float | None,
) -> Tracker | Silent:
    """Metrics and progress of the main process; the others are silent."""
    if not world.is_main:
        return Silent()
    return Tracker(
        folder,
        recipe.training.total_steps,
        resumed_step=None if checkpoint is None else checkpoint["step"],
        track=recipe.training.track,
        config=recipe,
        units_per_step=recipe.training.global_batch_size,
        shown=SHOWN,
        time_limit=time_limit,
    )


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second one has its usual effect."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)
        for caught, usual in previous.items():
            signal.signal(caught, usual)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for caught, usual in previous.items():
            signal.signal(caught, usual)
