"""Draw ARC tasks: the demonstrations, the tests, and the answers that the variants voted for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ostinato.data.arc.sources import Colour, Rows
from ostinato.data.grids import PALETTE
from ostinato.decoding import convert_each
from ostinato.evaluation.arc import VOTES
from ostinato.files import atomic
from ostinato.plot.curves import figure_file
from ostinato.training.run_folder import read_json

SHOWN = 2
"""Number of candidates drawn for each test."""
MOST_ROWS = 400
"""Tests in a picture: a file format holds only so many pixels."""


@dataclass(frozen=True)
class Demonstration:
    """A demonstration pair of votes.json."""

    input: Rows
    output: Rows


@dataclass(frozen=True)
class Candidate:
    """An answer that variants voted for; it has no rows if it was not a grid."""

    output: list[list[Colour]]
    votes: int


@dataclass(frozen=True)
class Test:
    """A test of votes.json."""

    input: Rows
    votes: int
    candidates: list[Candidate]
    output: Rows | None = None


@dataclass(frozen=True)
class VotedTask:
    """A task of votes.json."""

    train: list[Demonstration]
    test: list[Test]


def plot_tasks(run: Path, names: tuple[str, ...], output: Path | None = None) -> Path:
    """Draw tasks of a run's last evaluation on ARC, and return the file written.

    `names` are names of tasks, or ("all",) for all of them; `output` is RUN/tasks.png by default.
    Raises ValueError if the run has not been evaluated, or has no such task.
    """
    path = run / VOTES
    if not path.exists():
        raise ValueError(f"{run} has no votes on tasks of ARC: run ostinato eval {run} first")
    tasks = read_json(path, dict[str, Any])
    convert_each(tasks, VotedTask, str(path), f"run ostinato eval {run} again")
    chosen = tuple(tasks) if names == ("all",) else names
    for name in chosen:
        if name not in tasks:
            raise ValueError(f"{path} has no task {name}: choose from {', '.join(tasks)}, or all")
    return draw_tasks({name: tasks[name] for name in chosen}, output or run / "tasks.png")


def draw_tasks(tasks: dict[str, Any], output: Path) -> Path:
    """Draw tasks with their candidates, one row per test; `ArcVotes.to_json` gives the tasks."""
    Figure, kind = figure_file(output)
    rows = [(name, task, test) for name, task in tasks.items() for test in task["test"]]
    if len(rows) > MOST_ROWS:
        raise ValueError(
            f"{len(rows)} tests are too many for a picture: name tasks with up to {MOST_ROWS}"
        )
    width = max(len(task["train"]) for task in tasks.values())
    columns = 2 * width + 2 + SHOWN
    figure = Figure(figsize=(0.95 * columns, 1.45 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (name, task, test) in zip(grid, rows, strict=True):
        for number, pair in enumerate(task["train"]):
            _draw(axes[2 * number], pair["input"], name if number == 0 else "")
            _draw(axes[2 * number + 1], pair["output"], "→")
        _draw(axes[2 * width], test["input"], "test")
        if "output" in test:
            _draw(axes[2 * width + 1], test["output"], "answer")
        for place, candidate in zip(axes[2 * width + 2 :], test["candidates"], strict=False):
            right = candidate["output"] == test.get("output")
            verdict = "" if "output" not in test else " ✓" if right else " ✗"
            title = f"{candidate['votes']} of {test['votes']} votes{verdict}"
            _draw(place, candidate["output"], title, "#009E73" if right else "#D55E00")
    with atomic(output) as file:
        figure.savefig(file, format=kind, dpi=110)
    return output


def _draw(axes: Any, grid: list[list[int]], title: str, colour: str = "#444444") -> None:
    from matplotlib.colors import ListedColormap

    axes.set_title(title, fontsize=7, color=colour, pad=3)
    cells = np.array(grid)
    if cells.size:
        rows, columns = cells.shape
        edges = np.arange(columns + 1), np.arange(rows + 1)
        axes.pcolormesh(
            *edges, cells, cmap=ListedColormap(PALETTE), vmin=0, vmax=9,
            edgecolors="#666666", linewidth=0.4,
        )  # fmt: skip
        axes.set_aspect("equal")
        axes.invert_yaxis()
