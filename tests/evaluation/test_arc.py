"""Voting against what TRM's evaluator says of nine tasks and made-up predictions."""

import json
from pathlib import Path

import numpy as np
import pytest

from ostinato.data.arc.sources import ArcTask, Pair, task_from_json
from ostinato.data.puzzles import PuzzleSet
from ostinato.evaluation.arc import ArcVotes, key_of
from ostinato.evaluation.puzzles import Answers

GOLDEN = Path(__file__).parents[1] / "golden" / "arc"
PASS_AT_K = json.loads((GOLDEN / "expected_pass_at_k.json").read_text())
SUBMISSION = json.loads((GOLDEN / "submission.json").read_text())
TASK = task_from_json("a", {"train": [], "test": [{"input": [[0]]}, {"input": [[5]]}]})
WANTED = {int(key.rpartition("@")[2]): share for key, share in PASS_AT_K.items()}


def golden_votes(rows: slice | np.ndarray = slice(None)) -> ArcVotes:
    predictions = np.load(GOLDEN / "predictions.npz")
    inputs = PuzzleSet.load(GOLDEN / "built", "test").inputs
    votes = ArcVotes.of_folder(GOLDEN / "built")
    votes.add(
        Answers(
            np.arange(len(inputs))[rows],
            inputs[rows],
            predictions["puzzle_identifiers"][rows],
            predictions["preds"][rows],
            predictions["q_halt_logits"][rows],
        )
    )
    return votes


def test_pass_at_k_and_submission_are_those_of_the_original():
    votes = golden_votes()
    assert votes.pass_at(tuple(WANTED)) == pytest.approx(WANTED, abs=1e-12)
    assert votes.submission() == SUBMISSION


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_processes_find_the_same_as_one(order: tuple[int, int]):
    first, second = (golden_votes(slice(rank, None, 2)) for rank in order)
    first.merge(second)
    assert first.pass_at(tuple(WANTED)) == pytest.approx(WANTED, abs=1e-12)
    assert first.submission() == SUBMISSION


def test_the_order_of_ids_and_examples_does_not_matter():
    num_examples = len(np.load(GOLDEN / "predictions.npz")["preds"])
    shuffled = np.random.default_rng(0).permutation(num_examples)
    assert golden_votes(shuffled).submission() == SUBMISSION


def one_test(*answers: tuple[int, float]) -> ArcVotes:
    """The votes of answers of one cell, each a colour and a q_halt."""
    votes = ArcVotes(["<blank>", "a"], [TASK])
    rows = np.zeros((len(answers), 4), np.uint8)
    rows[:, 0] = [colour + 2 for colour, _ in answers]
    inputs = np.tile(np.array([2, 0, 0, 0], np.uint8), (len(answers), 1))
    examples = np.arange(len(answers))
    q_halt = np.array([q for _, q in answers])
    votes.add(Answers(examples, inputs, np.ones(len(answers), int), rows, q_halt))
    return votes


def test_votes_count_more_than_confidence_and_then_the_mean_decides():
    votes = one_test((1, 9.0), (2, -1.0), (2, 0.0), (3, 1.0), (3, -1.0))
    ranking = votes.ranking("a", np.zeros((1, 1), np.uint8))
    assert [int(grid[0, 0]) for grid, _ in ranking] == [3, 2, 1]
    assert [candidate.votes for _, candidate in ranking] == [2, 2, 1]


def test_the_only_candidate_is_handed_in_twice_and_no_candidate_as_a_cell():
    assert one_test((7, 0.0)).submission() == {
        "a": [
            {"attempt_1": [[7]], "attempt_2": [[7]]},
            {"attempt_1": [[0]], "attempt_2": [[0]]},
        ]
    }


def test_every_evaluation_has_votes_of_its_own():
    assert golden_votes().ballots == golden_votes().ballots
    assert key_of(np.zeros((2, 3), np.uint8)) != key_of(np.zeros((3, 2), np.uint8))


def test_tasks_without_answers_are_not_scored():
    votes = one_test((7, 0.0))
    with pytest.raises(ValueError, match="without answers"):
        votes.pass_at()
    seven = Pair(np.zeros((1, 1), np.uint8), np.full((1, 1), 7, np.uint8))
    votes.tasks = [*votes.tasks, ArcTask("a", (), (seven,))]
    assert votes.pass_at([1, 2]) == {1: 1.0, 2: 1.0}
