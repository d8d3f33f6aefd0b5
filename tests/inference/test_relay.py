"""Models in turn: the quick one keeps what it accepts, the last one gets the rest, in order."""

from functools import partial

import pytest

from ostinato.data.puzzle_files import WrittenPuzzle
from ostinato.data.sudoku import Sudoku, generate
from ostinato.inference import relay
from ostinato.inference.relay import first_to_accept, plain, solve_in_turn
from ostinato.inference.search import FIXED, Search
from ostinato.inference.solve import solve
from tests.inference.stand_in import LookUp

CONFIRMED, BY_Q = Search(early_exit=True, verify=True), Search(early_exit=True)


@pytest.fixture
def puzzles() -> list[WrittenPuzzle]:
    questions, _ = generate(Sudoku(4), 30, (4, 8), 0)
    return [WrittenPuzzle(Sudoku(4).format(q), f"{n}") for n, q in enumerate(questions)]


def made(steps: int, log: list[int]) -> LookUp:
    log.append(steps)
    return LookUp(halt_max_steps=steps)


@pytest.mark.parametrize("search", [CONFIRMED, BY_Q], ids=["rules", "q"])
def test_the_last_model_gets_what_the_first_does_not_accept(puzzles, search, monkeypatch):
    """The quick stand-in may take one step, which solves a third of the puzzles; the other four."""
    monkeypatch.setattr(relay, "AT_ONCE", 7)
    monkeypatch.setattr(relay, "PATIENCE", 1)
    quick, log = LookUp(halt_max_steps=1), []
    alone = list(solve(quick, puzzles, search=relay.plain(search)))
    solved = [solution.accepted_by is not None for solution in alone]
    assert 0 < sum(solved) < len(puzzles)
    models = [lambda: quick, partial(made, 6, log)]
    found = list(solve_in_turn(models, puzzles, search))
    assert [solution.puzzle for solution in found] == [puzzle.text for puzzle in puzzles]
    assert all(solution.solved for solution in found)
    assert [f.total_steps <= 1 for f in found] == solved or search is BY_Q
    assert log, "the last model was needed"


def test_a_model_that_is_not_needed_is_not_made(puzzles):
    log: list[int] = []
    models = [partial(made, 6, log), partial(made, 7, log)]
    assert all(s.solved for s in solve_in_turn(models, puzzles[:3], CONFIRMED))
    assert set(log) == {6}
    log.clear()
    _, search = first_to_accept(models, puzzles[0], CONFIRMED)
    assert log == [6] and search == CONFIRMED
    # Without the rules a quick model is believed later, also when it shows its answer
    _, search = first_to_accept(models, puzzles[0], BY_Q)
    assert search == plain(BY_Q) != BY_Q


def test_without_early_exit_the_last_model_does_all(puzzles):
    log: list[int] = []
    list(solve_in_turn([partial(made, 6, log), partial(made, 7, log)], puzzles[:2], FIXED))
    assert log == [7]
