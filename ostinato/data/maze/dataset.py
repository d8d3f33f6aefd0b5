"""`MazeData`: the settings of a maze data set."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ostinato.data.built import GENERATED, BuiltData, Report, Seen
from ostinato.data.maze.generator import default_length, generate, generate_carved, labelled
from ostinato.data.maze.rules import Maze
from ostinato.data.tables import Rows
from ostinato.numbers import Natural

HARD = "maze-30x30-hard-1k"
CARVED = ("carved", "max_length")
"""Settings that other data sets do not depend on."""
SATURATED = 1 / 1000  # if fewer of a batch are new, practically all mazes have been found


@dataclass(frozen=True)
class MazeData(BuiltData):
    """Describe a maze data set: random mazes, or rows of CSV files.

    The source may also be `maze-30x30-hard-1k`, the data set on the Hub.
    """

    ON_HUB: ClassVar[dict[str, str]] = {HARD: f"sapientinc/{HARD}"}
    IN_ORDER: ClassVar[bool] = True

    num_validation: Natural = 200
    """Number of mazes to choose checkpoints by. Taken from the training rows if the source has no
    validation split."""
    size: int = 30
    """Side of the mazes, from 3 to 64."""
    min_length: int | None = None
    """Minimum number of steps of the shortest path of a generated maze. By default 111 for 30x30,
    otherwise the side of the maze."""
    unique: bool = False
    """Generate only mazes with a single shortest path, so that the label is the only answer."""
    perfect: bool = False
    """Generate perfect mazes: corridors without loops, so that only one path leads to the goal."""
    carved: bool = False
    """Generate perfect mazes as EqR's Maze-Unique has them: carved depth first, with paths of
    min_length (by default 100 for 30x30) to max_length steps, all equally often."""
    max_length: int | None = None
    """Maximum number of steps of carved mazes. By default 140 for 30x30, otherwise twice the side
    of the maze."""
    validate_on: Literal["held-out", "generated"] = "held-out"
    """Take the validation mazes from the training rows of a source that has none, or generate them
    and train on all rows, as HRM and TRM do."""

    def __post_init__(self):
        maze = self.task
        if self.source == GENERATED and self.validate_on == GENERATED:
            raise ValueError("validate_on is for mazes in files: leave it out, all are generated")
        generated = any(self.generates(split) for split in self.counts)
        for name, default in (
            ("min_length", None),
            ("max_length", None),
            ("unique", False),
            ("perfect", False),
            ("carved", False),
        ):
            if not generated and getattr(self, name) != default:
                raise ValueError(
                    f"{name} is for generated mazes: leave it out with source={self.source!r}"
                )
        if self.perfect and self.unique:
            raise ValueError("unique does nothing with perfect, whose mazes have a single path")
        if self.carved and self.perfect:
            raise ValueError("carved mazes are perfect ones of another kind: choose one of them")
        if self.max_length is not None and not self.carved:
            raise ValueError("max_length is for carved mazes: leave it out, or add carved")
        if self.carved and self.length > self.longest:
            raise ValueError(
                f"min_length {self.length} is more than max_length {self.longest}: swap them"
            )
        if self.perfect and self.size % 2 == 0:
            raise ValueError(f"perfect mazes have an odd size, not {self.size}: add one")
        super().__post_init__()
        if not 1 <= self.length < maze.seq_len:
            raise ValueError(
                f"no {maze.name} has a shortest path of {self.length} steps: set min_length from 1 "
                f"to less than {maze.seq_len}"
            )
        if self.source == HARD and self.size != 30:
            raise ValueError(f"{HARD} holds 30x30 mazes: set size=30, not {self.size}")

    @property
    def task(self) -> Maze:
        return Maze(self.size)

    @property
    def length(self) -> int:
        """Return the minimum number of steps of the shortest path of generated mazes."""
        if self.min_length is not None:
            return self.min_length
        return 100 if self.carved and self.size == 30 else default_length(self.size)

    @property
    def longest(self) -> int:
        """Return the maximum number of steps of carved mazes."""
        usual = 140 if self.size == 30 else 2 * self.size
        return usual if self.max_length is None else self.max_length

    def facts(self) -> dict[str, Any]:
        facts = super().facts() | {"min_length": self.length, "max_length": self.longest}
        return facts if self.carved else {k: v for k, v in facts.items() if k not in CARVED}

    def generates(self, split: str) -> bool:
        on_demand = split == "validation" and self.validate_on == GENERATED
        return super().generates(split) or on_demand

    def generate(self, count: int, rng: np.random.Generator, seen: Seen, report: Report) -> Rows:
        maze, known = self.task, len(seen)
        inputs = np.zeros((0, maze.seq_len), np.uint8)
        while len(inputs) < count:
            missing = max(count - len(inputs), 64)
            if self.carved:
                lengths = self.length, self.longest
                drawn = generate_carved(maze, missing, lengths, rng, report)
            else:
                drawn = generate(maze, missing, self.length, rng, self.unique, self.perfect, report)
            fresh, signatures = self.fresh(Rows.unrated(drawn, drawn), np.arange(len(drawn)), seen)
            seen = np.concatenate([seen, signatures[fresh]])
            inputs = np.concatenate([inputs, drawn[fresh]])
            if len(inputs) < count and len(fresh) < SATURATED * len(drawn):
                raise ValueError(
                    f"found only {len(seen) - known} different {maze.name} puzzles with at least "
                    f"{self.length} steps, not {count}: ask for fewer, or lower min_length"
                )
        # Rare mazes tend to be found late, so shuffle before splitting
        return labelled(inputs[rng.permutation(count)])
