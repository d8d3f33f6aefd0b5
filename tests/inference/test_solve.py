"""`solve` with a model that is right, and with one that never is."""

import itertools

import numpy as np
import pytest
import torch

import ostinato
from ostinato.data import sudoku
from ostinato.data.puzzle_files import WrittenPuzzle
from ostinato.inference.search import FIXED, Search
from ostinato.inference.solve import GUESSES_IF_NOT, Solution, solve
from ostinato.inference.think import Step
from tests.data.test_sudoku_oracle import is_solved
from tests.data.test_sudoku_solver import HARD_PUZZLE
from tests.inference import stand_in
from tests.inference.stand_in import LookUp, steps_needed
from tests.inference.test_think import random_model

SUDOKU = sudoku.Sudoku(4)
GENERATED, SOLVED = sudoku.generate(SUDOKU, 24, (4, 10), seed=0)
PUZZLES = [SUDOKU.format(puzzle) for puzzle in GENERATED]
ANSWERS = [SUDOKU.format(solution) for solution in SOLVED]
UNSOLVABLE = "12....3........."  # row 1 has no place for its 3


def test_public_names():
    assert ostinato.solve is solve
    assert ostinato.Solution is Solution


def test_a_model_that_is_right():
    solutions = list(solve(LookUp(), PUZZLES))
    assert [solution.puzzle for solution in solutions] == PUZZLES
    assert [solution.answer for solution in solutions] == ANSWERS
    assert all(solution.solved and solution.problem is None for solution in solutions)
    assert [solution.steps for solution in solutions] == list(map(steps_needed, GENERATED))
    assert {solution.steps for solution in solutions} == {1, 2, 3}
    sure = 1 / (1 + np.exp(-stand_in.SURE))
    assert max(abs(solution.confidence - sure) for solution in solutions) < 1e-6


def test_grids_of_numbers():
    grid = [[".1234".index(s) for s in PUZZLES[0][start : start + 4]] for start in range(0, 16, 4)]
    solutions = list(solve(LookUp(), [grid, np.array(grid)]))
    assert [solution.answer for solution in solutions] == ANSWERS[:1] * 2
    with pytest.raises(ValueError, match=r"puzzle 1: a grid of shape \(16,\): give rows"):
        next(solve(LookUp(), [np.zeros(16, int)]))


def test_a_model_that_is_wrong_is_found_out():
    solutions = list(solve(random_model(), PUZZLES))
    assert [solution.puzzle for solution in solutions] == PUZZLES
    for solution in solutions:
        assert not is_solved(solution.answer, 4)
        assert not solution.solved and solution.problem


class Stubborn(LookUp):
    """Answers another puzzle than the one that is asked."""

    other = ANSWERS[0].translate(str.maketrans("1234", "2341"))

    def reply(self, state, inputs, puzzle_ids):
        inputs = torch.from_numpy(SUDOKU.parse(self.other))[None]
        return super().reply(state, inputs, puzzle_ids)


def test_a_solved_board_does_not_solve_another_puzzle():
    (solution,) = solve(Stubborn(), [PUZZLES[0]])
    assert solution.answer == Stubborn.other and is_solved(Stubborn.other, 4)
    assert not solution.solved
    assert solution.problem and "was changed" in solution.problem


def test_the_rules_decide_and_not_the_models_opinion(monkeypatch):
    monkeypatch.setattr(stand_in, "SURE", -3.0)
    solved, unsolved = solve(LookUp(), [PUZZLES[0], UNSOLVABLE])
    assert solved.solved and solved.confidence < 0.05
    assert (solved.accepted_by, unsolved.accepted_by) == ("rules", None)
    assert (solved.solutions, unsolved.solutions) == (1, 0)
    (fooled,) = solve(LookUp(), [UNSOLVABLE], search=Search(early_exit=True, patience=1))
    assert (
        fooled.solutions is None
        and fooled.accepted_by == "q"
        and not fooled.solved
        and fooled.total_steps == 1
    )
    assert not unsolved.solved and unsolved.confidence > 0.95
    assert unsolved.problem == "row 1, column 3 and 12 more cells hold no digit"


