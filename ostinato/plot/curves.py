"""Draw the curves of a run from its metrics.jsonl: `ostinato plot RUN`."""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from ostinato.files import atomic
from ostinato.training.run_folder import RunFolder

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
"""Colours that colour-blind readers can tell apart (Okabe and Ito, "Color Universal Design",
2008)."""
FORMATS = ("png", "svg", "pdf")
Curve = list[tuple[int, float, float]]
"""Step, seconds and value of each point; the value is NaN where it was not finite."""


def plot(run: Path, output: Path | None = None) -> Path:
    """Draw every metric of the run folder over steps and over time, and return the file written.

    `output` is RUN/curves.png by default; its suffix is .png, .svg or .pdf. Losses, accuracies and
    the learning rate have a row each. Other metrics have one row per quantity, such as `steps` for
    train/steps and validation/steps. Raises ValueError if there is nothing to draw, if the suffix
    is another, or if matplotlib is not installed.
    """
    output = output or run / "curves.png"
    Figure, kind = figure_file(output)
    rows = group(read_curves(run))
    unit, seconds = time_unit(
        max(curve[-1][1] for curves in rows.values() for curve in curves.values())
    )

    figure = Figure(figsize=(11, 0.9 + 2.5 * len(rows)), layout="constrained")
    figure.suptitle(run.resolve().name, fontsize=13, fontweight="bold")
    grid = figure.subplots(len(rows), 2, squeeze=False, sharex="col", sharey="row")
    for (title, curves), (over_steps, over_time) in zip(rows.items(), grid, strict=True):
        for index, (key, curve) in enumerate(curves.items()):
            steps, times, values = (list(column) for column in zip(*curve, strict=True))
            noisy = len(values) > 200 and title != "learning rate"
            style = {"color": COLORS[index % len(COLORS)], "label": f"{key}  {values[-1]:.4g}"}
            _draw(over_steps, steps, values, noisy, style)
            _draw(over_time, [time / seconds for time in times], values, noisy, style)
        decorate(over_steps)
        decorate(over_time)
        _scale(over_steps, title)
        over_time.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.align_ylabels(grid[:, 0])
    grid[-1][0].set_xlabel("optimiser steps")
    grid[-1][1].set_xlabel(f"training time ({unit})")
    with atomic(output) as file:
        figure.savefig(file, format=kind, dpi=150)
    return output


def figure_file(output: Path, *others: str) -> tuple[Any, str]:
    """Return matplotlib's Figure class, and the format that a file's suffix asks for.

    `others` are formats that the caller draws itself.

    Raises ValueError if matplotlib is not installed, or for another format.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("drawing needs matplotlib: pip install 'ostinato[plot]'") from error
    kind = output.suffix.removeprefix(".").lower()
    if kind not in (*FORMATS, *others):
        formats = ", .".join((*FORMATS, *others))
        raise ValueError(f"cannot draw {output.name}: end the name in .{formats}")
    return Figure, kind


def read_curves(run: Path) -> dict[str, Curve]:
    """Return the points of each metric, in the order in which they were logged."""
    curves: dict[str, Curve] = defaultdict(list)
    for record in RunFolder(run).records():
        for key, value in record.metrics.items():
            value = math.nan if value is None else value
            curves[key].append((record.step, record.time, value))
    if not curves:
        raise ValueError(f"{run} has no metrics yet: give the folder of a run that has started")
    return dict(curves)


def group(curves: dict[str, Curve]) -> dict[str, dict[str, Curve]]:
    """Return the metrics that share an axis, by the axis's title; accuracies are in percent."""
    rows: dict[str, dict[str, Curve]] = {"loss": {}, "accuracy (%)": {}}
    rates: dict[str, dict[str, Curve]] = {}
    for key, curve in curves.items():
        quantity = key.rpartition("/")[2]
        if "loss" in quantity:
            rows["loss"][key] = curve
        elif "accuracy" in quantity:
            percent = [(step, time, 100 * value) for step, time, value in curve]
            rows["accuracy (%)"][key] = percent
        elif quantity in ("lr", "learning_rate"):
            rates.setdefault("learning rate", {})[key] = curve
        else:
            rows.setdefault(quantity.replace("_", " "), {})[key] = curve
    return {title: row for title, row in (rows | rates).items() if row}


def time_unit(seconds: float) -> tuple[str, int]:
    """Return a unit that suits a duration, and its length in seconds."""
    return ("h", 3600) if seconds >= 7200 else ("min", 60) if seconds >= 120 else ("s", 1)


def smooth(values: list[float]) -> list[float]:
    """Return the mean of each value and its neighbours (2 % of the curve in all), ignoring NaN."""
    reach = len(values) // 100
    means = []
    for index in range(len(values)):
        window = values[max(0, index - reach) : index + reach + 1]
        finite = [value for value in window if not math.isnan(value)]
        means.append(sum(finite) / len(finite) if finite else math.nan)
    return means


def decorate(axes: Any) -> None:
    """Style all axes: no frame, a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.tick_params(labelsize=9, length=3, color="#888888")


def _draw(axes: Any, x: list, values: list[float], noisy: bool, style: dict) -> None:
    if noisy:  # every point faintly, the trend over it
        axes.plot(x, values, color=style["color"], alpha=0.25, linewidth=0.7)
        values = smooth(values)
    marker = "o" if len(values) <= 60 else None
    axes.plot(x, values, linewidth=1.6, marker=marker, markersize=3, **style)


def _scale(axes: Any, title: str) -> None:
    """Scale the axes: accuracies from 0 to 100 %, losses logarithmic if all are positive."""
    axes.set_ylabel(title)
    if title == "accuracy (%)":
        axes.set_ylim(-2, 102)
    elif title == "loss":
        values = [value for line in axes.lines for value in line.get_ydata()]
        if all(value > 0 or math.isnan(value) for value in values):
            axes.set_yscale("log")
    elif title == "learning rate":
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.ticklabel_format(axis="y", scilimits=(-2, 3))
