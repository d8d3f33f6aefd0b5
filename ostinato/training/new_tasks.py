"""Test-time training: tasks of ARC that a trained model has never seen.

A new task has no row in the puzzle embedding, and the model cannot know what it asks for. So rows
for the task and for random variants of it start from the mean of all trained rows and learn from
the demonstrations, while the weights stay as they are or go on learning with them; then all
variants vote for the answers.

Source: the evaluation of HRM and TRM on ARC, whose tasks' demonstrations are part of the training;
to add them afterwards with frozen weights is what their `freeze_weights` is for.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ostinato.data.arc.builder import build
from ostinato.data.arc.dataset import write
from ostinato.data.arc.sources import ArcTask
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.stored import StoredData, first_variants
from ostinato.evaluation.arc import ArcVotes, vote
from ostinato.models import HRMConfig, RecursiveModel, TRMConfig
from ostinato.numbers import Count, Natural, NonNegative, Seed, check_numbers
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.run import Changed, run
from ostinato.weights.load import load


class Interrupted(Exception):
    """A signal ended the training; what was learnt is in the folder."""


@dataclass(frozen=True)
class TestTimeTraining:
    """The settings for learning new tasks."""

    num_aug: Natural = 100
    """Variants of each task, besides the task itself, that learn and vote."""
    steps: Count = 500
    """Number of optimiser steps."""
    batch_size: Count = 64
    """Number of slots."""
    puzzle_emb_lr: NonNegative = 1e-2
    """Learning rate of the rows (sign-SGD)."""
    lr: NonNegative = 0.0
    """Learning rate of the weights; 0 leaves them as they are."""
    seed: Seed = 0
    """Seed of the variants and of the training."""

    __test__ = False  # keep pytest from taking it for a test

    def __post_init__(self):
        check_numbers(self)


def learn_and_vote(
    source: Path,
    tasks: Sequence[ArcTask],
    settings: TestTimeTraining,
    folder: Path,
    device: str = "auto",
    report: Callable[[str], None] = print,
) -> ArcVotes:
    """Train rows for `tasks` in front of the model in `source`, and let their variants vote.

    The data set and the run are kept in `folder`, so the same call resumes an interrupted run.
    Raises ValueError if the model is not one for ARC, if a task does not fit on its canvas, or if
    `folder` holds a run with other settings; Interrupted if a signal comes; TrainingError if the
    loss is no longer finite.
    """
    model = load(source, kind=RecursiveModel)
    config = model.config
    side = math.isqrt(config.seq_len)
    if side**2 != config.seq_len or config.vocab_size != 12 or model.puzzle_emb is None:
        raise ValueError(f"{source} is no model of ARC: train one with ostinato train arc-tiny")
    assert isinstance(config, TRMConfig | HRMConfig)

    data = folder / "data"
    sets = build([], [], tasks, settings.num_aug, side, settings.seed)
    train = sets.splits["train"]
    # Training watches whether the demonstrations are learnt
    sets.splits["validation"] = first_variants(train, np.arange(train.num_groups))
    write(data, sets, tasks)

    training = TrainingConfig(
        total_steps=settings.steps,
        global_batch_size=settings.batch_size,
        lr=settings.lr,
        weight_decay=0.0,
        puzzle_emb_lr=settings.puzzle_emb_lr,
        puzzle_emb_weight_decay=0.0,
        warmup_steps=0,
        ema_decay=0.0,
        # Evaluate once, at the end: the last weights are kept
        eval_every=settings.steps,
        checkpoint_every=max(1, settings.steps // 4),
        init_from=str(source),
        puzzle_embeddings="mean",
        freeze="nothing" if settings.lr else "weights",
        seed=settings.seed,
        device=device,
    )
    recipe = Recipe(
        name="test-time training",
        model=replace(
            config,
            num_puzzle_identifiers=len(sets.names),
            forward_dtype="auto" if config.forward_dtype == "bfloat16" else config.forward_dtype,
        ),
        data=StoredData(str(data), augment=False),
        training=training,
    )
    try:
        # The tests are to be answered, not measured, so the model may know them
        outcome = run(recipe, folder / "run", folder, report=report, unseen=False)
    except Changed as error:
        raise ValueError(f"{folder} was begun with {error.change}: use another folder") from None
    if not outcome.finished:
        raise Interrupted(f"stopped by {outcome.reason}")
    report(f"{outcome.best:.0%} of the demonstrations are reproduced; the variants vote")
    votes = ArcVotes.of_folder(data)
    trained = load(folder / "run", model.H_init.device, kind=RecursiveModel)
    vote(trained, PuzzleSet.load(data, "test"), votes)
    return votes
