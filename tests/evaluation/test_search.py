"""`evaluate_search` against the fixed evaluation, and against counting by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ostinato.data import sudoku
from ostinato.data.puzzles import PuzzleSet
from ostinato.evaluation.puzzles import evaluate, wilson_interval
from ostinato.evaluation.search import Found, evaluate_search
from ostinato.inference.search import FIXED, Search
from tests.inference.stand_in import SURE, LookUp, steps_needed

SUDOKU = sudoku.Sudoku(4)
INPUTS, LABELS = sudoku.generate(SUDOKU, 20, (4, 10), seed=3)
NEEDED = np.array(list(map(steps_needed, INPUTS)))


def puzzle_set(labels: np.ndarray = LABELS) -> PuzzleSet:
    return PuzzleSet.of_examples("sudoku4", INPUTS, labels, 6)


def test_all_steps_give_the_result_of_the_fixed_evaluation():
    labels = LABELS.copy()
    labels[0] = labels[0][::-1]  # what the stand-in answers is wrong now, though it keeps the rules
    fixed = evaluate(LookUp(), puzzle_set(labels), max_steps=2)
    found = evaluate_search(LookUp(), puzzle_set(labels), FIXED, batch_size=6, max_steps=2)
    assert 0 < fixed.exact_accuracy < 1
    assert found.exact_accuracy == pytest.approx(fixed.exact_accuracy)
    assert found.exact_interval == pytest.approx(fixed.exact_interval)
    assert (found.puzzles, found.max_steps) == (20, 2)
    assert (found.steps_per_puzzle, found.attempts_per_puzzle) == (2, 1)
    q = fixed.q_calibration
    counts = Found(
        "plain",
        q.sure_right + q.sure_wrong,
        q.sure_right,
        q.unsure_right + q.unsure_wrong,
        q.unsure_right,
    )
    assert found.found == [counts]
    assert found.keep_the_rules == int((NEEDED <= 2).sum()) > counts.accepted_right


def test_early_exit_counts_the_steps_that_were_taken():
    told: list[int] = []
    search = Search(early_exit=True, patience=1)
    found = evaluate_search(LookUp(), puzzle_set(), search, batch_size=3, progress=told.append)
    assert found.exact_accuracy == 1 and found.exact_interval == wilson_interval(1.0, 20)
    assert found.steps_per_puzzle == pytest.approx(NEEDED.mean())
    assert told == list(range(1, 21)) and found.puzzles_per_second > 0


def test_accuracy_by_rating_counts_every_puzzle_once():
    puzzles = replace(puzzle_set(), ratings=NEEDED.astype(np.float32))
    found = evaluate_search(LookUp(), puzzles, FIXED, batch_size=6, max_steps=2)
    table = {part.ratings: (part.puzzles, part.exact_accuracy) for part in found.exact_by_rating}
    count = np.bincount(NEEDED)
    assert table == {"1": (count[1], 1.0), "2": (count[2], 1.0), "3-4": (count[3], 0.0)}
    assert evaluate_search(LookUp(), puzzle_set(), FIXED, max_steps=1).exact_by_rating == []


def test_what_each_way_found():
    search = Search(early_exit=True, patience=1, views=4, view_depth=2, select="first")
    found = evaluate_search(LookUp(), puzzle_set(), search, max_steps=1)
    plain, symmetry, hard = (int((number == NEEDED).sum()) for number in (1, 2, 3))
    # The stand-in is as unsure of the hard ones in every view: then the first attempt is kept
    assert found.found == [
        Found("plain", plain, plain, hard, 0),
        Found("symmetry", symmetry, symmetry, 0, 0),
    ]
    assert found.steps_per_puzzle == pytest.approx(1 + 8 * (NEEDED > 1).mean())
    assert found.attempts_per_puzzle == pytest.approx(1 + 4 * (NEEDED > 1).mean())


def test_what_the_model_selects_and_what_the_rules_select_are_told_apart(monkeypatch):
    """A model that is sure of what is wrong, and not of what is right."""
    monkeypatch.setattr("tests.inference.stand_in.SURE", -SURE)
    search = Search(early_exit=True, patience=1)
    by_q = evaluate_search(LookUp(), puzzle_set(), search)
    by_rules = evaluate_search(LookUp(), puzzle_set(), replace(search, verify=True))
    assert (by_q.selected_by, by_rules.selected_by) == ("q", "rules")
    assert by_q.exact_accuracy == pytest.approx((NEEDED == 1).mean()) and by_q.exact_accuracy < 1
    assert by_q.keep_the_rules == (NEEDED == 1).sum()
    assert (by_rules.exact_accuracy, by_rules.keep_the_rules) == (1, 20)


def test_a_model_of_tokens_only_has_no_rules():
    model = LookUp()
    model.config = replace(model.config, task="")
    assert evaluate_search(model, puzzle_set(), FIXED, max_steps=1).keep_the_rules is None


def test_what_does_not_fit():
    nine = PuzzleSet.of_examples("", torch.ones(2, 81).int().numpy(), np.ones((2, 81), int), 11)
    with pytest.raises(ValueError, match="81 cells and 11 tokens, the model is for 16 cells"):
        evaluate_search(LookUp(), nine, FIXED)
    unlabelled = puzzle_set()
    unlabelled = replace(unlabelled, labels=np.zeros_like(unlabelled.labels))
    with pytest.raises(ValueError, match="none of the puzzles has an answer"):
        evaluate_search(LookUp(), unlabelled, FIXED, max_steps=1)
