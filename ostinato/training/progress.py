"""How far a run has got: a line that moves on a terminal, a line now and then elsewhere."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Display
from rich.table import Column

REFRESH = 0.5
"""Seconds between two updates on a terminal, drawn by the training loop, not by a thread."""
RATE_WINDOW = 30.0
"""Seconds that the rate is measured over."""


class Screen(Console):
    """A console whose closed pipe is an OSError, as a closed terminal is; rich ends the program."""

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
        """Take note of the steps done and of new metrics; costs nothing until a line is due."""
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
        """The state of the run at the time `now` of the clock."""
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
            # What is buffered for it goes nowhere, or Python fails to write it in the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.console.file.fileno())


def duration(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
