"""Print the results of `ostinato bench` for people."""

from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from ostinato.bench.generation import GenerationSpeed
from ostinato.bench.measure import Spread
from ostinato.bench.solving import SolvingSpeed
from ostinato.bench.training import TrainingSpeed
from ostinato.cli.tables import percent, table


def print_training(speed: TrainingSpeed) -> None:
    """Print the result with its units, a line for each quantity."""
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


def numbers(spread: Spread, unit: float) -> list[str]:
    """Write the median, least and most in the unit, with four digits."""
    return [f"{value / unit:,.4g}" for value in asdict(spread).values()]


def print_solving(model: str, speed: SolvingSpeed) -> None:
    """Print the result with its units, a line for each case."""
    screen = Console(highlight=False)
    compiled = ", compiled" if speed.compiled else ""
    threads = f" with {speed.threads} threads" if speed.device == "cpu" else ""
    screen.print(
        f"\n[bold]{model}[/bold]: {speed.parameters:,} weights, {speed.dtype}{compiled}, on "
        f"{speed.device}{threads}; medians of {speed.repetitions} repetitions (least – most)\n"
    )
    titles = ("mode", "solved", "steps", "puzzles/s", "", "× fixed", "of peak")
    sizes = ((f.case.puzzles, f.case.batch_size, f.case.max_steps) for f in speed.cases)
    for size in dict.fromkeys(sizes):
        rows = []
        for found in speed.cases:
            case, rate = found.case, found.puzzles_per_second
            if (case.puzzles, case.batch_size, case.max_steps) == size:
                rows.append(
                    (
                        case.mode,
                        percent(found.exact_accuracy),
                        f"{found.steps_per_puzzle:.3g}",
                        f"{rate.median:,.3g}",
                        f"({rate.low:,.3g} – {rate.high:,.3g})",
                        f"{found.times_fixed.median:.2f}",
                        f"{found.share_of_peak.median:.2f}",
                    )
                )
        screen.print(f"{size[0]:,} puzzles, {size[1]} at a time, up to {size[2]} steps at first")
        screen.print(table(titles, rows))
    screen.print(
        f"A step of a puzzle takes {speed.flops_per_sample_step / 1e9:.4g} GFLOP; matmul peak "
        f"{speed.peak_flops_per_second.median / 1e9:,.4g} GFLOP/s "
        f"({speed.peak_flops_per_second.low / 1e9:,.4g} – "
        f"{speed.peak_flops_per_second.high / 1e9:,.4g}). "
        f"Peak memory {speed.peak_memory_bytes / 2**20:,.0f} MiB.\n"
    )


def print_generation(speed: GenerationSpeed) -> None:
    """Print the speed of generation, a line for each quantity."""
    print(
        f"{speed.name}: {speed.parameters:,} weights, {speed.dtype}, on {speed.device} with "
        f"{speed.threads} threads; {speed.repetitions} × {speed.tokens} tokens"
    )
    compared = [(f"{other}, tokens/s", spread, 1) for other, spread in speed.others.items()]
    compared += [(f"× {other}", spread, 1) for other, spread in speed.times_others.items()]
    for what, spread, unit in (
        (f"{speed.way}, tokens/s", speed.tokens_per_second, 1),
        *compared,
        ("memory read, GB/s", speed.memory_bytes_per_second, 1e9),
        ("share of that", speed.share_of_memory_speed, 1),
    ):
        median, low, high = (value / unit for value in asdict(spread).values())
        print(f"  {what:<19} {median:8.4g}  ({low:.4g} – {high:.4g})")
    print(
        f"  a token reads {speed.bytes_per_token / 2**20:,.1f} MiB of weights; "
        f"peak memory {speed.peak_memory_bytes / 2**20:,.0f} MiB"
    )