def test_solutions_are_counted_within_bounds():
    """This puzzle without solution takes a plain search many minutes."""
    hard = ".....5.8....6.1.43..........1.5........1.6...3.......553.....61........4........."
    board = sudoku.Sudoku(9)
    assert board.count_solutions(board.parse(hard), GUESSES_IF_NOT) is None
    assert board.count_solutions(board.parse("." * 81), GUESSES_IF_NOT) == 2
    proper = board.parse(HARD_PUZZLE)
    assert [board.count_solutions(proper, most) for most in (1, GUESSES_IF_NOT)] == [None, 1]


def test_max_steps():
    slow = next(i for i, puzzle in enumerate(GENERATED) if steps_needed(puzzle) == 3)
    in_two, in_three = (next(solve(LookUp(), [PUZZLES[slow]], steps)) for steps in (2, 3))
    assert not in_two.solved and in_two.steps == 2
    assert in_three.solved and in_three.steps == 3


@pytest.mark.parametrize("batch_size", [1, 5, 24])
def test_batches_change_nothing(batch_size):
    assert list(solve(LookUp(), PUZZLES, batch_size=batch_size)) == list(solve(LookUp(), PUZZLES))


def test_an_endless_stream_is_read_a_batch_at_a_time():
    read = 0

    def stream():
        nonlocal read
        for puzzle in itertools.cycle(PUZZLES):
            read += 1
            yield puzzle

    for number, solution in enumerate(solve(LookUp(), stream(), batch_size=7, search=FIXED)):
        assert solution.puzzle == PUZZLES[number % len(PUZZLES)]
        assert read == 7 * (number // 7 + 1)
        if number == 60:
            break


def test_what_is_solved_makes_room_at_once():
    """The model needs 1, 2 or 3 steps of the 4 that it may take."""
    taken: list[Step] = []
    solutions = list(solve(LookUp(), PUZZLES, batch_size=5, on_step=taken.append))
    assert [solution.answer for solution in solutions] == ANSWERS
    needed = list(map(steps_needed, GENERATED))
    assert [solution.total_steps for solution in solutions] == needed
    assert sum(len(step.answer) for step in taken) == sum(needed)
    assert len(taken) <= sum(needed) / 5 + 3  # no seat was empty before the end
    fixed = list(solve(LookUp(), PUZZLES, search=FIXED))
    assert {solution.total_steps for solution in fixed} == {4}
    assert [solution.steps for solution in fixed] == needed


def test_every_step_is_reported():
    reported: list[Step] = []
    list(
        solve(
            LookUp(), PUZZLES[:3], max_steps=3, batch_size=2, on_step=reported.append, search=FIXED
        )
    )
    assert [(step.number, len(step.answer)) for step in reported] == [
        *((number, 2) for number in (1, 2, 3)),
        *((number, 1) for number in (1, 2, 3)),
    ]


def test_no_puzzles():
    assert list(solve(LookUp(), [])) == []


def test_a_bad_puzzle_is_named():
    solutions = solve(LookUp(), [*PUZZLES[:3], "12", PUZZLES[0]], batch_size=2, search=FIXED)
    assert [next(solutions).answer for _ in range(2)] == ANSWERS[:2]
    with pytest.raises(ValueError, match=r"^puzzle 4: a 4x4 Sudoku needs 16 characters"):
        next(solutions)
    written = WrittenPuzzle("11" + "." * 14, "list.txt:17")
    with pytest.raises(ValueError, match=r"^list\.txt:17: the givens contradict each other"):
        next(solve(LookUp(), [PUZZLES[0], written]))


@pytest.mark.parametrize(
    ("puzzles", "settings", "message"),
    [
        (PUZZLES[0], {}, r"solve\(model, \[puzzle\]\)"),
        (PUZZLES, {"batch_size": 0}, "batch_size must be at least 1, not 0"),
        (PUZZLES, {"max_steps": 0}, "max_steps must be at least 1, not 0"),
    ],
)
def test_misuse(puzzles, settings, message):
    with pytest.raises(ValueError, match=message):
        next(solve(LookUp(), puzzles, **settings))
