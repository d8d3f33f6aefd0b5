"""Make the fidelity report: all rows measured, then the intended deviations."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ostinato.verify.check import Check, Row
from ostinato.verify.golden import GoldenResult
from ostinato.verify.rows import TOPICS, checks_of


@dataclass(frozen=True)
class Measured:
    """Hold a check and its rows, one per model."""

    check: Check
    rows: list[Row]

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    @property
    def largest(self) -> float:
        """Return the largest difference over all models."""
        return max(row.difference for row in self.rows)

    @property
    def models(self) -> str:
        """Return the models that were measured; empty if the check needs none."""
        return ", ".join(row.model for row in self.rows if row.model)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, verdicts included."""
        check = self.check
        return {
            "check": check.name,
            "documents": check.documents.split(),
            "reference": check.reference,
            "measured": check.measured,
            "passed": self.passed,
            "rows": [asdict(row) | {"passed": row.passed} for row in self.rows],
        }


@dataclass(frozen=True)
class Section:
    """Hold the checks of one topic."""

    title: str
    checks: list[Measured]

    @property
    def passed(self) -> bool:
        return all(measured.passed for measured in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, verdicts included."""
        checks = [measured.to_json() for measured in self.checks]
        return {"topic": self.title, "passed": self.passed, "checks": checks}


@dataclass(frozen=True)
class Deviation:
    """Describe an intended difference from the originals."""

    originals: str
    here: str
    reason: str


DEVIATIONS = (
    Deviation(
        "stablemax in float64",
        "in fp32, each branch clamped to its side",
        "the same function and gradient, without the overflow, and fast on every device",
    ),
    Deviation(
        "TRM's continue head and softmax loss crash",
        "both work, for TRM and HRM",
        "they are settings of the released code",
    ),
    Deviation(
        "accuracies of halted slots are logged as `accuracy`",
        "they are named `halted_…`",
        "they describe training and are no test accuracy",
    ),
    Deviation(
        "the 1000 Sudoku training puzzles are drawn without a seed",
        "seeded; the subset's hash is recorded",
        "two builds give the same set",
    ),
    Deviation(
        "the order within a puzzle comes from the global generator and differs by rank",
        "one seeded generator, the same on every rank",
        "a run can be repeated and resumed",
    ),
    Deviation(
        "the last partial batch of a pass over the data is dropped",
        "epochs follow each other without a gap",
        "no example is lost where a pass has few batches",
    ),
    Deviation(
        "symmetric copies of Sudoku are built in advance",
        "drawn when a puzzle is loaded; copies on request (`num_aug`)",
        "more variety in less space",
    ),
    Deviation(
        "rows meant for slots that have not halted are thrown away",
        'the same by default; `refill="stream"` hands them out later',
        "no example is lost where data are few",
    ),
    Deviation(
        "evaluation always takes all steps",
        "the same by default; early exit as an option",
        "most puzzles are solved long before the last step",
    ),
    Deviation(
        "checkpoints hold the averaged weights alone",
        "the whole state of training",
        "a resumed run continues the uninterrupted one bit for bit",
    ),
    Deviation(
        "a misspelt setting is ignored, missing data are passed over",
        "an error that names the remedy",
        "silence costs days",
    ),
    Deviation(
        "the best checkpoint is chosen on the test set",
        "on a validation split from unused training puzzles",
        "a score on puzzles that were used to choose is too good",
    ),
    Deviation(
        "ARC's ids follow the order of files on disk",
        "tasks sorted by name; the ids' names are stored",
        "a checkpoint fits a data set that is built again",
    ),
    Deviation(
        "ARC's votes of all evaluations of a run add up",
        "each evaluation counts its own",
        "a score is that of one checkpoint",
    ),
    Deviation(
        "ARC's evaluation needs several processes",
        "works with one; several give the same",
        "a score on any machine",
    ),
    Deviation(
        "every variant of an ARC task is written out, 900 cells each",
        "how to make it is stored; written out on request",
        "the same examples in about a hundredth of the space",
    ),
    Deviation(
        "`total_puzzles` counts groups",
        "counts puzzles",
        "it says so",
    ),
    Deviation(
        "CUDA, FlashAttention, a compiled optimiser and W&B are needed",
        "plain PyTorch on CPU, MPS and CUDA; trackers are optional",
        "anybody can run it",
    ),
)


def measure() -> Iterator[Section]:
    """Measure everything, topic by topic."""
    for topic in TOPICS:
        checks = [Measured(check, list(check.rows())) for check in checks_of(topic)]
        yield Section(topic.TITLE, checks)


def to_markdown(sections: Iterable[Section], golden: Iterable[GoldenResult] = ()) -> str:
    """Write the report as a page; differences as bounds, so that all machines write the same."""
    sections, golden = list(sections), list(golden)
    checks = [measured for section in sections for measured in section.checks]
    failed = sum(not measured.passed for measured in checks)
    lines = [
        "# Fidelity",
        "",
        "How far this package is from the released TRM and HRM code, and nanochat from the papers",
        "that it follows. Written by",
        "`ostinato verify --golden tests/golden --markdown docs/fidelity.md`; measured anew by the",
        "tests, which also break the implementation in many ways and see that a row notices.",
        "",
        f"{len(checks)} facts, {failed} of them not met. A difference is the largest one found,",
        "against a few plain lines in float64 (`ostinato/verify/reference.py`, and",
        "`reference_text.py` for nanochat); where none is allowed, violations are counted. Numbers",
        "in the second column are those of the requirement documents.",
        "",
    ]
    for section in sections:
        lines += [f"## {section.title}", "", *table(CHECK_HEADER), *map(check_line, section.checks)]
        lines.append("")
    if golden:
        lines += GOLDEN_TEXT + table(("recording", "kinds", "numbers", "tolerance", "verdict"))
        lines += map(golden_line, golden)
        lines.append("")
    lines += ["## Intended deviations", "", *table(("the originals", "here", "why"))]
    lines += [cells(d.originals, d.here, d.reason) for d in DEVIATIONS]
    return "\n".join(lines) + "\n"


CHECK_HEADER = (
    "fact",
    "documents",
    "the originals",
    "measured",
    "models",
    "largest difference",
    "verdict",
)
GOLDEN_TEXT = [
    "## Recorded runs",
    "",
    "Runs of the released code, replayed: every recorded number is compared. Each step starts from",
    "what was recorded before it. Differences beyond the tolerance count as agreement only up to",
    "what rounding alone does to that number, measured by replays in float64 and with shaken",
    "numbers; a kind of number of which rounding decides everything would fail.",
    "",
]


def table(header: tuple[str, ...]) -> list[str]:
    """Return the first two lines of a Markdown table."""
    return [cells(*header), "|" + "---|" * len(header)]


def cells(*texts: str) -> str:
    """Write one line of a Markdown table."""
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def check_line(measured: Measured) -> str:
    """Write a check as a line of a Markdown table."""
    check = measured.check
    bound = f"≤ {check.tolerance:.1g}" if check.tolerance else "0"
    return cells(
        check.name,
        check.documents,
        check.reference,
        check.measured,
        measured.models,
        bound if measured.passed else f"{measured.largest:.2g}",
        "passed" if measured.passed else "**failed**",
    )


def golden_line(result: GoldenResult) -> str:
    """Write a recording as a line of a Markdown table."""
    name = result.file.removesuffix(".safetensors")
    kinds = ", ".join(row.kind for row in result.comparisons)
    tolerances = sorted({row.tolerance for row in result.comparisons})
    failed = ", ".join(row.kind for row in result.comparisons if not row.passed)
    return cells(
        name,
        kinds,
        f"{sum(row.numbers for row in result.comparisons):,}",
        ", ".join(f"{tolerance:.0e}" for tolerance in tolerances),
        "passed" if result.passed else f"**failed**: {result.error or failed}",
    )
