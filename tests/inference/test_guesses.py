"""Boards with guesses, against the solver: no answer is ever lost, and the likeliest come first."""

import numpy as np
import pytest
import torch

from ostinato.data import sudoku
from ostinato.data.maze import Maze
from ostinato.inference.pursuit import Guesses, Question
from ostinato.inference.search import SEARCHES, Search
from ostinato.inference.stream import think_stream
from ostinato.models import Output
from tests.inference.stand_in import SURE, LookUp

SUDOKU = sudoku.Sudoku(4)
PUZZLES, SOLUTIONS = sudoku.generate(SUDOKU, 24, (4, 7), seed=3)
QUESTIONS = [Question(torch.from_numpy(tokens).int()) for tokens in PUZZLES]
RNG = np.random.default_rng(0)


def guessed(tokens: np.ndarray, probabilities: np.ndarray | None = None) -> Guesses:
    """The first guesses at a board, for a model of these opinions (by default none)."""
    guesses = Guesses(SUDOKU)
    flat = np.full((16, SUDOKU.vocab_size), 1 / SUDOKU.vocab_size)
    guesses.branch(tokens, flat if probabilities is None else probabilities)
    return guesses


@pytest.mark.parametrize("row", range(0, 24, 4))
def test_what_is_possible_is_what_a_look_at_row_column_and_box_tells(row):
    tokens = PUZZLES[row]
    board = tokens.reshape(4, 4)
    for cell, allowed in enumerate(SUDOKU.possible(tokens)):
        r, c = divmod(cell, 4)
        box = board[r // 2 * 2 : r // 2 * 2 + 2, c // 2 * 2 : c // 2 * 2 + 2]
        seen = {*board[r].tolist(), *board[:, c].tolist(), *box.ravel().tolist()}
        by_hand = {2, 3, 4, 5} - seen if tokens[cell] == 1 else {int(tokens[cell])}
        assert set(np.flatnonzero(allowed).tolist()) == by_hand


def test_exactly_one_of_the_guesses_is_right_down_to_the_full_board():
    for tokens, solution in zip(PUZZLES, SOLUTIONS, strict=True):
        while (tokens == 1).any():
            boards = [b.tokens for b in guessed(tokens).take(9)]
            changed = {int(cell) for board in boards for cell in np.flatnonzero(board != tokens)}
            assert len(changed) == 1
            (tokens,) = (b for b in boards if ((b == 1) | (b == solution)).all())
        assert guessed(tokens).boards == []


def test_the_likeliest_come_first_whatever_came_before():
    opinions = RNG.dirichlet(np.ones(SUDOKU.vocab_size), size=16)
    guesses = guessed(PUZZLES[0], opinions)
    guesses.branch(PUZZLES[1], opinions, likelihood=0.5)
    boards = guesses.take(99)
    assert sum(board.likelihood for board in boards) == pytest.approx(1.5)
    assert [b.likelihood for b in boards] == sorted((b.likelihood for b in boards), reverse=True)
    again = guessed(PUZZLES[1], opinions * 0.5)
    assert {b.key for b in again.boards} < {b.key for b in boards}


def test_a_board_with_a_cell_that_can_hold_nothing_is_given_up():
    tokens = SUDOKU.parse("123. ...4 .... ....").astype(np.uint8)
    assert not SUDOKU.possible(tokens)[3].any()
    assert guessed(tokens).boards == []


class Shallow(LookUp):
    """Sees the answer only where no more than six cells are blank; else it has no opinion."""

    def reply(self, state, inputs, puzzle_ids):
        output = super().reply(state, inputs, puzzle_ids)
        lost = (inputs == 1).sum(1) > 6
        logits = torch.where(lost[:, None, None], 0, output.logits)
        return Output(logits, output.q_halt.where(~lost, -SURE), None)


@pytest.mark.parametrize("batch_size", [3, 64])
def test_a_model_that_sees_little_solves_everything_with_guesses(batch_size):
    plain = Search(early_exit=True, verify=True)
    assert not any(t.attempt.accepted for t in think_stream(Shallow(), QUESTIONS, plain))
    search = Search(early_exit=True, verify=True, guesses=2000, guess_steps=3)
    thoughts = list(think_stream(Shallow(), QUESTIONS, search, batch_size=batch_size))
    assert np.array_equal([t.attempt.answer for t in thoughts], SOLUTIONS)
    assert {(t.attempt.way, t.attempt.accepted) for t in thoughts} == {("guess", True)}
    assert all(t.total_steps > 4 for t in thoughts)


def test_no_more_boards_than_asked_for():
    search = Search(early_exit=True, verify=True, guesses=11, guess_steps=2)
    for thought in think_stream(Shallow(), QUESTIONS[:4], search):
        if not thought.attempt.accepted:
            assert (thought.attempts, thought.total_steps) == (12, 4 + 11 * 2)


def test_what_cannot_be_guessed():
    with pytest.raises(ValueError, match="guesses are made and judged by the rules: set verify"):
        Search(guesses=2)
    model = LookUp()
    object.__setattr__(model.config, "task", Maze(4).name)
    with pytest.raises(ValueError, match="rules say what a cell may hold, not maze4: leave them"):
        next(think_stream(model, QUESTIONS, SEARCHES["guesses"]))
