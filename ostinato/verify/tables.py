"""The results of `ostinato verify` on a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ostinato.verify.golden import GoldenResult
from ostinato.verify.report import DEVIATIONS, Section
from ostinato.verify.run import Finding

LEGEND = (
    "largest: difference from the recorded number (gradients: relative to the largest entry)\n"
    "floor: how far rounding alone can move it on this machine; strict: within the tolerance;\n"
    "limited: beyond it, but within the floor; chaotic: the floor is too high to prove anything"
)


def print_golden(console: Console, result: GoldenResult) -> None:
    """One file: a line for each kind of number."""
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
    """A word in a colour."""
    return Text("passed", "green") if passed else Text("FAILED", "bold red")


def figure(value: float) -> str:
    """Two digits; 0 and NaN as they are."""
    return f"{value:.1e}" if value else "0"


def print_section(console: Console, section: Section) -> None:
    """The checks of one topic, one line each."""
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
    """What is different on purpose."""
    table = Table(title="Intended deviations", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("the originals", "here", "why"):
        table.add_column(name, ratio=1)
    for deviation in DEVIATIONS:
        table.add_row(deviation.originals, deviation.here, deviation.reason)
    console.print(table)


def print_finding(console: Console, finding: Finding) -> None:
    """A line."""
    line = Text.assemble(
        verdict(finding.passed), "  ", (finding.name, "bold"), f"  {finding.found}"
    )
    console.print(line, soft_wrap=True)
