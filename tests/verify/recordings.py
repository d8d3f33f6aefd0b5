"""Recordings, each replayed once a process."""

from functools import cache
from pathlib import Path

from torch import Tensor

from ostinato.verify.comparison import Recording
from ostinato.verify.golden import read_golden
from ostinato.verify.golden_recursive import compare, precision_of, replay, rounding_floors
from ostinato.verify.replay import Rounding

GOLDEN = Path(__file__).parent.parent / "golden"
RECURSIVE = sorted(
    path.stem for path in GOLDEN.glob("*.safetensors") if path.stem[:3] in ("hrm", "trm")
)


class Measured:
    """A recording, our numbers and their floors."""

    def __init__(self, name: str):
        self.golden, self.metadata = read_golden(GOLDEN / f"{name}.safetensors")
        self.ours = replay(self.golden, self.metadata, Rounding())
        self.floors = rounding_floors(self.golden, self.metadata, self.ours)
        self.precision = precision_of(self.metadata)

    def failed(
        self, golden: Recording | None = None, ours: dict[str, Tensor] | None = None
    ) -> list[str]:
        """The kinds that fail with other recorded numbers, or with other ones of ours."""
        rows = compare(golden or self.golden, ours or self.ours, self.floors, self.precision)
        return [row.kind for row in rows if not row.passed]

    def replayed(self, golden: Recording | None = None) -> list[str]:
        """The kinds that fail when it, or a changed file, is replayed as things are now."""
        golden = golden or self.golden
        return self.failed(golden, replay(golden, self.metadata, Rounding()))


@cache
def measured(name: str) -> Measured:
    """Do not change what it holds."""
    return Measured(name)
