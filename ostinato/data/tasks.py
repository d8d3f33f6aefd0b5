"""The kinds of puzzles by name. A new kind is one file or folder and one line in `KINDS`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ostinato.data.futoshiki import Futoshiki
from ostinato.data.lightup import LightUp
from ostinato.data.maze import SIZES as MAZE_SIZES
from ostinato.data.maze import Maze
from ostinato.data.own import own_task
from ostinato.data.sudoku import SIZES as SUDOKU_SIZES
from ostinato.data.sudoku import Sudoku
from ostinato.data.table import GymTable, Table
from ostinato.data.task import Task


class Kind(NamedTuple):
    """Name the class of a kind of puzzle, which is made with a size."""

    task: type[Task]
    sizes: Sequence[int]

    @property
    def tasks(self) -> list[Task]:
        """Make a task for each size."""
        make: Any = self.task
        return [make(size) for size in self.sizes]


KINDS = (
    Kind(Sudoku, SUDOKU_SIZES),
    Kind(Maze, MAZE_SIZES),
    Kind(LightUp, LightUp.sizes),
    Kind(Futoshiki, Futoshiki.sizes),
)

TASKS: dict[str, Task] = {task.name: task for kind in KINDS for task in kind.tasks}
"""Name → task."""


def task_named(name: str) -> Task:
    """Return the task of a model or a data set. Raises ValueError if it is not known."""
    if (task := find_task(name)) is None:
        raise ValueError(
            f"unknown task {name!r}: choose one of {known_tasks()}, or give the file of your own "
            "with --task FILE.py:Class"
        )
    return task


def find_task(name: str) -> Task | None:
    """Return the task of a model or a data set; None if it is not known, or has no name."""
    for table in (Table, GymTable):
        if name.startswith(table.prefix):
            return table.from_name(name)
    return TASKS.get(name) or own_task(name)


def known_tasks() -> str:
    """List the names for a message; many sizes are written as a range."""
    names = []
    for kind in KINDS:
        first, *_, last = tasks = [task.name for task in kind.tasks]
        names += tasks if len(tasks) <= 5 else [f"{first} to {last}"]
    return ", ".join(names)
