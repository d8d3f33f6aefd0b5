"""`ostinato verify`."""

import json
from dataclasses import dataclass
from pathlib import Path

from ostinato.cli import Command
from ostinato.cli.arguments import read


@dataclass(frozen=True)
class Verify:
    """Compare this implementation of TRM and HRM with the released one, number by number.

    Without arguments: the fidelity report, a measurement for each fact about the originals. With
    --golden: recorded runs of the original code, replayed. Exit code 1 if anything is missed.
    """

    golden: Path | None = None
    """A folder of golden files (*.safetensors) to replay, or of a recorded data set of ARC."""
    markdown: Path | None = None
    """Write the report, and the recordings if there are any, to this page."""
    json: bool = False
    """Print one JSON object for each topic and recording instead of tables."""

    def run(self) -> int:
        from rich.console import Console

        from ostinato.training.run_folder import write_text
        from ostinato.verify.golden import verify_folder
        from ostinato.verify.report import measure, to_markdown
        from ostinato.verify.tables import LEGEND, print_deviations, print_golden, print_section

        console = Console(highlight=False)
        sections, recordings = [], []
        if self.golden is None or self.markdown is not None:
            for section in measure():
                sections.append(section)
                if self.json:
                    print(json.dumps(section.to_json()))
                else:
                    print_section(console, section)
            if not self.json:
                print_deviations(console)
        if self.golden is not None:
            for recording in verify_folder(self.golden):
                recordings.append(recording)
                if self.json:
                    print(json.dumps(recording.to_json()))
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
