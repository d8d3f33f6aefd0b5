"""Define `GeneratedData`: random puzzles of a kind in one file, such as a user's own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ostinato.data.built import BuiltData, Report, Seen
from ostinato.data.grid import Grid
from ostinato.data.tables import Rows, sha256
from ostinato.data.tasks import task_named
from ostinato.numbers import Natural

PATIENCE = 1000
"""Stop looking for new puzzles after this many failed attempts in a row."""
REPORTED = 1000
"""Puzzles between two lines of the report."""


@dataclass(frozen=True)
class GeneratedData(BuiltData):
    """Describe random puzzles of a kind in one file, or rows of tables of them."""

    puzzle: str = ""
    """Kind and size, such as "futoshiki5"."""
    board: Natural = 0
    """Size of the puzzles of FILE.py:Class; 0: its least size."""
    num_train: Natural = 5000
    """Training puzzles; 0 takes all rows of a table."""
    num_validation: Natural = 200
    """Puzzles to choose checkpoints by; taken from training rows where the source has none."""
    size: Literal["tiny", "small", "full"] = "tiny"
    """Size of the model and of its training, if the recipe leaves it open: tiny for minutes
    of a CPU, small for hours, full for a GPU."""

    @property
    def task(self) -> Grid:
        task = task_named(self.puzzle)
        assert isinstance(task, Grid)
        return task

    def facts(self) -> dict[str, object]:
        """List what the files depend on, the code of a kind outside of this package included."""
        facts = super().facts()
        del facts["size"], facts["board"]
        module = type(self.task).__module__
        if not module.startswith("ostinato."):
            facts["code"] = sha256(Path(sys.modules[module].__file__ or ""))
        return facts

    def generate(self, count: int, rng: np.random.Generator, seen: Seen, report: Report) -> Rows:
        task, known = self.task, set(seen.tolist())
        inputs, labels, failures = [], [], 0
        while len(inputs) < count:
            drawn = task.generate(rng)
            if drawn is not None:
                puzzle, answer = (task.parse(text) for text in drawn)
                signature = task.signatures(puzzle[None], answer[None])[0].item()
                if signature not in known:
                    if problem := task.check(puzzle, answer):
                        raise ValueError(f"{task.name} draws a wrong answer: {problem}: correct it")
                    known.add(signature)
                    inputs.append(puzzle)
                    labels.append(answer)
                    failures = 0
                    if len(inputs) % REPORTED == 0:
                        report(f"generated {len(inputs):,} of {count:,} {task.name} puzzles")
                    continue
            failures += 1
            if failures == PATIENCE:
                raise ValueError(
                    f"found only {len(inputs)} different {task.name} puzzles, not {count}: ask for "
                    "fewer with num_train"
                )
        return Rows.unrated(np.stack(inputs), np.stack(labels))
