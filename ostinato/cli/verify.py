"""`ostinato verify`."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ostinato.numbers import to_json
from ostinato.verify.golden import GoldenResult
from ostinato.verify.report import DEVIATIONS, Section
from ostinato.verify.run import Finding


@dataclass(frozen=True)
class Verify:
    """Compare TRM and HRM with the released code and nanochat with its papers, number by number.

    Without arguments: the fidelity report, a measurement for each fact about the originals. With
    --golden: recorded runs of the original code, replayed. With RUN: whether a run is whole, its
    weights and checkpoints finite, and its recorded scores come out again. Exit code 1 if anything
    is missed.
    """

    run_folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN]")] = None
    """A run folder, or weights, to check in place of the code."""
    golden: Path | None = None
    """Replay the golden files (*.safetensors) or the recorded ARC data set in this folder."""
    markdown: Path | None = None
    """Write the report, and the results of --golden, to this Markdown file."""
    json: bool = False
    """Print a JSON object for each topic, recording or finding instead of tables."""
    device: str = "auto"
    """Device to evaluate a run on. "auto": CUDA, else MPS, else CPU."""
    data_root: Path = Path("data")
    """Folder of the data sets of runs; missing ones are rebuilt there."""

    def run(self) -> int:
        if self.run_folder is None:
            return self.verify_code()
        if self.golden is not None or self.markdown is not None:
            raise ValueError("a run has no report: leave out --golden and --markdown")
        return self.verify_run(self.run_folder)

    def verify_run(self, path: Path) -> int:
        """Check a run, or weights."""
        from rich.console import Console

        from ostinato.cli.verify import print_finding
        from ostinato.training.run import pick_device
        from ostinato.verify.run import verify_run

        device, passed = pick_device(self.device), True
        for finding in verify_run(
            path, self.data_root, device, lambda line: print(line, file=sys.stderr)
        ):
            passed = passed and finding.passed
            if self.json:
                print(to_json(asdict(finding)))
            else:
                print_finding(Console(highlight=False), finding)
        return 0 if passed else 1

    def verify_code(self) -> int:
        """Measure the facts about the originals, and replay recordings."""
        from ostinato.files import write_text
        from ostinato.verify.golden import verify_folder
        from ostinato.verify.report import measure, to_markdown

        console = Console(highlight=False)
        sections, recordings = [], []
        if self.golden is None or self.markdown is not None:
            for section in measure():
                sections.append(section)
                if self.json:
                    print(to_json(section.to_json()))
                else:
                    print_section(console, section)
            if not self.json:
                print_deviations(console)
        if self.golden is not None:
            for recording in verify_folder(self.golden):
                recordings.append(recording)
                if self.json:
                    print(to_json(recording.to_json()))
                else:
                    print_golden(console, recording)
            if not self.json:
                console.print(LEGEND, style="dim")
        if self.markdown is not None:
            write_text(self.markdown, to_markdown(sections, recordings))
        return 0 if all(result.passed for result in [*sections, *recordings]) else 1


LEGEND = (
    "largest: difference from the recorded number (gradients: relative to the largest entry)\n"
    "floor: how far rounding alone can move it on this machine; strict: within the tolerance;\n"
    "limited: beyond it, but within the floor; chaotic: the floor is too high to prove anything"
)


def print_golden(console: Console, result: GoldenResult) -> None:
    """Print the result of one file, a line for each kind of number."""
    console.print(Text(result.file, "bold"), verdict(result.passed))
    if result.error:
        console.print(f"  {result.error}", style="red", markup=False, highlight=False)
        return
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("kind", width=13)
    for name in "largest tolerance floor strict limited chaotic missed".split():
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in result.comparisons:
        counts = (row.strict, row.limited, row.chaotic, row.missed)
        table.add_row(
            row.kind,
            *(figure(value) for value in (row.largest, row.tolerance, row.floor)),
            *(f"{count:,}" if count else "" for count in counts),
            verdict(row.passed),
        )
    console.print(table)


def verdict(passed: bool) -> Text:
    """Return the verdict as a coloured word."""
    return Text("passed", "green") if passed else Text("FAILED", "bold red")


def figure(value: float) -> str:
    """Write a number with two digits; 0 and NaN as they are."""
    return f"{value:.1e}" if value else "0"


def print_section(console: Console, section: Section) -> None:
    """Print the checks of one topic, one line each."""
    console.print(Text(section.title, "bold"))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("fact", ratio=3)
    table.add_column("the originals", ratio=5, style="dim")
    for name in ("difference", "allowed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for measured in section.checks:
        table.add_row(
            measured.check.name,
            measured.check.reference,
            figure(measured.largest),
            figure(measured.check.tolerance),
            verdict(measured.passed),
        )
    console.print(table)


def print_deviations(console: Console) -> None:
    """Print the intended deviations."""
    table = Table(title="Intended deviations", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("the originals", "here", "why"):
        table.add_column(name, ratio=1)
    for deviation in DEVIATIONS:
        table.add_row(deviation.originals, deviation.here, deviation.reason)
    console.print(table)


def print_finding(console: Console, finding: Finding) -> None:
    """Print a finding in one line."""
    line = Text.assemble(
        verdict(finding.passed), "  ", (finding.name, "bold"), f"  {finding.found}"
    )
    console.print(line, soft_wrap=True)
