"""`ostinato plot RUN`, or a file of `ostinato bench solve`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ostinato.weights import packaged
from ostinato.weights.words import unknown_model


@dataclass(frozen=True)
class Plot:
    """Draw the curves of a run: losses, accuracies and learning rate, over steps and over time.

    With --tasks: tasks of ARC, and the answers that their variants voted for at `ostinato eval`.
    With a file of `ostinato bench solve --json` instead of a run: what each search solves, over the
    steps that it takes.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run, which may still be going on; or a file of bench solve."""
    output: Path | None = None
    """File to draw, ending in .png, .svg or .pdf (default: RUN/curves.png, RUN/tasks.png, or
    the file's name with .png)."""
    tasks: tuple[str, ...] = ()
    """Names of tasks of ARC to draw instead of the curves; all: every task."""

    def run(self) -> int:
        from ostinato.plot.arc import plot_tasks
        from ostinato.plot.curves import plot
        from ostinato.plot.search import plot_search

        if not self.source.exists() and str(self.source) not in packaged():
            raise unknown_model(str(self.source), "give the folder of a run")
        if self.source.is_file():
            if self.tasks:
                raise ValueError("--tasks needs the folder of a run, not a file")
            print(plot_search(self.source, self.output))
        elif self.tasks:
            print(plot_tasks(self.source, self.tasks, self.output))
        else:
            print(plot(self.source, self.output))
        return 0
