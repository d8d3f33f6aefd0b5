"""Evaluate a model on a split with early exit or search: accuracy against compute.

The published models are evaluated without either (`evaluation/puzzles.py`). So these figures are
reported apart, together with the search that gave them. Answers that the model selects itself (by
q, by the first to halt, by the residual) and answers that a rule checker selects are different
claims.
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
    """Count the answers of one stage of the search."""

    way: Way
    accepted: int
    """Number of accepted answers: by the rules with `verify`, else because the model halted."""
    accepted_right: int
    others: int
    """Number of answers that were selected without being accepted."""
    others_right: int


@dataclass(frozen=True)
class SearchEvaluation:
    """Hold the result of `evaluate_search`. Accuracies are shares of 1, with 95 % intervals."""

    search: Search
    max_steps: int
    """Usual number of steps, the unit of the search's depths."""
    selected_by: Literal["rules"] | Selection
    """Selector of the answers: a rule checker ("rules"), or a measure of the model."""
    puzzles: int
    exact_accuracy: float
    exact_interval: Interval
    found: list[Found]
    exact_by_rating: list[RatingRange]
    """From easy to hard; empty if the puzzles have no ratings."""
    keep_the_rules: int | None
    """Number of answers that keep the rules, however selected; None if the rules are not known."""
    steps_per_puzzle: float
    """Mean number of supervision steps of a puzzle, over all its attempts."""
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

    `progress` receives the number of puzzles done. Raises ValueError if the puzzles do not fit the
    model or have no answers, and if the search needs rules or symmetries that are not known.
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
    """Yield the examples of a split in order, reading as needed."""
    for batch, real in test_batches(puzzles, min(1024, len(puzzles))):
        for row in range(real):
            yield Question(batch.inputs[row], int(batch.puzzle_ids[row]))
