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
    steps that it takes. With a file of `ostinato eval --json`: accuracy and movement of the states,
    step by step.
    With --puzzle: what a model thinks of it, pass by pass. With --states: how far its state still
    moves in each pass, for puzzles that it solves and others.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run, which may still be going on; or a file of bench solve or eval; any
    model with --puzzle and --states."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File to draw, ending in .png, .svg or .pdf, with --puzzle also .gif (default: RUN/curves.png,
    RUN/tasks.png, the file's name with .png, think.png or states.png)."""
    tasks: tuple[str, ...] = ()
    """Draw these tasks of ARC instead of the curves; all: every task."""
    puzzle: str | None = None
    """A puzzle to draw the thoughts about."""
    states: bool = False
    """Draw how far the state moves."""
    puzzles: Path | None = None
    """--states: a file of puzzles (default: generated ones of all levels)."""
    count: int = 64
    """--states: how many of them."""

    def run(self) -> int:
        if self.puzzle is not None or self.states:
            return self.think()
        from ostinato.plot.arc import plot_tasks
        from ostinato.plot.curves import plot
        from ostinato.plot.depths import is_evaluation, plot_depths
        from ostinato.plot.search import plot_search

        if not self.source.exists() and str(self.source) not in packaged():
            raise unknown_model(str(self.source), "give the folder of a run")
        if self.source.is_file():
            if self.tasks:
                raise ValueError("--tasks needs the folder of a run, not a file")
            draw = plot_depths if is_evaluation(self.source) else plot_search
            print(draw(self.source, self.output))
        elif self.tasks:
            print(plot_tasks(self.source, self.tasks, self.output))
        else:
            print(plot(self.source, self.output))
        return 0

    def think(self) -> int:
        """Draw what the model does, rather than how it was trained."""
        from ostinato.cli.sample_arguments import some_puzzles
        from ostinato.models import RecursiveModel
        from ostinato.plot.think import plot_states, plot_thinking
        from ostinato.weights.load import load

        model = load(str(self.source), kind=RecursiveModel, forward_dtype="auto")
        if self.puzzle is not None:
            print(plot_thinking(model, self.puzzle, self.output or Path("think.png")))
        else:
            puzzles = some_puzzles(model, self.puzzles, self.count)
            print(plot_states(model, puzzles, self.output or Path("states.png")))
        return 0
