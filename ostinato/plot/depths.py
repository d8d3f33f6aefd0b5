"""Draw what a model solves, and how far its states still move, from the JSON of `ostinato eval`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from ostinato.decoding import read_json
from ostinato.evaluation.puzzles import wilson_interval
from ostinato.files import atomic
from ostinato.plot.curves import COLORS, decorate, figure_file

Share = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True)
class Depths:
    """The part of the JSON of `ostinato eval` that is drawn."""

    model: str
    puzzles: Annotated[int, Meta(ge=1)]
    exact_by_step: Annotated[tuple[Share, ...], Meta(min_length=1)]
    drift_by_step: Annotated[tuple[Annotated[float, Meta(ge=0)], ...], Meta(min_length=1)]


def is_evaluation(path: Path) -> bool:
    """Return whether a file holds the JSON of `ostinato eval`, rather than that of a benchmark."""
    content = read_json(path, Any, "give what ostinato bench solve --json or eval --json prints")
    return isinstance(content, dict) and "exact_by_step" in content


def plot_depths(path: Path, output: Path | None = None) -> Path:
    """Draw accuracy and movement over supervision steps; return the file written.

    `output` is the same name with .png by default. Raises ValueError if the file holds something
    else than what `ostinato eval --json` prints.
    """
    found = read_json(path, Depths, "give what ostinato eval --json prints")
    output = output or path.with_suffix(".png")
    Figure, kind = figure_file(output)
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    solved, moved = figure.subplots(2, sharex=True)
    steps = range(1, len(found.exact_by_step) + 1)
    ends = [wilson_interval(share, found.puzzles) for share in found.exact_by_step]
    low, high = ([100 * end for end in each] for each in zip(*ends, strict=True))
    solved.plot(steps, [100 * share for share in found.exact_by_step], color=COLORS[0])
    solved.fill_between(steps, low, high, color=COLORS[0], alpha=0.12, linewidth=0)
    solved.set_ylabel(f"solved, % of {found.puzzles:,} puzzles")
    moved.plot(range(1, len(found.drift_by_step) + 1), found.drift_by_step, color=COLORS[1])
    moved.set_yscale("log")
    moved.set_ylabel("movement of the states")
    moved.set_xlabel(f"supervision steps of {Path(found.model).name}")
    for axes in (solved, moved):
        decorate(axes)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    with atomic(output) as file:
        figure.savefig(file, format=kind, dpi=150)
    return output
