"""Scores that single answers do not tell, such as the votes of ARC's variants."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ostinato.data.arc.dataset import NAMES, TASKS
from ostinato.evaluation.arc import ArcVotes
from ostinato.evaluation.puzzles import Answers


@runtime_checkable
class Tally(Protocol):
    """Takes in the answers of one evaluation, or one process's part of them."""

    def add(self, answers: Answers) -> None:
        """Count these answers."""
        ...

    def merge(self, other: Any) -> None:
        """Add what another tally of the same kind has counted in another process."""
        ...

    def shares(self) -> dict[str, float]:
        """The scores by name, from 0 to 1."""
        ...

    def files(self) -> dict[str, object]:
        """What else comes of it: name of a file → its JSON."""
        ...


def tally_for(folder: Path, split: str) -> Tally | None:
    """What is to be counted beside the accuracy for a split of a data set; None: nothing.

    The tests of ARC are voted on, and a data set that lists them has such a test split. Raises
    ValueError if its files are faulty.
    """
    listed = (folder / NAMES).exists() and (folder / TASKS).exists()
    return ArcVotes.of_folder(folder) if split == "test" and listed else None
