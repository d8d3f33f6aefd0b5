"""`ostinato verify --golden` for a data set of ARC that TRM's builder and evaluator have recorded.

    *_challenges.json, *_solutions.json   the tasks, as Kaggle gives them out
    built/                                the data set that the builder made of them
    predictions.npz                       answers to its test split: preds, q_halt_logits,
                                          puzzle_identifiers
    expected_pass_at_k.json               what the evaluator says of them
    submission.json                       what it hands in

The builder draws at random, but a variant's name says what it shows: every grid of the data set has
to be reproduced from it. Votes are counted by one process and by two.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta

from ostinato.data.arc.dataset import NAMES, TASKS, read_names
from ostinato.data.arc.sources import ArcTask, Pair, Variant, read_folder
from ostinato.data.grids import FIRST_COLOUR, place
from ostinato.data.puzzles import PuzzleSet
from ostinato.decoding import read_json, read_npz
from ostinato.evaluation.arc import ArcVotes
from ostinato.evaluation.puzzles import Answers
from ostinato.verify.comparison import PRECISIONS, Comparison, Tally

BUILT, PREDICTIONS, PASS_AT, SUBMISSION = (
    "built",
    "predictions.npz",
    "expected_pass_at_k.json",
    "submission.json",
)
PassAt = Annotated[str, Meta(pattern=r"@[0-9]{1,4}$")]
Submission = dict[str, list[dict[str, list[list[int]]]]]


def is_arc(folder: Path) -> bool:
    """Return whether a folder holds such a recording, even an incomplete one."""
    return (folder / BUILT).is_dir() or (folder / PREDICTIONS).exists()


def verify_arc(folder: Path) -> list[Comparison]:
    """Compare grids, pass@K and submission. Raises ValueError if a file is missing or damaged."""
    for path in (folder / BUILT / NAMES, folder / BUILT / TASKS, folder / PREDICTIONS):
        if not path.exists():
            raise ValueError(f"{path.relative_to(folder)} is missing; restore it")
    comparisons = [compare_grids(folder, split) for split in ("train", "test")]
    one = count_votes(folder, 1)
    comparisons += [compare_scores(folder, one), compare_submission(folder, one)]
    two = count_votes(folder, 2)
    comparisons += [
        compare_scores(folder, two, " ×2"),
        compare_submission(folder, two, " ×2"),
    ]
    return comparisons


def compare_grids(folder: Path, split: str) -> Comparison:
    """Compare all tokens of a split, drawn again from the names of the variants."""
    recorded = PuzzleSet.load(folder / BUILT, split)
    names = read_names(folder / BUILT)
    evaluated = read_json(folder / BUILT / TASKS, dict[str, Any])
    tasks = {name: task for part in read_folder(folder).values() for name, task in part.items()}
    side = round(recorded.metadata.seq_len**0.5)
    tally = Tally(f"{split} grids", PRECISIONS["float32"])
    for puzzle, identifier in enumerate(recorded.puzzle_identifiers):
        variant = Variant.named(names[identifier])
        if variant.task not in tasks:
            raise ValueError(f"{BUILT} has a task {variant.task} that no file of challenges holds")
        pairs = pairs_shown(tasks[variant.task], split, variant.task in evaluated)
        begin, end = recorded.puzzle_indices[puzzle : puzzle + 2]
        if end - begin != len(pairs):
            raise ValueError(f"{names[identifier]} has {end - begin} pairs, not {len(pairs)}")
        for example, pair in zip(range(begin, end), pairs, strict=True):
            tokens = recorded.inputs[example].reshape(side, side)
            corner = [int(axis.min()) for axis in np.nonzero(tokens)]
            for grid, there in ((pair.input, recorded.inputs), (pair.output, recorded.labels)):
                canvas = np.zeros((side, side), np.uint8)
                if grid is not None:
                    place(canvas, variant.apply(grid) + FIRST_COLOUR, *corner)
                add(tally, names[identifier], canvas.ravel(), there[example])
    return tally.comparison()


def pairs_shown(task: ArcTask, split: str, evaluated: bool) -> tuple[Pair, ...]:
    """Return the pairs of a task that a split has."""
    if split == "test":
        return task.test
    return task.train if evaluated else task.pairs


def count_votes(folder: Path, processes: int) -> ArcVotes:
    """Count the votes of the recorded answers; each of n processes counts every n-th of them."""
    inputs = PuzzleSet.load(folder / BUILT, "test").inputs
    keys = ("puzzle_identifiers", "preds", "q_halt_logits")
    ids, answers, q_halt = read_npz(folder / PREDICTIONS, keys)
    if len(answers) != len(inputs):
        raise ValueError(f"{PREDICTIONS} has {len(answers)} answers to {len(inputs)} tests")
    total = ArcVotes.of_folder(folder / BUILT)
    for rank in range(processes):
        votes = ArcVotes.of_folder(folder / BUILT)
        rows = np.arange(rank, len(inputs), processes)
        votes.add(Answers(rows, inputs[rows], ids[rows], answers[rows], q_halt[rows]))
        total.merge(votes)
    return total


def compare_scores(folder: Path, votes: ArcVotes, name: str = "") -> Comparison:
    """Compare pass@K for every K that was recorded."""
    tally = Tally(f"pass@K{name}", PRECISIONS["float32"])
    for key, recorded in read_json(folder / PASS_AT, dict[PassAt, float]).items():
        (ours,) = votes.pass_at([int(key.rpartition("@")[2])]).values()
        add(tally, key, np.array([ours]), np.array([recorded]))
    return tally.comparison()


def compare_submission(folder: Path, votes: ArcVotes, name: str = "") -> Comparison:
    """Compare the cells of all attempts. An attempt of another shape counts as one wrong number."""
    tally = Tally(f"attempts{name}", PRECISIONS["float32"])
    ours, recorded = votes.submission(), read_json(folder / SUBMISSION, Submission)
    if ours.keys() != recorded.keys():
        raise ValueError(f"{SUBMISSION} is not about the tasks of {BUILT}/{TASKS}")
    for task, tests in recorded.items():
        for number, attempts in enumerate(tests):
            for key, grid in attempts.items():
                found = attempt(ours[task], number, key)
                wanted = np.array(grid)
                same = found.shape == wanted.shape
                pair = (found, wanted) if same else (np.array([np.inf]), np.zeros(1))
                add(tally, f"{task} {key}", *pair)
    return tally.comparison()


def attempt(tests: list[dict[str, Any]], number: int, key: str) -> np.ndarray:
    """Return the grid of an attempt, empty if there is none."""
    return np.array(tests[number].get(key, []) if number < len(tests) else [])


def add(tally: Tally, key: str, ours: np.ndarray, recorded: np.ndarray) -> None:
    """Count the differences of our numbers from those recorded; nothing is rounded here."""
    apart = np.abs(ours.astype(np.float64) - recorded.astype(np.float64)).ravel()
    tally.add(key, torch.from_numpy(apart), 0.0)
