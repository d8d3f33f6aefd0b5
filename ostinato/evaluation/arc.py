"""Score ARC: all variants of a task vote for the answers to its tests.

Every prediction is cropped to its grid, mapped back from the variant to the task, and counts as a
vote for that grid. Candidates are ranked by their votes, then by the mean confidence of the model.
A test is solved at K if its answer is among the first K candidates. A task scores the share of its
tests that are solved, and pass@K is the mean over tasks.

Source: the ARC evaluator of TRM's released code. That one adds up the votes of all evaluations of a
run and needs several processes. Here an `ArcVotes` belongs to one evaluation, and processes merge
theirs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ostinato.data.arc.dataset import NAMES, TASKS, read_names, read_test_tasks
from ostinato.data.arc.sources import ArcTask, Pair, Variant
from ostinato.data.batches import test_batches
from ostinato.data.grids import Grid, crops
from ostinato.data.puzzles import PuzzleSet
from ostinato.evaluation.puzzles import Answers
from ostinato.inference.think import think, usual_batch_size
from ostinato.models import RecursiveModel

PASS_AT = (1, 2, 5, 10, 100, 1000)
VOTES = "votes.json"
"""File in a run folder with the first `SHOWN` candidates for each test of the tasks."""
SHOWN = 4
ATTEMPTS = 2
"""Number of answers to a test in a submission."""

NOWHERE = 2**63 - 1
"""Place of an answer without votes."""

Key = bytes
"""A grid as bytes: number of rows, number of columns, colours."""


@dataclass
class Candidate:
    """Count the votes for an answer."""

    first: int
    """Number of the first example that voted for it. It breaks ties, whatever the number of
    processes."""
    votes: int = 0
    confidence: float = 0.0
    """Sum of sigmoid(q_halt)."""

    @property
    def rank(self) -> tuple[int, float, int]:
        """Return a sort key that puts the best candidate first."""
        return -self.votes, -self.confidence / self.votes, self.first


@dataclass
class ArcVotes:
    """Collect the votes of one evaluation, or of one process's part of it.

    Memory grows only with the number of different candidates: each is held once per test.
    """

    names: list[str]
    """Name of the variant of each puzzle id."""
    tasks: list[ArcTask]
    """Tasks whose tests are voted on."""
    ballots: dict[tuple[str, Key], dict[Key, Candidate]] = field(default_factory=dict)
    """(task, input of a test) → candidates."""

    @classmethod
    def of_folder(cls, folder: Path) -> "ArcVotes":
        """Start without votes for the test split of a data set, ours or one of HRM and TRM."""
        return cls(read_names(folder), read_test_tasks(folder))

    def add(self, answers: Answers) -> None:
        """Count these answers."""
        # As in TRM: sigmoid in float64, whatever the dtype of q
        sure = 1 / (1 + np.exp(-answers.q_halt.astype(np.float64)))
        grids = crops(answers.inputs), crops(answers.answers)
        for example, puzzle_id, question, answer, confidence in zip(
            answers.examples, answers.puzzle_ids, *grids, sure, strict=True
        ):
            variant = Variant.named(self.names[puzzle_id])
            ballot = self.ballots.setdefault((variant.task, key_of(variant.undo(question))), {})
            key = key_of(variant.undo(answer))
            candidate = ballot.setdefault(key, Candidate(int(example)))
            candidate.votes += 1
            candidate.confidence += float(confidence)

    def merge(self, other: "ArcVotes") -> None:
        """Add the votes of another process for other examples of the same evaluation."""
        for test, theirs in other.ballots.items():
            ballot = self.ballots.setdefault(test, {})
            for answer, candidate in theirs.items():
                mine = ballot.setdefault(answer, Candidate(candidate.first))
                mine.first = min(mine.first, candidate.first)
                mine.votes += candidate.votes
                mine.confidence += candidate.confidence

    def ranking(self, task: str, question: Grid) -> list[tuple[Grid, Candidate]]:
        """Return the candidates for a test of a task, best first."""
        ballot = self.ballots.get((task, key_of(question)), {})
        ranked = sorted(ballot.items(), key=lambda entry: entry[1].rank)
        return [(grid_of_key(key), candidate) for key, candidate in ranked]

    @property
    def answered(self) -> list[ArcTask]:
        """Return the tasks that can be scored because the answers to all their tests are known."""
        return [t for t in self.tasks if all(pair.output is not None for pair in t.test)]

    def pass_at(self, numbers: Sequence[int] = PASS_AT) -> dict[int, float]:
        """Return, by K, the mean over tasks of the share of tests solved by the first K candidates.

        Tasks with an unknown answer are left out. Raises ValueError if that leaves none.
        """
        if not self.answered:
            raise ValueError("all tasks come without answers to their tests: nothing can be scored")
        places = [
            np.array([self.place_of_answer(task.name, pair) for pair in task.test])
            for task in self.answered
        ]
        return {k: float(np.mean([np.mean(tests < k) for tests in places])) for k in numbers}

    def place_of_answer(self, task: str, pair: Pair) -> int:
        """Count the candidates ranked before the right answer; `NOWHERE` if it has no votes."""
        assert pair.output is not None
        right = key_of(pair.output)
        for place, (answer, _) in enumerate(self.ranking(task, pair.input)):
            if key_of(answer) == right:
                return place
        return NOWHERE

    def shares(self) -> dict[str, float]:
        """Return the scores by name, such as "pass@2"."""
        return {f"pass@{number}": share for number, share in self.pass_at().items()}

    def files(self) -> dict[str, object]:
        """Return the submission and the votes, by the names of their files."""
        return {"submission.json": self.submission(), VOTES: self.to_json()}

    def to_json(self) -> dict[str, Any]:
        """Return the tasks, each test with its number of votes and its first few candidates."""
        content = {}
        for task in self.tasks:
            content[task.name] = task.to_json()
            for pair, test in zip(task.test, content[task.name]["test"], strict=True):
                ranking = self.ranking(task.name, pair.input)
                test["votes"] = sum(candidate.votes for _, candidate in ranking)
                test["candidates"] = [
                    {
                        "output": answer.tolist(),
                        "votes": candidate.votes,
                        "confidence": candidate.confidence / candidate.votes,
                    }
                    for answer, candidate in ranking[:SHOWN]
                ]
        return content

    def submission(self) -> dict[str, list[dict[str, Any]]]:
        """Return the content of Kaggle's submission.json: two attempts at each test.

        The first is repeated if there is no second; without votes both are [[0]].
        """
        content = {}
        for task in self.tasks:
            content[task.name] = []
            for pair in task.test:
                ranked = [answer.tolist() for answer, _ in self.ranking(task.name, pair.input)]
                ranked = ranked or [[[0]]]
                attempts = (ranked + ranked[:1] * ATTEMPTS)[:ATTEMPTS]
                entry = {f"attempt_{n}": answer for n, answer in enumerate(attempts, start=1)}
                content[task.name].append(entry)
        return content


def vote(
    model: RecursiveModel,
    puzzles: PuzzleSet,
    votes: ArcVotes,
    batch_size: int | None = None,
    *,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Let this rank's examples of a split vote, whether or not their answers are known.

    `progress` receives the number of examples done on all ranks.
    """
    batch_size = usual_batch_size(model) if batch_size is None else batch_size
    batch_size = min(batch_size, -(-len(puzzles) // world_size))
    for number, (batch, real) in enumerate(test_batches(puzzles, batch_size, rank, world_size)):
        first = (number * world_size + rank) * batch_size
        *_, step = think(model, batch.inputs, batch.puzzle_ids)
        votes.add(Answers.of(first, batch, real, step))
        if progress is not None:
            progress(min((number + 1) * world_size * batch_size, len(puzzles)))


def key_of(grid: Grid) -> Key:
    """Convert a grid to bytes."""
    return bytes(grid.shape) + grid.tobytes()


def grid_of_key(key: Key) -> Grid:
    """Convert bytes back to a grid."""
    return np.frombuffer(key, np.uint8, offset=2).reshape(key[0], key[1])


@runtime_checkable
class Tally(Protocol):
    """Count the answers of one evaluation, or one process's part of them."""

    def add(self, answers: Answers) -> None:
        """Count these answers."""
        ...

    def merge(self, other: Any) -> None:
        """Add the counts of a tally of the same kind from another process."""
        ...

    def shares(self) -> dict[str, float]:
        """Return the scores by name, from 0 to 1."""
        ...

    def files(self) -> dict[str, object]:
        """Return further results: name of a file → its JSON."""
        ...


def tally_for(folder: Path, split: str) -> Tally | None:
    """Return the tally to keep, besides accuracy, for a split of a data set; None if there is none.

    ARC tests are voted on: a data set that lists its test tasks gets an `ArcVotes` for the test
    split. Raises ValueError if its files are faulty.
    """
    listed = (folder / NAMES).exists() and (folder / TASKS).exists()
    return ArcVotes.of_folder(folder) if split == "test" and listed else None
