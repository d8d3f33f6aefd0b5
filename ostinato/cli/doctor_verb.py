"""`ostinato doctor`."""

from dataclasses import asdict, dataclass

from ostinato.cli import Command
from ostinato.cli.arguments import read
from ostinato.numbers import to_json


@dataclass(frozen=True)
class Doctor:
    """Try every device in every dtype: a forward and a backward pass, an update of a small model,
    writing and reading it, and generating with it; and list the versions in use.

    The exit code is 1 if anything fails.
    """

    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        from ostinato.doctor import examine, versions

        if not self.json:
            for name, version in versions().items():
                print(f"{name:<12} {version}")
        findings = []
        for finding in examine():
            findings.append(finding)
            if not self.json:
                print(f"{finding.device:<12} {finding.dtype:<10} {finding.error or 'works'}")
        if self.json:
            content = {"versions": versions(), "findings": [asdict(each) for each in findings]}
            print(to_json(content))
        return 1 if any(finding.error for finding in findings) else 0


def parse(words: list[str]) -> Command:
    """The words behind `ostinato doctor`."""
    return read(Doctor, words, "doctor").run
