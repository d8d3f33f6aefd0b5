"""How well a model solves a split when it may stop early, or search: accuracy against compute.

Early exit and search are not how the published models are evaluated (`evaluation/puzzles.py` is),
so their figures stand on their own, beside what was used to get them. What the model selects itself
(by q, by the first to halt, by the residual) and what a rule checker selects are different claims.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from ostinato.data.batches import test_batches
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.tasks import task_named
from ostinato.evaluation.puzzles import (
    Interval,
    RatingRange,
    by_rating,
    check_fits,
    wilson_interval,
)
from ostinato.inference.pursuit import Question
from ostinato.inference.search import Search, Selection, Way
from ostinato.inference.stream import think_stream
from ostinato.models import RecursiveModel


@dataclass(frozen=True)
class Found:
    """The answers that one way of thinking gave."""

    way: Way
    accepted: int
    """Answers accepted: by the rules with `verify`, else because the model halted on them."""
    accepted_right: int
    others: int
    """Answers that were not accepted, but the best there were."""
    others_right: int


@dataclass(frozen=True)
class SearchEvaluation:
    """The result of `evaluate_search`. Accuracies are shares of 1, intervals hold 95 %."""

    search: Search
    max_steps: int
    """The usual number of steps, in units of which the search is deep."""
    selected_by: Literal["rules"] | Selection
    """Who chose the answers: a rule checker, or the model, by what."""
    puzzles: int
    exact_accuracy: float
    exact_interval: Interval
    found: list[Found]
    exact_by_rating: list[RatingRange]
    """From easy to hard; empty if the puzzles have no ratings."""
    keep_the_rules: int | None
    """Answers that keep the rules, whoever selected them; None if the rules are not known."""
    steps_per_puzzle: float
    """Supervision steps, those of all attempts, on average."""
    attempts_per_puzzle: float
    puzzles_per_second: float


def evaluate_search(
    model: RecursiveModel,
    puzzles: PuzzleSet,
    search: Search,
    batch_size: int | None = None,
    max_steps: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> SearchEvaluation:
    """Think about every puzzle of the split as `search` says.

    `progress` is told how many puzzles are done. Raises ValueError if the puzzles do not fit the
    model or have no answers, and if the model does not know rules or symmetries that are needed.
    """
    check_fits(model, puzzles)
    task = task_named(model.config.task) if model.config.task else None
    counts = {way: np.zeros((2, 2), int) for way in get_args(Way)}
    total = attempts = steps = keeping = 0
    exact: list[bool] = []
    ratings: list[float] = []
    start = time.perf_counter()
    thoughts = think_stream(model, questions(puzzles), search, max_steps, batch_size)
    for number, thought in enumerate(thoughts):
        labels = np.asarray(puzzles.labels[number], np.int64)
        ignored = puzzles.metadata.ignore_label_id
        valid = np.ones(len(labels), bool) if ignored is None else labels != ignored
        attempt = thought.attempt
        total += 1
        attempts += thought.attempts
        steps += thought.total_steps
        if valid.any():
            right = bool((attempt.answer == labels)[valid].all())
            exact.append(right)
            if puzzles.ratings is not None:
                ratings.append(float(puzzles.ratings[number]))
            counts[attempt.way][int(attempt.accepted), int(right)] += 1
            keeping += task is not None and task.check(thought.tokens, attempt.answer) is None
        if progress is not None:
            progress(total)
    seconds = time.perf_counter() - start
    if not exact:
        raise ValueError("none of the puzzles has an answer to compare with: choose another split")
    accuracy = sum(exact) / len(exact)
    return SearchEvaluation(
        search=search,
        max_steps=model.config.halt_max_steps if max_steps is None else max_steps,
        selected_by="rules" if search.verify else search.select,
        puzzles=len(exact),
        exact_accuracy=accuracy,
        exact_interval=wilson_interval(accuracy, len(exact)),
        found=[
            Found(way, int(count[1].sum()), int(count[1, 1]), int(count[0].sum()), int(count[0, 1]))
            for way, count in counts.items()
            if count.any()
        ],
        exact_by_rating=by_rating(torch.tensor(exact), np.array(ratings)) if ratings else [],
        keep_the_rules=keeping if task is not None and task.has_rules else None,
        steps_per_puzzle=steps / total,
        attempts_per_puzzle=attempts / total,
        puzzles_per_second=total / seconds,
    )


def questions(puzzles: PuzzleSet) -> Iterator[Question]:
    """The examples of a split in order, read as they are asked for."""
    for batch, real in test_batches(puzzles, min(1024, len(puzzles))):
        for row in range(real):
            yield Question(batch.inputs[row], int(batch.puzzle_ids[row]))
