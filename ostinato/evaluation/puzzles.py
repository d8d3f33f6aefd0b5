"""Evaluate a recursive model (TRM, HRM) on a split: accuracy with intervals, by step, by rating."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ostinato.data.batches import IGNORE_LABEL, Batch, test_batches
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.tasks import find_task
from ostinato.inference.think import Step, think, usual_batch_size
from ostinato.models import RecursiveModel, State

Interval = tuple[float, float]


class Answers(NamedTuple):
    """Hold the answers to a few puzzles after the last step."""

    examples: Int[np.ndarray, " batch"]
    """Places of the puzzles in the split."""
    inputs: Int[np.ndarray, "batch cells"]
    puzzle_ids: Int[np.ndarray, " batch"]
    answers: Int[np.ndarray, "batch cells"]
    q_halt: Float[np.ndarray, " batch"]
    """Confidence of the model, as a logit."""

    @classmethod
    def of(cls, first: int, batch: Batch, real: int, step: Step) -> "Answers":
        """Take a step's answers to the `real` rows of a batch that begins with example `first`."""
        return cls(
            np.arange(first, first + real),
            batch.inputs[:real].numpy(),
            batch.puzzle_ids[:real].numpy(),
            step.answer[:real].cpu().numpy(),
            step.q_halt[:real].float().cpu().numpy(),
        )


@dataclass(frozen=True)
class RatingRange:
    """Hold the accuracy on puzzles of similar difficulty."""

    ratings: str
    """Range of ratings, such as "3", or "5-8" for ratings from 5 to below 9."""
    puzzles: int
    exact_accuracy: float
    exact_interval: Interval


@dataclass(frozen=True)
class Score:
    """Hold the share of final answers that have some property defined by the rules."""

    share: float
    interval: Interval


@dataclass(frozen=True)
class Calibration:
    """Count puzzles by the q head and by correctness after the last step; sure is q_halt > 0."""

    sure_right: int
    sure_wrong: int
    unsure_right: int
    unsure_wrong: int

    @property
    def precision(self) -> float | None:
        """Return the share of right answers among the sure ones; None if there are none."""
        sure = self.sure_right + self.sure_wrong
        return self.sure_right / sure if sure else None

    @property
    def recall(self) -> float | None:
        """Return the share of sure answers among the right ones; None if there are none."""
        right = self.sure_right + self.unsure_right
        return self.sure_right / right if right else None


@dataclass(frozen=True)
class Evaluation:
    """Hold the result of `evaluate`. Accuracies are shares of 1, with 95 % intervals."""

    puzzles: int
    """Number of puzzles with an answer to compare with."""
    steps: int
    """Number of supervision steps for every puzzle."""
    exact_accuracy: float
    """Share of puzzles with every cell right."""
    exact_interval: Interval
    cell_accuracy: float
    """Share of right cells, averaged over puzzles."""
    cell_interval: Interval
    scores: dict[str, Score]
    """Further scores of the kind of puzzle, such as `shortest_path`, over all puzzles with an
    answer to compare with. Empty if there are none."""
    exact_by_step: list[float]
    """Exact accuracy of the answers after step 1, 2, …"""
    drift_by_step: list[float]
    """Movement of the states in step 1, 2, …, relative to their norm, on average;
    1 for the first step. It goes to 0 where the model settles."""
    exact_by_rating: list[RatingRange]
    """From easy to hard; empty if the puzzles have no ratings."""
    q_calibration: Calibration
    puzzles_per_second: float
    """Throughput of all processes together."""

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON, with the precision and recall of the q head."""
        q = self.q_calibration
        calibration = {**asdict(q), "precision": q.precision, "recall": q.recall}
        return {**asdict(self), "q_calibration": calibration}


def alone(tensor: Tensor) -> Tensor:
    """Return the sum over ranks when there is only one."""
    return tensor


def evaluate(
    model: RecursiveModel,
    puzzles: PuzzleSet,
    batch_size: int | None = None,
    max_steps: int | None = None,
    *,
    rank: int = 0,
    world_size: int = 1,
    sum_over_ranks: Callable[[Tensor], Tensor] = alone,
    progress: Callable[[float], None] | None = None,
    on_answers: Callable[[Answers], None] | None = None,
) -> Evaluation:
    """Evaluate every puzzle of the split with `max_steps` steps (default: as in training).

    As in HRM and TRM, nothing halts early, and the answer is the one after the last step. Batches
    have the same size, at most `batch_size` puzzles (default: see `usual_batch_size`).

    With `world_size` processes, each thinks about its share, and `sum_over_ranks` (`World.sum`)
    combines the shares: the result counts every puzzle once and is the same on every rank.
    `progress` receives the number of puzzles done, with fractions, after every step. `on_answers`
    receives this process's answers batch by batch, for scores that are not sums (ARC's votes).
    Raises ValueError if the puzzles do not fit the model or have no answers.
    """
    check_fits(model, puzzles)
    num_steps = model.config.halt_max_steps if max_steps is None else max_steps
    batch_size = usual_batch_size(model) if batch_size is None else batch_size
    for name, value in (("max_steps", num_steps), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    rounds = math.ceil(len(puzzles) / (batch_size * world_size))
    batch_size = math.ceil(len(puzzles) / (rounds * world_size))

    device = model.H_init.device
    exact, moved = torch.zeros(2, num_steps, len(puzzles), device=device)
    cells, sure, labelled = torch.zeros(3, len(puzzles), device=device)
    task = find_task(puzzles.metadata.task or model.config.task)
    by_rules: dict[str, Tensor] = {}
    start = time.perf_counter()
    for number, (batch, real) in enumerate(test_batches(puzzles, batch_size, rank, world_size)):
        first = (number * world_size + rank) * batch_size
        here = slice(first, first + real)
        labels = batch.labels[:real].to(device)
        valid = labels != IGNORE_LABEL
        count = valid.sum(-1)
        step = state = None
        thinking = think(model, batch.inputs, batch.puzzle_ids, num_steps)
        for index, step in enumerate(thinking):
            right = ((step.answer[:real] == labels) & valid).sum(-1)
            exact[index, here] = (right == count).float()
            moved[index, here] = movement(step.state, state)[:real]
            state = step.state
            cells[here] = right / count.clamp(min=1)
            sure[here] = (step.q_halt[:real] > 0).float()
            if progress is not None:
                before = number * world_size * batch_size
                together = min(world_size * batch_size, len(puzzles) - before)
                progress(before + together * (index + 1) / num_steps)
        labelled[here] = (count > 0).float()
        assert step is not None
        if on_answers is not None and real:
            on_answers(Answers.of(first, batch, real, step))
        if task is not None:
            answers = step.answer[:real].cpu().numpy()
            for name, passed in task.scores(batch.inputs[:real].numpy(), answers).items():
                column = by_rules.setdefault(name, torch.zeros(len(puzzles), device=device))
                column[here] = torch.from_numpy(passed).to(column)
    exact, moved, cells, sure, labelled = (
        sum_over_ranks(found).cpu() for found in (exact, moved, cells, sure, labelled)
    )
    by_rules = {name: sum_over_ranks(passed).cpu() for name, passed in by_rules.items()}
    seconds = time.perf_counter() - start

    scored = labelled > 0
    if not scored.any():
        raise ValueError("none of the puzzles has an answer to compare with: choose another split")
    exact, cells, sure = exact[:, scored] > 0, cells[scored].double(), sure[scored] > 0
    final = exact[-1]
    ratings = None if puzzles.ratings is None else puzzles.ratings[scored.numpy()]
    exact_accuracy = final.double().mean().item()
    return Evaluation(
        puzzles=len(final),
        steps=num_steps,
        exact_accuracy=exact_accuracy,
        exact_interval=wilson_interval(exact_accuracy, len(final)),
        cell_accuracy=cells.mean().item(),
        cell_interval=interval_of_shares(cells),
        scores={name: score_of(passed[scored]) for name, passed in by_rules.items()},
        exact_by_step=exact.double().mean(1).tolist(),
        drift_by_step=moved[:, scored].double().mean(1).tolist(),
        exact_by_rating=[] if ratings is None else by_rating(final, ratings),
        q_calibration=Calibration(
            sure_right=int((sure & final).sum()),
            sure_wrong=int((sure & ~final).sum()),
            unsure_right=int((~sure & final).sum()),
            unsure_wrong=int((~sure & ~final).sum()),
        ),
        puzzles_per_second=len(puzzles) / seconds,
    )


def movement(state: State, previous: State | None) -> Float[Tensor, " batch"]:
    """Return how far each puzzle's states moved, relative to their norm; 1 from nothing."""
    if previous is None:
        return state.z_H.new_ones(len(state.z_H), dtype=torch.float32)
    now, before = (torch.cat(each, dim=1).flatten(1).float() for each in (state, previous))
    return (now - before).norm(dim=1) / now.norm(dim=1)


