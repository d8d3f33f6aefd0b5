"""Variants of a task of ARC: a symmetry of the square and new names for the colours.

A variant is called `task|||t<symmetry>|||<permutation>`, where digit c of the permutation is the
new name of colour c. Black, 0, keeps its name. The task as it is has no suffix.

Source: `aug` and `inverse_aug` in the released codes.
"""

import re
from dataclasses import dataclass

import numpy as np

from ostinato.data.dihedral import transform, undo
from ostinato.data.grids import COLOURS, Grid

SAME_COLOURS = "0123456789"
NAME = re.compile(r"(?s)(.+?)(?:\|\|\|t([0-7])\|\|\|([0-9]{10}))?")


@dataclass(frozen=True)
class Variant:
    """One view of a task; `apply` and `undo` are exact inverses."""

    task: str
    symmetry: int = 0
    """A number of `ostinato.data.dihedral`."""
    permutation: str = SAME_COLOURS
    """New names of the colours 0, 1, 2, …"""

    def __str__(self) -> str:
        if (self.symmetry, self.permutation) == (0, SAME_COLOURS):
            return self.task
        return f"{self.task}|||t{self.symmetry}|||{self.permutation}"

    @classmethod
    def named(cls, name: str) -> "Variant":
        """The variant of that name. Raises ValueError if it is none."""
        match = NAME.fullmatch(name)
        if match is None or "|||" in match[1] or (match[3] and sorted(match[3]) != [*SAME_COLOURS]):
            raise ValueError(
                f"{name!r} is no variant of a task: write task|||t0|||{SAME_COLOURS}, with a "
                "symmetry from 0 to 7 and a permutation of the colours"
            )
        return cls(match[1], int(match[2] or 0), match[3] or SAME_COLOURS)

    @property
    def colours(self) -> np.ndarray:
        """New name of each colour."""
        return np.frombuffer(self.permutation.encode(), np.uint8) - ord("0")

    def apply(self, grid: Grid) -> Grid:
        """The grid as this variant shows it."""
        return transform(self.colours[grid], self.symmetry)

    def undo(self, grid: Grid) -> Grid:
        """The grid of the task itself that this variant shows as `grid`."""
        return undo(np.argsort(self.colours).astype(np.uint8)[grid], self.symmetry)


def random_variant(task: str, rng: np.random.Generator) -> Variant:
    """Any symmetry, any permutation of the colours but black."""
    others = rng.permutation(np.arange(1, COLOURS))
    return Variant(task, int(rng.integers(8)), "0" + "".join(map(str, others)))
