"""Record a run's metrics: metrics.jsonl, the progress line, and optional other trackers.

Metrics are plain numbers when they arrive here. A tensor would have to be fetched from its device,
and the loop decides when it can afford to wait for that.
"""

import errno
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Display
from rich.table import Column

from ostinato.files import open_known
from ostinato.training.config_file import to_json
from ostinato.training.run_folder import RunFolder
from ostinato.training.trackers import SINKS, TrackerName


class Tracker:
    """Records what a run reports. A context manager, used by one process of a run.

        with Tracker(folder, total_steps, track=config.track, config=config) as tracker:
            for step in ...:
                tracker.advance(step)
                tracker.log(step, {"train/loss": loss.item()})     # now and then

    A line of metrics.jsonl holds the step, the seconds of training so far (those before a resume
    included) and the metrics. `resumed_step` is the last step already done: later lines are
    dropped, since those steps will come again; None starts a new file.
    """

    def __init__(
        self,
        folder: RunFolder,
        total_steps: int,
        *,
        resumed_step: int | None = None,
        track: tuple[TrackerName, ...] = (),
        config: Any = None,
        unit: str = "examples",
        units_per_step: int = 1,
        shown: tuple[str, ...] = (),
        time_limit: float | None = None,
        of_the_run: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`unit` and `units_per_step` give a second rate, such as examples/s; `shown` names the
        metrics of the progress line; `time_limit` is what this session may take, in seconds, or
        all sessions of the run together (`of_the_run`).

        Raises ValueError if a tracker of `track` is not installed or metrics.jsonl is damaged.
        """
        self.sinks = [SINKS[name](folder, resumed_step, to_json(config)) for name in track]
        self.folder, self.shown, self.clock = folder, shown, clock
        folder.discard_metrics_after(-1 if resumed_step is None else resumed_step)
        records = folder.records()
        self.newest: Mapping[str, Any] = records[-1].metrics if records else {}
        self.seconds_before = records[-1].time if records else 0.0
        if time_limit is not None and of_the_run:
            time_limit -= self.seconds_before
        self.start = clock()
        self.last_step = -1
        self.file = open_known(folder.metrics, "ab")
        self.progress = Progress(
            total_steps,
            resumed_step or 0,
            unit=unit,
            units_per_step=units_per_step,
            time_limit=time_limit,
            elapsed_before=self.seconds_before,
            console=console or Screen(stderr=True),
            clock=clock,
        )

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.progress.close()
        self.file.close()
        for sink in self.sinks:
            sink.close(failed=kind is not None)

    @property
    def elapsed(self) -> float:
        """Return the seconds of training so far, including those before a resume."""
        return self.seconds_before + self.clock() - self.start

    @property
    def unread(self) -> bool:
        """Return whether the terminal or pipe that shows the progress has been closed."""
        return self.progress.unread

    def holds(self, metrics: Mapping[str, int | float]) -> bool:
        """Return whether the newest line already holds these metrics."""
        return metrics.keys() <= self.newest.keys()

    def advance(self, step: int) -> None:
        """Update the progress line when that is due; call this after every step."""
        self.progress.advance(step)

    def log(self, step: int, metrics: Mapping[str, int | float]) -> None:
        """Record the metrics of `step`, such as "train/loss"; steps never go back.

        A value that is not finite is written as null, since JSON has no other name for it. Raises
        TypeError for a value that is not a plain number, ValueError if the disk is full or if the
        run's folder or its metrics.jsonl has been removed or replaced.
        """
        assert step >= self.last_step, f"step {step} after step {self.last_step}"
        for key, value in metrics.items():
            if type(value) not in (int, float):
                raise TypeError(f"{key} is a {type(value).__name__}, not a float: use .item()")
        self.last_step, seconds = step, round(self.elapsed, 3)
        written = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        line = json.dumps({"step": step, "time": seconds, **written}).encode() + b"\n"
        self.newest = metrics
        try:
            while line:  # a disk that is nearly full may take only a part
                line = line[self.file.write(line) :]
            if not os.path.samestat(os.fstat(self.file.fileno()), os.stat(self.folder.metrics)):
                raise FileNotFoundError(errno.ENOENT, "it has been replaced")
        except FileNotFoundError as error:
            raise ValueError(
                f"{self.folder.metrics} has been removed while the run goes on: leave its folder "
                "alone, and train it in a new one with --run"
            ) from error
        except OSError as error:
            raise ValueError(
                f"could not write {self.folder.metrics}: {error.strerror}: make room on the disk, "
                "then continue with --resume auto"
            ) from error
        for sink in self.sinks:
            sink.log(step, seconds, metrics)
        self.progress.advance(step, {key: metrics[key] for key in self.shown if key in metrics})

    def show(self, step: int, samples: Sequence[str]) -> None:
        """Print what a model writes after `step` updates, and forward it."""
        for sample in samples:
            self.note(sample)
        if samples:
            for sink in self.sinks:
                sink.show(step, "\n\n".join(samples))

    def note(self, message: str) -> None:
        """Print a line without disturbing the progress line."""
        self.progress.print(message)


class Silent:
    """The stand-in for a `Tracker` in the other processes of a run; it records nothing."""

    elapsed = 0.0
    """Always 0, less than the main process measures, since the highest of all counts."""
    unread = False

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: object) -> None: ...

    def holds(self, metrics: Mapping[str, int | float]) -> bool:
        return True

    def show(self, step: int, samples: Sequence[str]) -> None: ...

    def note(self, message: str) -> None: ...

    def advance(self, step: int) -> None: ...

    def log(self, step: int, metrics: Mapping[str, int | float]) -> None: ...


REFRESH = 0.5
"""Seconds between two updates on a terminal; the training loop draws them, not a thread."""
RATE_WINDOW = 30.0
"""Length in seconds of the window that the rate is measured over."""


class Screen(Console):
    """A console that raises OSError on a closed pipe, as on a closed terminal; rich would exit."""

    def on_broken_pipe(self) -> None:
        raise


class Progress:
    """Step, share done, rate, time elapsed and left, and the newest metrics.

    On a terminal the line moves. Elsewhere lines are printed at most every 10 seconds and at most
    every 2 % of the time elapsed, so that the log of a week stays below a thousand lines.
    """

    def __init__(
        self,
        total_steps: int,
        first_step: int,
        *,
        unit: str,
        units_per_step: int,
        time_limit: float | None,
        elapsed_before: float,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total_steps, self.step = total_steps, first_step
        self.unit, self.units_per_step = unit, units_per_step
        self.elapsed_before, self.console, self.clock = elapsed_before, console, clock
        self.metrics: dict[str, int | float] = {}
        self.start = self.drawn = clock()
        self.deadline = None if time_limit is None else self.start + time_limit
        self.times = deque([(self.start, first_step)])
        self.display = Display(
            BarColumn(bar_width=16, complete_style="cyan"),
            TextColumn("{task.description}", table_column=Column()),  # wraps on a narrow terminal
            console=console,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self.task = self.display.add_task("", total=total_steps, completed=first_step)
        self.unread = False
        with self.on_screen():
            self.display.start()

    def advance(self, step: int, metrics: Mapping[str, int | float] | None = None) -> None:
        """Note the steps done and new metrics; this costs nothing until a line is due."""
        self.step = step
        self.metrics.update(metrics or {})
        now = self.clock()
        pause = REFRESH if self.console.is_terminal else max(10.0, 0.02 * (now - self.start))
        if now - self.drawn >= pause:
            self.draw(now)

    def draw(self, now: float) -> None:
        """Show the line now."""
        self.drawn = now
        self.times.append((now, self.step))
        while len(self.times) > 2 and self.times[1][0] < now - RATE_WINDOW:
            self.times.popleft()
        line = self.line(now)
        if self.console.is_terminal:
            with self.on_screen():
                self.display.update(self.task, completed=self.step, description=line, refresh=True)
        else:
            self.print(line)

    def line(self, now: float) -> str:
        """Return the line of the run's state at the time `now` of the clock."""
        (then, before), done = self.times[0], self.step / self.total_steps
        rate = (self.step - before) / (now - then) if now > then else 0.0
        left = (self.total_steps - self.step) / rate if rate > 0 else None
        if self.deadline is not None:
            until_limit = max(0.0, self.deadline - now)
            left = until_limit if left is None else min(left, until_limit)
        parts = [f"step {self.step:,}/{self.total_steps:,}", f"{done:.1%}", f"{rate:,.3g} steps/s"]
        if self.units_per_step != 1:
            parts.append(f"{rate * self.units_per_step:,.0f} {self.unit}/s")
        parts.append(f"{duration(self.elapsed_before + now - self.start)} elapsed")
        if left is not None:
            parts.append(f"{duration(left)} left")
        parts += [f"{key} {value:.4g}" for key, value in self.metrics.items()]
        return " · ".join(parts)

    def print(self, message: str) -> None:
        """Print a line of text, above the moving line if there is one."""
        with self.on_screen():
            self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Show the last state."""
        self.draw(self.clock())
        with self.on_screen():
            self.display.stop()

    @contextmanager
    def on_screen(self) -> Iterator[None]:
        """Note if the screen or the pipe has been closed, and show nothing from then on."""
        try:
            yield
        except OSError:
            self.unread = self.console.quiet = True
            # Drop what is buffered for it, or Python fails to write it at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.console.file.fileno())


def duration(seconds: float) -> str:
    """Return a duration as 1:02:03, or as 2:03 below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
