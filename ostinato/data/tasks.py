"""The kinds of puzzles by name. A new kind is one file or folder and one line in `KINDS`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ostinato.data.built import BuiltData
from ostinato.data.maze import SIZES as MAZE_SIZES
from ostinato.data.maze import Maze, MazeData
from ostinato.data.sudoku import SIZES as SUDOKU_SIZES
from ostinato.data.sudoku import Sudoku, SudokuData
from ostinato.data.task import Task


class Kind(NamedTuple):
    """Hold the classes and sizes of a kind of puzzle."""

    task: type[Task]
    """Class of the task, which is made with a size."""
    sizes: Sequence[int]
    data: type[BuiltData]

    @property
    def tasks(self) -> list[Task]:
        """Make a task for each size."""
        make: Any = self.task
        return [make(size) for size in self.sizes]


KINDS = (
    Kind(Sudoku, SUDOKU_SIZES, SudokuData),
    Kind(Maze, MAZE_SIZES, MazeData),
)

TASKS: dict[str, Task] = {task.name: task for kind in KINDS for task in kind.tasks}
"""Name → task."""


def task_named(name: str) -> Task:
    """Return the task of that name. Raises ValueError if it is unknown."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}: choose one of {known_tasks()}")
    return TASKS[name]


def known_tasks() -> str:
    """List the names for a message; many sizes are written as a range."""
    names = []
    for kind in KINDS:
        first, *_, last = tasks = [task.name for task in kind.tasks]
        names += tasks if len(tasks) <= 5 else [f"{first} to {last}"]
    return ", ".join(names)
