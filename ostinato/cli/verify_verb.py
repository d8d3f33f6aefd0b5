"""`ostinato verify`."""

import json
from dataclasses import dataclass
from pathlib import Path

from ostinato.cli import Command
from ostinato.cli.arguments import read


@dataclass(frozen=True)
class Verify:
    """Replay recorded runs of the original TRM and HRM code and compare every number.

    Exit code 1 if a number is missed.
    """

    golden: Path
    """A folder of golden files (*.safetensors)."""
    json: bool = False
    """Print one JSON object a file instead of tables."""

    def run(self) -> int:
        from rich.console import Console

        from ostinato.verify.golden import verify_folder
        from ostinato.verify.tables import LEGEND, print_golden

        console = Console(highlight=False)
        passed = True
        for result in verify_folder(self.golden):
            passed = passed and result.passed
            if self.json:
                print(json.dumps(result.to_json()))
            else:
                print_golden(console, result)
        if not self.json:
            console.print(LEGEND, style="dim")
        return 0 if passed else 1


def parse(words: list[str]) -> Command:
    """The words behind `ostinato verify`."""
    return read(Verify, words, "verify").run
