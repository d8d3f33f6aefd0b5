"""The loop of every training run: when to log, validate, save and end; what a step is, others say.

Whatever ends it, the run folder holds a checkpoint from which the same call goes on.
"""

import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ostinato.training.checkpoint import Checkpoints
from ostinato.training.config import LoopConfig
from ostinato.training.distributed import World
from ostinato.training.run_folder import RunFolder
from ostinato.training.state import WeightState
from ostinato.training.tracking import Silent, Tracker


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
    """Best score on validation so far."""
    best_in_words: str


class Work(ABC):
    """What a kind of model brings to the loop."""

    unit: str
    """What is counted beside steps, such as "examples"."""
    units_per_step: int
    shown: tuple[str, ...]
    """Metrics beside the progress bar."""

    state: WeightState

    @abstractmethod
    def update(self, time_used: float) -> dict[str, Tensor]:
        """One update of the weights; returns metrics summed over this rank's examples.

        `time_used` is the share of the run's time that is over, if the schedule depends on it.
        """

    @abstractmethod
    def means(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """What to log of the metrics of some updates, added up; "train/loss" is among them."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Score the weights on the validation split and keep them if they are the best yet."""

    @abstractmethod
    def tree(self) -> dict[str, Any]:
        """The content of a checkpoint; collective."""

    @abstractmethod
    def best_in_words(self) -> str:
        """The best score so far, for people."""


class Loop:
    """A session of training; its clock starts when it is made."""

    def __init__(self, recipe: Any, folder: RunFolder, world: World, time_limit: float | None):
        """`recipe`, with its settings as `training`, goes to the trackers; the limit is seconds."""
        self.recipe, self.folder, self.world, self.time_limit = recipe, folder, world, time_limit
        self.config: LoopConfig = recipe.training
        self.by_time = time_limit is not None and self.config.decay_by == "time"
        seconds = math.inf if time_limit is None or self.by_time else time_limit
        self.deadline = time.monotonic() + seconds
        self.checkpoints = Checkpoints(folder.checkpoints, self.config.keep_checkpoints)

    def run(self, work: Work, resumed: bool) -> Outcome:
        """Update until done, signalled or out of time.

        Raises TrainingError if the loss is no longer finite.
        """
        config, state, world = self.config, work.state, self.world
        world.check_same("weights", state.checksums)
        sums: dict[str, Tensor] = {}
        with self.open_tracker(work, resumed) as tracker, signals() as received:
            reason, used = "", self.time_used(tracker)
            while state.step < config.total_steps and used < 1:
                metrics = work.update(used)
                sums = {k: sums[k] + v for k, v in metrics.items()} if sums else metrics
                tracker.advance(state.step)

                used = self.time_used(tracker)
                last = state.step == config.total_steps or used >= 1
                due = last or state.step % config.eval_every == 0
                # What ends one process ends all, at the same step; signals count for more than time
                ends = received[0] if received else int(time.monotonic() > self.deadline)
                ends = world.highest(ends)
                if ends:
                    reason = signal.Signals(ends).name if ends > 1 else "the time limit"
                save = due or reason or state.step % config.checkpoint_every == 0
                # Nothing that is not finite is ever saved
                if save or state.step % config.log_every == 0:
                    tracker.log(state.step, self.finite(work.means(sums), state.step))
                    sums = {}
                if due:
                    tracker.log(state.step, work.validate())
                if save:
                    tree = work.tree()
                    if world.is_main:
                        self.checkpoints.save(state.step, tree)
                if reason and not last:
                    break
        finished = state.step >= config.total_steps or used >= 1
        reason = "" if finished else reason
        return Outcome(state.step, finished, reason, state.best, work.best_in_words())

    def finite(self, means: Mapping[str, float], step: int) -> Mapping[str, float]:
        """`means`; TrainingError if the loss among them is not finite."""
        if not math.isfinite(means["train/loss"]):
            raise TrainingError(
                f"the loss is no longer finite near step {step}: the last good state is in "
                f"{self.checkpoints.folder}; go on from it in a new folder (--run, --resume) with "
                "a lower --lr, or with --grad-clip 1.0"
            )
        return means

    def time_used(self, tracker: Tracker | Silent) -> float:
        """The share of the run's time that is over, the same on every rank."""
        if not self.by_time:
            return 0.0
        assert self.time_limit is not None
        return self.world.highest(int(1000 * tracker.elapsed / self.time_limit)) / 1000

    def open_tracker(self, work: Work, resumed: bool) -> Tracker | Silent:
        """Metrics and progress of the main process; the others are silent."""
        if not self.world.is_main:
            return Silent()
        return Tracker(
            self.folder,
            self.config.total_steps,
            resumed_step=work.state.step if resumed else None,
            track=self.config.track,
            config=self.recipe,
            unit=work.unit,
            units_per_step=work.units_per_step,
            shown=work.shown,
            time_limit=self.time_limit,
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
