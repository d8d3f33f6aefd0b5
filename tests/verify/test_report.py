"""The fidelity report: every row holds, and the page in docs says what the tool measures."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from ostinato.cli.verify import print_deviations, print_section
from ostinato.verify.check import Row, apart, check
from ostinato.verify.golden import read_golden
from ostinato.verify.report import DEVIATIONS, Measured, Section, measure, to_markdown
from ostinato.verify.rows import TOPICS, checks_of

ROOT = Path(__file__).parent.parent.parent
CHECKS = [check for topic in TOPICS for check in checks_of(topic)]


@pytest.fixture(scope="module")
def sections() -> list[Section]:
    return list(measure())


def test_every_row_holds(sections: list[Section]):
    failed = [row for s in sections for m in s.checks for row in m.rows if not row.passed]
    assert failed == []
    assert sum(len(section.checks) for section in sections) == len(CHECKS)


def test_the_page_is_current(sections: list[Section]):
    lines = (ROOT / "docs/fidelity.md").read_text("utf-8").splitlines()
    start, end = lines.index("## Recorded runs"), lines.index("## Intended deviations")
    report = "\n".join(lines[:start] + lines[end:]) + "\n"
    assert report == to_markdown(sections), "run the command that the page names"

    rows = [line.strip("| ").split(" | ") for line in lines[start:end] if line.startswith("| ")]
    found = {name: (numbers, verdict) for name, _, numbers, _, verdict in rows[1:]}
    recordings = sorted((ROOT / "tests/golden").glob("*.safetensors"))
    assert [*(path.stem for path in recordings), "arc"] == list(found)
    assert {verdict for _, verdict in found.values()} == {"passed"}  # other tests see that it is
    for path in recordings:
        golden, metadata = read_golden(path)
        if metadata.get("model") in ("trm", "hrm"):
            recorded = (v for k, v in golden.items() if "/batch/" not in k and "init/" not in k)
            assert found[path.stem][0] == f"{sum(v.numel() for v in recorded):,}"


def test_every_requirement_document_is_answered():
    named = {document for check in CHECKS for document in check.documents.split()}
    assert named == {"000", "001", "002", "003", "004"}
    assert all(check.reference and check.measured for check in CHECKS)
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_a_failed_row_is_shown(sections: list[Section]):
    @check("Pi", "000", "3.14159", 1e-6)
    def wrong() -> float:
        """The difference."""
        return 0.14

    section = Section("Numbers", [Measured(wrong, list(wrong.rows()))])
    assert not section.passed and not section.to_json()["passed"]
    assert "**failed**" in to_markdown([section])
    assert "1 facts, 1 of them not met" in to_markdown([section])
    console = Console(width=90, record=True)
    print_section(console, section)
    print_deviations(console)
    assert "FAILED" in console.export_text()
    for real in sections:
        assert json.loads(json.dumps(real.to_json()))["passed"]


def test_a_difference_that_is_no_number_fails():
    assert not Row("x", "", float("nan"), 1.0).passed
    assert apart([1.0, float("nan")], [1.0, 2.0]) == float("inf")
    assert apart([1.0], [1.0, 1.0]) == float("inf")


def test_deviations_have_reasons():
    assert all(d.originals and d.here and d.reason for d in DEVIATIONS)
