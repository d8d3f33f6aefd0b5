"""`ostinato verify`."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ostinato.cli import Command
from ostinato.cli.arguments import read
from ostinato.numbers import to_json


@dataclass(frozen=True)
class Verify:
    """Compare this implementation of TRM and HRM with the released one, number by number.

    Without arguments: the fidelity report, a measurement for each fact about the originals. With
    --golden: recorded runs of the original code, replayed. With RUN: whether a run is whole, its
    weights and checkpoints finite, and its recorded scores come out again. Exit code 1 if anything
    is missed.
    """

    run_folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN]")] = None
    """A run folder, or weights, to check instead."""
    golden: Path | None = None
    """A folder of golden files (*.safetensors) to replay, or of a recorded data set of ARC."""
    markdown: Path | None = None
    """Write the report, and the recordings if there are any, to this page."""
    json: bool = False
    """Print one JSON object for each topic, recording or finding instead of tables."""
    device: str = "auto"
    """Where a run is evaluated: "auto": CUDA, else MPS, else CPU."""
    data_root: Path = Path("data")
    """Where the data sets of runs are, or are built again."""

    def run(self) -> int:
        if self.run_folder is None:
            return self.verify_code()
        if self.golden is not None or self.markdown is not None:
            raise ValueError("a run has no report: leave out --golden and --markdown")
        return self.verify_run(self.run_folder)

    def verify_run(self, path: Path) -> int:
        """Check a run, or weights."""
        from rich.console import Console

        from ostinato.training.run import pick_device
        from ostinato.verify.run import verify_run
        from ostinato.verify.tables import print_finding

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
        """Measure and replay."""
        from rich.console import Console

        from ostinato.files import write_text
        from ostinato.verify.golden import verify_folder
        from ostinato.verify.report import measure, to_markdown
        from ostinato.verify.tables import LEGEND, print_deviations, print_golden, print_section

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


def parse(words: list[str]) -> Command:
    """The words behind `ostinato verify`."""
    return read(Verify, words, "verify").run
