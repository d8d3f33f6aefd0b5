"""Draw what searches solve against what they cost, from the JSON of `ostinato bench solve`."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from ostinato.decoding import read_json
from ostinato.evaluation.puzzles import wilson_interval
from ostinato.files import atomic
from ostinato.plot.curves import COLORS, decorate, figure_file

Point = tuple[float, float, float, float]
"""Steps per puzzle, share of puzzles solved, and the ends of its 95 % interval."""


@dataclass(frozen=True)
class Case:
    """The case that was measured."""

    mode: str
    puzzles: Annotated[int, Meta(ge=1)]


@dataclass(frozen=True)
class CaseSpeed:
    """The measurements of one case."""

    case: Case
    exact_accuracy: Annotated[float, Meta(ge=0, le=1)]
    selected_by: str
    steps_per_puzzle: Annotated[float, Meta(gt=0)]


@dataclass(frozen=True)
class Speed:
    """The part of the JSON of `ostinato bench solve` that is drawn."""

    cases: Annotated[tuple[CaseSpeed, ...], Meta(min_length=1)]


def plot_search(path: Path, output: Path | None = None) -> Path:
    """Draw accuracy over supervision steps per puzzle, one line per mode; return the file written.

    `path` is a file with the output of `ostinato bench solve --json`; `output` is the same name
    with .png by default. Raises ValueError if the file holds something else.
    """
    speed = read_json(path, Speed, "give what ostinato bench solve --json prints")
    output = output or path.with_suffix(".png")
    Figure, kind = figure_file(output)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    lines = lines_of(speed.cases)
    for index, (mode, points) in enumerate(lines.items()):
        steps, solved, low, high = (list(column) for column in zip(*points, strict=True))
        color = COLORS[index % len(COLORS)]
        axes.plot(steps, solved, color=color, marker="o", markersize=4, linewidth=1.6, label=mode)
        axes.fill_between(steps, low, high, color=color, alpha=0.12, linewidth=0)
    decorate(axes)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("supervision steps per puzzle, all attempts together")
    puzzles = max(found.case.puzzles for found in speed.cases)
    axes.set_ylabel(f"solved, % of {puzzles:,} puzzles")
    axes.legend(frameon=False, fontsize=9)
    with atomic(output) as file:
        figure.savefig(file, format=kind, dpi=150)
    return output


def lines_of(cases: Sequence[CaseSpeed]) -> dict[str, list[Point]]:
    """Return the points of each mode in percent, cheapest first, for the largest number of
    puzzles."""
    most = max(found.case.puzzles for found in cases)
    lines: dict[str, set[Point]] = defaultdict(set)
    for found in cases:
        case, share = found.case, found.exact_accuracy
        if case.puzzles == most:
            by = ", chosen by the rules" if found.selected_by == "rules" else ""
            low, high = wilson_interval(share, most)
            point = (found.steps_per_puzzle, 100.0 * share, 100 * low, 100 * high)
            lines[case.mode + by].add(point)
    return {mode: sorted(points) for mode, points in lines.items()}
