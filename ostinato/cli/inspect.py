"""`ostinato inspect MODEL`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from ostinato.numbers import Share, check_numbers, to_json

if TYPE_CHECKING:
    from rich.table import Table

    from ostinato.inference.inspect import ExitReading, StreamReport, TernaryReading

PERMUTATIONS_SHOWN = 3


@dataclass(frozen=True)
class Inspect:
    """Look into a language model: its residual streams and its exits on a text, and its weights.

    For each connection: the weights of the permutations that mix the streams (of two streams: α),
    how much is read from each stream (h_pre) and written to it (h_post), how far the streams are
    apart behind it (0: all the same), and the most that all mixing up to there can amplify.

    For each pass of a model with loops: the loss after it, the mean chance to leave there, and the
    share of tokens that do.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN|FILE")]
    """The model: a run folder, a .safetensors or .gguf file, or hf:owner/name on the Hub."""
    text: str = ""
    """Read this text (default: a module of Python's standard library)."""
    exit_threshold: Share = 0.5
    """For a model with loops: leave once the exit probabilities add up to this."""
    json: bool = False
    """Print one JSON object instead of tables."""

    def run(self) -> int:
        from rich.console import Console

        from ostinato.inference.inspect import (
            exit_report,
            probe_tokens,
            stream_report,
            ternary_report,
        )
        from ostinato.models import NanoChat
        from ostinato.weights.load import load

        check_numbers(self)
        model = load(self.model, kind=NanoChat, forward_dtype="auto")
        tokens = probe_tokens(model, self.text)
        streams = stream_report(model, tokens)
        exits = exit_report(model, tokens, self.exit_threshold)
        matrices = ternary_report(model)
        if self.json:
            content = {
                "num_streams": model.config.num_streams,
                "stream_mode": model.config.stream_mode,
                "active": streams.active,
                "connections": [asdict(reading) for reading in streams.readings],
                "passes": [asdict(reading) for reading in exits],
                "ternary": [asdict(reading) for reading in matrices],
            }
            print(to_json(content))
            return 0
        screen = Console(highlight=False)
        if streams.readings:
            screen.print(stream_table(streams))
            screen.print(
                f"streams: {model.config.num_streams}, {model.config.stream_mode}, ", end=""
            )
            screen.print("active" if streams.active else "inactive: all are the same stream")
        else:
            screen.print("streams: one, the plain residual; nothing is mixed")
        screen.print()
        if exits:
            screen.print(exit_table(exits), "")
        if matrices:
            screen.print(ternary_table(matrices))
        else:
            screen.print("ternary weights: none, the model is a full-precision twin")
        return 0


def stream_table(report: "StreamReport") -> "Table":
    """Make a table with one row per connection."""
    alone = len(report.readings[0].permutations) == 2
    table = table_with("connection", "α" if alone else "permutations", "h_pre", "h_post")
    for column in ("divergence", "gain"):
        table.add_column(column, justify="right")
    for reading in report.readings:
        weights = reading.permutations
        table.add_row(
            reading.sublayer,
            f"{weights[0]:.3f}" if alone else heaviest(weights),
            numbers(reading.pre),
            numbers(reading.post),
            f"{reading.divergence:.3f}",
            f"{reading.gain:.5f}",
        )
    return table


def exit_table(readings: "list[ExitReading]") -> "Table":
    """Make a table with one row per pass."""
    table = table_with("pass")
    for column in ("loss", "chance to leave", "leave here"):
        table.add_column(column, justify="right")
    for reading in readings:
        table.add_row(
            str(reading.number),
            f"{reading.loss:.3f}",
            f"{reading.exits:.1%}",
            f"{reading.leaves:.1%}",
        )
    return table


def ternary_table(readings: "list[TernaryReading]") -> "Table":
    """Make a table with one row per matrix."""
    table = table_with("matrix", "shape")
    for column in ("zeros", "scales: least", "mean", "most"):
        table.add_column(column, justify="right")
    for reading in readings:
        scales = (reading.smallest_scale, reading.mean_scale, reading.largest_scale)
        table.add_row(
            reading.matrix,
            f"{reading.rows} × {reading.columns}",
            f"{reading.zeros:.1%}",
            *(f"{scale:.2e}" for scale in scales),
        )
    return table


def table_with(*columns: str) -> "Table":
    """Make an empty table in plain style."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def heaviest(weights: Sequence[float]) -> str:
    """Write the largest weights, each with its permutation's number in lexicographic order."""
    order = sorted(range(len(weights)), key=lambda i: -weights[i])[:PERMUTATIONS_SHOWN]
    return " ".join(f"#{i}:{weights[i]:.3f}" for i in order)


def numbers(values: Sequence[float]) -> str:
    """Write the values in a row."""
    return " ".join(f"{value:.3f}" for value in values)
