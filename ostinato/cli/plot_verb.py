"""`ostinato plot RUN`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ostinato.cli import Command
from ostinato.cli.arguments import read


@dataclass(frozen=True)
class Plot:
    """Draw the curves of a run: losses, accuracies and learning rate, over steps and over time."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run, which may still be going on."""
    output: Path | None = None
    """File to draw, ending in .png, .svg or .pdf (default: RUN/curves.png)."""

    def run(self) -> int:
        from ostinato.plot import plot

        print(plot(self.run_folder, self.output))
        return 0


def parse(words: list[str]) -> Command:
    """What the words behind `plot` ask for."""
    return read(Plot, words, "plot").run
