"""`ostinato bench solve RUN`."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ostinato.cli import Command
from ostinato.cli.arguments import read
from ostinato.numbers import to_json

if TYPE_CHECKING:
    from ostinato.bench.solving import SolvingSpeed


@dataclass(frozen=True)
class BenchSolve:
    """Measure how many puzzles a second a trained model solves: with all steps for each, with early
    exit, and with searches.

    All are measured in turn, several times: medians are shown with the least and the most. The
    first number of puzzles, batch_size and max_steps is measured for all of them, each further one
    for fixed steps and early exit.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder, or a weights file (which needs --data)."""
    data: Path | None = None
    """Other puzzles: a data set folder, or a CSV file, or a folder with test.csv."""
    split: str | None = None
    """Part of the data set: test (the default), validation or train."""
    puzzles: tuple[int, ...] = (256,)
    """How many of them, from the first."""
    batch_size: tuple[int, ...] = ()
    """Puzzles to think about at a time (default: as many as `ostinato solve`)."""
    max_steps: tuple[int, ...] = ()
    """Steps to think about each puzzle (default: as many as in training)."""
    searches: tuple[str, ...] = ()
    """Named searches, such as cascade."""
    search_sizes: tuple[float, ...] = (1.0,)
    """Sizes of each search: so many times its depth, views, rollouts and guesses."""
    repeat: int = 3
    """Repetitions."""
    compile: bool = False
    """Compile the model; needs a C++ compiler."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    forward_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Dtype to think in. "auto": as in training, but float32 on a CPU that is slow in bfloat16."""
    json: bool = False
    """Print one JSON object instead of a table."""
    data_root: Path = Path("data")
    """Where the data sets of runs are, or are built again."""

    def run(self) -> int:
        from ostinato.bench.solving import bench_solving, cases_of
        from ostinato.cli.eval import Eval, find_puzzles
        from ostinato.inference.think import usual_batch_size
        from ostinato.models import RecursiveModel
        from ostinato.training.run import pick_device
        from ostinato.weights.load import load

        model = load(
            self.model,
            pick_device(self.device),
            kind=RecursiveModel,
            forward_dtype=self.forward_dtype,
        )
        usual = [model.config.halt_max_steps]
        for name in ("puzzles", "search_sizes"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give at least one number")
        cases = cases_of(
            list(self.searches),
            list(self.puzzles),
            list(self.batch_size) or [usual_batch_size(model)],
            list(self.max_steps) or usual,
            list(self.search_sizes),
        )
        where = Eval(self.model, data=self.data, split=self.split, data_root=self.data_root)
        puzzles, _ = find_puzzles(where, model)
        if self.compile:
            model.compile_reasoning(dynamic=True)
        speed = bench_solving(
            model,
            puzzles,
            cases,
            self.repeat,
            self.compile,
            report=lambda line: print(line, file=sys.stderr),
        )
        if self.json:
            print(to_json({"model": str(self.model), **asdict(speed)}))
        else:
            print_table(str(self.model), speed)
        return 0


def parse(words: list[str]) -> Command:
    """The words behind `ostinato bench solve`."""
    return read(BenchSolve, words, "bench solve").run


def print_table(model: str, speed: "SolvingSpeed") -> None:
    """The result with its units, a line for each case."""
    from rich.console import Console

    from ostinato.cli.tables import percent, table

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
