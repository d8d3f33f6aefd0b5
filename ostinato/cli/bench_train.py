"""`ostinato bench train RECIPE`."""

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ostinato.cli import Command
from ostinato.cli.arguments import read_recipe
from ostinato.numbers import to_json
from ostinato.training.config import AnyRecipe

if TYPE_CHECKING:
    from ostinato.bench.measure import Spread
    from ostinato.bench.training import TrainingSpeed


@dataclass(frozen=True)
class BenchTrain:
    """Measure how fast a recipe trains, on random tokens, beside the machine's own speed.

    That speed, the peak, is of a large product of matrices in the same dtype. It is measured in
    turn with the training, several times: medians are shown with the least and the most.
    Every setting of the recipe's model and training can be changed by a flag.
    """

    steps: int = 5
    """Training steps of each repetition."""
    repeat: int = 5
    """Repetitions."""
    json: bool = False
    """Print one JSON object instead of a table."""


def parse(words: list[str]) -> Command:
    """The words behind `ostinato bench train`."""
    arguments, recipe = read_recipe(BenchTrain, words, "bench train", ("training", "model"))
    return lambda: run(recipe, arguments)


def run(recipe: AnyRecipe, arguments: BenchTrain) -> int:
    """Measure, and print what came out."""
    from ostinato.bench.training import bench_training
    from ostinato.training.run import pick_device

    speed = bench_training(
        recipe,
        pick_device(recipe.training.device),
        arguments.steps,
        arguments.repeat,
        report=lambda line: print(line, file=sys.stderr),
    )
    if arguments.json:
        print(to_json(asdict(speed)))
    else:
        print_table(speed)
    return 0


def print_table(speed: "TrainingSpeed") -> None:
    """The result with its units, a line for each quantity."""
    from rich.console import Console
    from rich.table import Table

    flops = speed.flops_per_unit
    grid = Table(box=None, pad_edge=False, padding=(0, 2), header_style="dim")
    for title in ("", "median", "least", "most"):
        grid.add_column(title, justify="right" if title else "left", no_wrap=True)
    for name, spread, unit in (
        (f"{speed.unit}s/s", speed.units_per_second, 1.0),
        ("seconds per step", speed.seconds_per_step, 1.0),
        ("training, GFLOP/s", speed.flops_per_second, 1e9),
        ("matmul peak, GFLOP/s", speed.peak_flops_per_second, 1e9),
    ):
        grid.add_row(name, *numbers(spread, unit))
    grid.add_row(
        "share of the peak", *(f"{share:.2f}" for share in asdict(speed.share_of_peak).values())
    )

    compiled = ", compiled" if speed.compiled else ""
    threads = f" with {speed.threads} threads" if speed.device == "cpu" else ""
    screen = Console(highlight=False)
    screen.print(
        f"\n[bold]{speed.recipe}[/bold]: {speed.parameters:,} weights, batch {speed.batch_size} of "
        f"{speed.tokens} tokens, {speed.dtype}{compiled}, on {speed.device}{threads}; "
        f"{speed.repetitions} × {speed.steps} steps\n"
    )
    screen.print(grid)
    screen.print(
        f"\nA {speed.unit} takes {flops.total / 1e9:.4g} GFLOP: "
        f"{flops.forward_without_gradient / 1e9:.4g} forward without gradient, "
        f"{flops.forward_with_gradient / 1e9:.4g} with, {flops.backward / 1e9:.4g} backward. "
        f"Peak memory {speed.peak_memory_bytes / 2**20:,.0f} MiB, "
        f"warm-up {speed.warm_up_seconds:.1f} s.\n"
    )


def numbers(spread: "Spread", unit: float) -> list[str]:
    """Median, least and most in the unit, with four digits."""
    return [f"{value / unit:,.4g}" for value in asdict(spread).values()]
