"""Run the loop of every training: when to log, validate, save and stop; `Work` defines a step.

However it ends, the run folder holds a checkpoint from which the same call resumes.
"""

import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ostinato.training.checkpoint import Checkpoints
from ostinato.training.config import LoopConfig
from ostinato.training.distributed import World
from ostinato.training.run_folder import RunFolder
from ostinato.training.tracking import Silent, Tracker
from ostinato.training.weight_state import WeightState

CLOSED_PIPE = "a closed pipe"
"""Reason of a session that ended because the pipe for its progress was closed."""


class TrainingError(RuntimeError):
    """Training cannot continue; the message is for the user, and the last checkpoint is still
    good."""


@dataclass(frozen=True)
class Outcome:
    """The way a session of training ended."""

    step: int
    finished: bool
    reason: str
    """Reason for ending before `total_steps`: a signal or the time limit; empty if it finished."""
    best: float
    """Best score on validation so far."""
    best_in_words: str


class Work(ABC):
    """The part of the loop that depends on the kind of model."""

    unit: str
    """Unit that is counted beside steps, such as "examples"."""
    units_per_step: int
    shown: tuple[str, ...]
    """Metrics shown beside the progress bar."""

    state: WeightState

    @abstractmethod
    def update(self, time_used: float) -> dict[str, Tensor]:
        """Update the weights once, and return metrics summed over this rank's examples.

        `time_used` is the share of the run's time that is over, if the schedule depends on it.
        """

    @abstractmethod
    def means(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the metrics to log, given sums over several updates; "train/loss" is among
        them."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Score the weights on the validation split and keep them if they are the best yet."""

    def remarks(self) -> list[str]:
        """Return lines for people to read before the first update."""
        return []

    def samples(self) -> list[str]:
        """Return lines for people to read after a validation, such as what a model writes."""
        return []

    @abstractmethod
    def tree(self) -> dict[str, Any]:
        """Return the content of a checkpoint; all ranks must call it."""

    @abstractmethod
    def best_in_words(self) -> str:
        """Return the best score so far, for people to read."""


class Loop:
    """A session of training; its clock starts when it is made.

    A time limit includes the validation and the saving that end the session, estimated by how long
    they last took. If a step's validation has to wait, a resumed session begins with it.
    """

    def __init__(
        self,
        recipe: Any,
        folder: RunFolder,
        world: World,
        time_limit: float | None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Send `recipe` to the trackers; `training` holds its settings; the time limit is in
        seconds."""
        self.recipe, self.folder, self.world, self.time_limit = recipe, folder, world, time_limit
        self.config: LoopConfig = recipe.training
        self.by_time = time_limit is not None and self.config.decay_by == "time"
        self.clock = clock
        seconds = math.inf if time_limit is None or self.by_time else time_limit
        self.deadline = clock() + seconds
        self.validation_seconds: float | None = None
        self.saving_seconds = 0.0
        self.checkpoints = Checkpoints(folder.checkpoints, self.config.keep_checkpoints)

    def run(self, work: Work, checkpoint: Mapping[str, Any] | None) -> Outcome:
        """Update until done, signalled or out of time; `checkpoint` is where `work` resumes.

        Raises TrainingError if the loss is no longer finite, ValueError if the run folder is gone.
        """
        config, state = self.config, work.state
        self.world.check_same("weights", state.checksums)
        sums: dict[str, Tensor] = {}
        found = checkpoint or {}
        if not self.world.ask_main("best weights", self.folder.model.exists):
            state.best = type(state).best  # of another folder, which holds its weights
        with self.open_tracker(work, checkpoint is not None) as tracker, signals() as received:
            ended = self.by_time and found.get("time_limit", 0.0) >= self.time_limit
            reason, used = "", 1.0 if ended else self.time_used(tracker)
            due: bool = found.get("validation_due", False)
            if used >= 1 and not (ended or due):
                raise ValueError(
                    f"the run has used its {self.time_limit:g} s, which count from its start: "
                    "give a longer --time-limit"
                )
            for line in work.remarks():
                tracker.note(line)
            if due:
                self.validate(work, tracker)
                self.save(work, used)
                due = False
            while state.step < config.total_steps and used < 1:
                metrics = work.update(used)
                sums = {k: sums[k] + v for k, v in metrics.items()} if sums else metrics
                tracker.advance(state.step)

                used = self.time_used(tracker)
                due = state.step == config.total_steps or used >= 1
                due = due or (state.step % config.eval_every == 0 and self.affords_two(tracker))
                reason = self.reason_to_end(received, tracker, due)
                save = due or reason or state.step % config.checkpoint_every == 0
                # Never save a state that is not finite
                if save or state.step % config.log_every == 0:
                    tracker.log(state.step, self.finite(work.means(sums), state.step))
                    sums = {}
                if due and not reason:
                    if self.time_limit is not None and self.validation_seconds is None:
                        self.save(work, used, validation_due=True)
                        tracker.note(
                            f"saved step {state.step:,}; the first validation may take longer than "
                            "the time limit"
                        )
                    self.validate(work, tracker)
                    due, used = False, max(used, self.time_used(tracker))
                    reason = self.reason_to_end(received, tracker, due)
                if save:
                    self.save(work, used, validation_due=due)
                if reason:
                    break
        finished = (state.step >= config.total_steps or used >= 1) and not due
        reason = "" if finished else reason
        return Outcome(state.step, finished, reason, state.best, work.best_in_words())

    def validate(self, work: Work, tracker: Tracker | Silent) -> None:
        """Score the weights, and note how long that takes."""
        start = self.clock()
        scores, samples = work.validate(), work.samples()
        self.validation_seconds = self.clock() - start
        if not tracker.holds(scores):
            tracker.log(work.state.step, scores)
        tracker.show(work.state.step, samples)

    def save(self, work: Work, used: float, validation_due: bool = False) -> None:
        """Save a checkpoint with all that a resumed session needs, and note how long that takes."""
        start = self.clock()
        tree = work.tree()
        if validation_due:
            tree["validation_due"] = True
        if self.by_time and used >= 1:  # the schedule has ended, even if validation left some time
            tree["time_limit"] = self.time_limit
        if self.world.is_main:
            self.checkpoints.save(work.state.step, tree)
        self.saving_seconds = self.clock() - start

    def reason_to_end(self, received: list[int], tracker: Tracker | Silent, due: bool) -> str:
        """Return why to end now, the same on every rank, or ""; `due`: a validation comes next."""
        needed = self.saving_seconds + (self.validation_seconds or 0.0) * due
        # All processes stop at the same step, for the same reason; signals come before time
        code = int(self.clock() + needed > self.deadline)
        if tracker.unread:
            code = 1 + signal.SIGPIPE
        if received:
            code = 1 + received[0]
        code = self.world.highest(code)
        if code == 1 + signal.SIGPIPE:
            return CLOSED_PIPE
        return "" if code == 0 else "the time limit" if code == 1 else signal.Signals(code - 1).name

    def finite(self, means: Mapping[str, float], step: int) -> Mapping[str, float]:
        """Return `means`; raise TrainingError if the loss among them is not finite."""
        if not math.isfinite(means["train/loss"]):
            raise TrainingError(
                f"the loss is no longer finite near step {step}: the last good state is in "
                f"{self.checkpoints.folder}; go on from it in a new folder (--run, --resume) with "
                "a lower --lr, or with --grad-clip 1.0"
            )
        return means

    def time_used(self, tracker: Tracker | Silent) -> float:
        """Return the share of the time for updates that is over, the same on every rank."""
        if not self.by_time:
            return 0.0
        left = self.time_left(tracker, validations=1)
        used = tracker.elapsed / (tracker.elapsed + left) if left > 0 else 1.0
        return self.world.highest(int(1000 * used)) / 1000

    def affords_two(self, tracker: Tracker | Silent) -> bool:
        """Return whether time is left for a validation now and one at the end, the same on every
        rank."""
        short = self.by_time and self.time_left(tracker, validations=2) < 0
        return not self.world.highest(int(short))

    def time_left(self, tracker: Tracker | Silent, validations: int) -> float:
        """Return the seconds left for updates, after so many validations and a checkpoint."""
        assert self.time_limit is not None
        needed = validations * (self.validation_seconds or 0.0) + self.saving_seconds
        return self.time_limit - tracker.elapsed - needed

    def open_tracker(self, work: Work, resumed: bool) -> Tracker | Silent:
        """Return the tracker of metrics and progress; processes other than the main one get a
        silent one."""
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
            of_the_run=self.by_time,
            clock=self.clock,
        )


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect signals that would end the program; a second signal does end it.

    SIGHUP, from a closed terminal, stays ignored where `nohup` has it ignored.
    """
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)
        for caught, usual in previous.items():
            signal.signal(caught, usual)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for caught, usual in previous.items():
            signal.signal(caught, usual)