def check_fits(model: RecursiveModel, puzzles: PuzzleSet) -> None:
    """Raise ValueError if the puzzles do not fit the model."""
    data, config = puzzles.metadata, model.config
    if data.seq_len != config.seq_len or data.vocab_size > config.vocab_size:
        raise ValueError(
            f"the puzzles have {data.seq_len} cells and {data.vocab_size} tokens, the model is for "
            f"{config.seq_len} cells and {config.vocab_size} tokens: use data like those it was "
            "trained on"
        )
    largest = int(puzzles.puzzle_identifiers.max())
    if model.puzzle_emb is not None and largest >= config.num_puzzle_identifiers:
        raise ValueError(
            f"the puzzles have ids up to {largest}, the model knows those below "
            f"{config.num_puzzle_identifiers}: use the data set it was trained on"
        )


def wilson_interval(share: float, trials: int | float, z: float = 1.959964) -> Interval:
    """Return the 95 % confidence interval of a proportion (Wilson 1927), valid at 0 and 1 too."""
    assert 0 <= share <= 1 and trials > 0
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def score_of(passed: Float[Tensor, " puzzles"]) -> Score:
    """Return the share of ones with its interval."""
    share = passed.double().mean().item()
    return Score(share, wilson_interval(share, len(passed)))


def interval_of_shares(shares: Float[Tensor, " puzzles"]) -> Interval:
    """Return the 95 % interval of the mean of one share per puzzle.

    Cells of a puzzle are right or wrong together, so they are not independent trials. Wilson's
    interval therefore gets as many trials as a proportion of the same variance would need.
    """
    mean = shares.mean().item()
    variance = shares.var(correction=0).item()
    trials = len(shares) * mean * (1 - mean) / variance if variance else len(shares)
    return wilson_interval(mean, trials)


def by_rating(
    exact: Bool[Tensor, " puzzles"], ratings: Float[np.ndarray, " puzzles"]
) -> list[RatingRange]:
    """Return the exact accuracy for ratings 0, 1, 2, 3-4, 5-8, 9-16, …: ranges double in width."""
    starts = [0, 1, 2, 3]
    while starts[-1] <= ratings.max():
        starts.append(2 * starts[-1] - 1)
    table = []
    for low, end in pairwise(starts):
        inside = exact.numpy()[(ratings >= low) & (ratings < end)]
        if len(inside):
            share = float(inside.mean())
            name = str(low) if end == low + 1 else f"{low}-{end - 1}"
            table.append(RatingRange(name, len(inside), share, wilson_interval(share, len(inside))))
    return table
