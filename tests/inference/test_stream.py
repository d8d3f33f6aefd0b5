"""`think_stream` against one puzzle at a time: whoever sits beside, the answers are the same."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from ostinato.data import sudoku
from ostinato.data.tasks import task_named
from ostinato.inference import seats, stream
from ostinato.inference.pursuit import Question
from ostinato.inference.search import FIXED, SEARCHES, Search, best
from ostinato.inference.stream import think_stream
from ostinato.inference.think import think
from ostinato.models import TRM, Output, RecursiveModel
from ostinato.models.recursive import wants_to_halt
from tests.inference.stand_in import LookUp, steps_needed
from tests.inference.test_think import CONFIG, random_model

SUDOKU = sudoku.Sudoku(4)
PUZZLES, SOLUTIONS = (
    torch.from_numpy(boards).int() for boards in sudoku.generate(SUDOKU, 16, (4, 10), seed=0)
)
QUESTIONS = [Question(tokens) for tokens in PUZZLES]
BATCHES = pytest.mark.parametrize("batch_size", [3, 64])


@pytest.fixture(scope="module")
def model() -> RecursiveModel:
    """A random one that halts on some puzzles after some steps, and never on others."""
    model = random_model()
    assert model.q_head.bias is not None
    with torch.no_grad():
        model.q_head.weight.mul_(20)
        model.lm_head.weight.mul_(3)
        q = torch.stack([step.q_halt for step in think(by_cycles(model), PUZZLES, max_steps=16)])
        most = q.max(0).values.sort().values[4:13]
        # Between two far apart, so that no rounding turns one of them around
        gap = int(most.diff().argmax())
        model.q_head.bias[0] -= most[gap : gap + 2].mean()
    return model


def by_cycles(model: RecursiveModel) -> RecursiveModel:
    """The same, with a step for each H-cycle."""
    part = copy.copy(model)
    part.config = replace(model.config, H_cycles=1)
    return part


def of_no_known_kind(model: RecursiveModel) -> RecursiveModel:
    """The same, but nobody knows which cells are given."""
    part = copy.copy(model)
    part.config = replace(model.config, task="")
    return part


@BATCHES
def test_early_exit_is_thinking_until_the_model_halts(model, batch_size):
    model = of_no_known_kind(model)
    search = Search(early_exit=True, patience=1)
    thoughts = list(think_stream(model, QUESTIONS, search, 8, batch_size))
    assert [thought.tokens.tolist() for thought in thoughts] == PUZZLES.tolist()
    for thought, tokens in zip(thoughts, PUZZLES, strict=True):
        for step in think(by_cycles(model), tokens[None], max_steps=16):
            if halted := wants_to_halt(step.output, model.config).item():
                break
        assert thought.attempt.answer.tolist() == step.answer[0].tolist()
        assert thought.attempt.q_halt == pytest.approx(step.q_halt.item(), abs=1e-3)
        assert thought.attempt.steps == thought.total_steps == step.number / 2
        assert thought.attempt.accepted == halted
    assert len({thought.total_steps for thought in thoughts}) >= 3, "or nothing has been tested"


def test_early_exit_of_what_never_halts_changes_nothing(model):
    """Noise too is drawn once a step, not once an H-cycle."""
    hopeless = copy.deepcopy(model)
    with torch.no_grad():
        hopeless.q_head.bias[0] -= 1_000
    search = Search(rollouts=2, rollout_depth=1)
    runs = (
        think_stream(hopeless, QUESTIONS, replace(search, early_exit=early), 3, batch_size=7)
        for early in (True, False)
    )
    for early, fixed in zip(*runs, strict=True):
        assert early.attempt.answer.tolist() == fixed.attempt.answer.tolist()
        assert early.attempt.q_halt == pytest.approx(fixed.attempt.q_halt, abs=1e-3)
        assert early.total_steps == pytest.approx(fixed.total_steps) == 9


def test_patience_waits_until_the_answer_has_been_confirmed():
    for patience in (1, 2, 3):
        search = Search(early_exit=True, patience=patience)
        for thought in think_stream(LookUp(halt_max_steps=6), QUESTIONS, search, batch_size=5):
            assert thought.total_steps == steps_needed(thought.tokens) + patience - 1
    # The last step is no proof, unless there is no other
    for question in QUESTIONS:
        needed = steps_needed(question.tokens)
        (thought,) = think_stream(LookUp(), [question], search, max_steps=needed)
        assert thought.attempt.accepted == (needed == 1)
    # With a change of mind the count starts again, although the model was sure all the time
    search = Search(early_exit=True, patience=2)
    for thought in think_stream(Sure(halt_max_steps=6), QUESTIONS, search):
        assert thought.total_steps == steps_needed(thought.tokens) + 1


class Sure(LookUp):
    """Sure of everything, also of its early answers, all of which differ."""

    def reply(self, state, inputs, puzzle_ids):
        output = super().reply(state, inputs, puzzle_ids)
        return output._replace(q_halt=torch.full_like(output.q_halt, 9.0))


@pytest.mark.parametrize("search", [Search(early_exit=True), FIXED, SEARCHES["symmetries"]])
def test_an_answer_that_changes_a_given_is_not_accepted(search):
    class Careless(LookUp):
        """Sure of a solved board, which is not that of the puzzle if digits are exchanged."""

        def reply(self, state, inputs, puzzle_ids):
            output = super().reply(state, inputs, puzzle_ids)
            places = [0, 1, 3, 2, 4, 5]
            return output._replace(logits=output.logits[..., places])

    careless, careful = (
        list(think_stream(model, QUESTIONS, search)) for model in (Careless(), LookUp())
    )
    assert all(thought.attempt.accepted for thought in careful)
    assert not any(thought.attempt.accepted for thought in careless)
    # Who does not know what is given must believe the model
    plain = replace(search, views=0, view_depth=2, select="q")
    assert all(
        t.attempt.accepted for t in think_stream(of_no_known_kind(Careless()), QUESTIONS, plain)
    )


@BATCHES
def test_without_early_exit_everything_is_thought_about_to_the_end(model, batch_size):
    model = of_no_known_kind(model)
    (*_, last) = think(model, PUZZLES, max_steps=6)
    thoughts = list(think_stream(model, QUESTIONS, FIXED, max_steps=6, batch_size=batch_size))
    assert np.array_equal([t.attempt.answer for t in thoughts], last.answer.numpy())
    assert {t.attempt.steps for t in thoughts} == {6}
    assert [t.attempt.accepted for t in thoughts] == (last.q_halt > 0).tolist()


def test_the_continue_head_has_its_say():
    class Undecided(LookUp):
        """Sure of what is right, but surer that it pays to go on."""

        def reply(self, state, inputs, puzzle_ids):
            output = super().reply(state, inputs, puzzle_ids)
            return Output(output.logits, output.q_halt, torch.full_like(output.q_halt, 9.0))

    model = Undecided()
    model.config = replace(model.config, no_ACT_continue=False)
    thoughts = think_stream(model, QUESTIONS[:5], Search(early_exit=True, patience=1))
    assert [(t.attempt.steps, t.attempt.accepted) for t in thoughts] == [(4, False)] * 5


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_does_not_depend_on_who_sits_beside(model, name):
    named = SEARCHES[name]
    search = replace(named, views=min(named.views, 5), rollouts=min(named.rollouts, 5))
    first, *others = (
        list(think_stream(model, QUESTIONS[:8], search, max_steps=1, batch_size=size))
        for size in (64, 5)
    )
    for other in others:
        assert [t.attempt.answer.tolist() for t in other] == [
            t.attempt.answer.tolist() for t in first
        ]
        assert [(t.attempt.way, t.attempt.steps, t.attempt.accepted) for t in other] == [
            (t.attempt.way, t.attempt.steps, t.attempt.accepted) for t in first
        ]
    assert search.stages(1)[-1][0] in {t.attempt.way for t in first}


def test_seeds_decide_and_only_they_do(model):
    search = Search(rollouts=2, search_seed=1)
    runs = [
        [t.attempt.q_halt for t in think_stream(model, QUESTIONS[:3], replace(search, **changed))]
        for changed in ({}, {}, {"search_seed": 2}, {"noise_on": "z_H"}, {"noise_on": "both"})
    ]
    assert runs[0] == runs[1]
    assert len({tuple(run) for run in runs}) == 4


@pytest.mark.parametrize("noise_on", ["z_L", "z_H", "both"])
def test_noise_of_nothing_is_plain_thinking(model, noise_on):
    search = Search(rollouts=2, rollout_depth=1, sigma=0.0, noise_on=noise_on)
    (*_, last) = think(model, PUZZLES)
    for thought, answer in zip(think_stream(model, QUESTIONS, search), last.answer, strict=True):
        assert thought.attempt.answer.tolist() == answer.tolist()
        assert (thought.attempts, thought.total_steps) == (3, 15)


def test_noise_is_what_sigma_says(monkeypatch):
    """On z_L of a stand-in that leaves it alone, one step after another."""
    model = LookUp(halt_max_steps=3)
    seen = []
    monkeypatch.setattr(
        seats, "take_step", lambda *a, **o: seen.append(a[1].z_L.clone()) or take_step(*a, **o)
    )
    from ostinato.inference.think import take_step

    list(think_stream(model, QUESTIONS[:1], Search(rollouts=400, rollout_depth=1, sigma=0.5)))
    start = model.initial_state(1).z_L
    spread = [(z - start).std().item() for z in seen[3:]]
    assert spread == pytest.approx([0.5, 0.5 * 2**0.5, 0.5 * 3**0.5], rel=0.03)
    assert all(z.equal(start) for z in seen[:3])


def test_views_are_of_the_puzzle_and_their_answers_are_taken_back():
    """The stand-in never halts before its views are asked, which it solves."""

    class Slow(LookUp):
        def reply(self, state, inputs, puzzle_ids):
            shown.append(inputs.clone())
            return super().reply(state, inputs, puzzle_ids)

    shown: list[torch.Tensor] = []
    hard = next(i for i, p in enumerate(PUZZLES.numpy()) if steps_needed(p) == 3)
    search = Search(early_exit=True, patience=1, views=6, view_depth=3, select="first")
    (thought,) = think_stream(Slow(), [QUESTIONS[hard]], search, max_steps=1)
    assert thought.attempt.answer.tolist() == SOLUTIONS[hard].tolist()
    assert (thought.attempt.way, thought.attempt.accepted) == ("symmetry", True)
    assert (thought.attempts, thought.total_steps) == (7, 1 + 6 * 3)
    assert [len(inputs) for inputs in shown] == [1, 6, 6, 6]
    assert len({tuple(row.tolist()) for row in shown[1]}) > 1
    solved = [sudoku.solve(SUDOKU, row.numpy()) for row in shown[1]]
    assert all(solution is not None for solution in solved)


class Erratic(LookUp):
    """Right only with the noise that happens to carry its z_L far enough, after 1 to 4 steps."""

    def reply(self, state, inputs, puzzle_ids):
        output = super().reply(state, inputs, puzzle_ids)
        luck = state.z_L.mean((1, 2)) - self.L_init.mean()
        right = luck > 0.4
        logits = torch.where(right[:, None, None], output.logits, output.logits.roll(1, -1))
        q = torch.where(right, 1 + luck, luck - 1)
        return Output(logits, q, None)


@BATCHES
@pytest.mark.parametrize("select", ["first", "q", "residual"])
def test_selection_is_by_all_rollouts_run_alone(batch_size, select):
    """A pool of seats must not cut short the attempt that would have won."""
    search = Search(
        early_exit=True,
        patience=1,
        rollouts=6,
        rollout_depth=1,
        sigma=1.0,
        select=select,
        search_seed=4,
    )
    found = []
    for thought in think_stream(Erratic(), QUESTIONS[:8], search, batch_size=batch_size):
        found.append((thought.attempt.steps, thought.attempt.q_halt, thought.attempt.accepted))
    everything = []

    class Kept(stream.Pursuit):
        def thought(self):
            everything.append(self.attempts)
            return super().thought()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "Pursuit", Kept)
        full = replace(search, select="q")  # which cuts nothing short
        if select == "residual":
            full = search
        list(think_stream(Erratic(), QUESTIONS[:8], full, batch_size=1))
    expected = [best(attempts, select) for attempts in everything]
    assert found == [(a.steps, pytest.approx(a.q_halt, abs=1e-5), a.accepted) for a in expected]
    assert len({steps for steps, _, _ in found}) > 1 and {a for _, _, a in found} == {True, False}


def test_the_residual_is_the_mean_of_the_last_three_changes(model):
    search = Search(rollouts=1, rollout_depth=1, sigma=0.0, select="residual")
    logits = [step.output.logits for step in think(model, PUZZLES)]
    for count in (1, 2, 5):
        moves = [(b - a).norm(dim=2).mean(1) for a, b in itertools.pairwise(logits[:count])][-3:]
        thoughts = think_stream(model, QUESTIONS, search, max_steps=count, batch_size=9)
        for row, thought in enumerate(thoughts):
            expected = sum(move[row].item() for move in moves) / len(moves) if moves else np.inf
            assert thought.attempt.residual == pytest.approx(expected, rel=1e-3)


def test_verified_answers_are_right_and_end_everything_at_that_step(monkeypatch):
    """The rules accept what the model is not sure of; no sibling thinks for longer."""
    monkeypatch.setattr("tests.inference.stand_in.SURE", -3.0)
    search = Search(early_exit=True, verify=True, views=8, view_depth=3)
    thoughts = list(think_stream(LookUp(), QUESTIONS, search, max_steps=1, batch_size=4))
    for thought, solution, tokens in zip(thoughts, SOLUTIONS, PUZZLES, strict=True):
        assert thought.attempt.accepted and thought.attempt.q_halt < 0
        assert thought.attempt.answer.tolist() == solution.tolist()
        assert task_named("sudoku4").check(tokens.numpy(), thought.attempt.answer) is None
        needed = steps_needed(thought.tokens)
        assert thought.total_steps == (1 if needed == 1 else 1 + 8 * needed)


def test_memory_is_bounded_by_what_may_be_read_ahead():
    """One puzzle that never ends, and an endless stream of easy ones behind it."""
    hopeless = torch.tensor(SUDOKU.parse("12....3.........").astype(np.int32))
    easy = next(p for p in PUZZLES if steps_needed(p.numpy()) == 1)
    read = 0

    def questions():
        nonlocal read
        for tokens in itertools.chain([hopeless], itertools.repeat(easy)):
            read += 1
            yield Question(tokens)

    search = Search(early_exit=True, patience=1, depth=200)
    thoughts = think_stream(LookUp(halt_max_steps=4), questions(), search, batch_size=3)
    first = next(thoughts)
    assert not first.attempt.accepted and first.attempt.steps == 800
    assert read == stream.READ_AHEAD * 3
    assert next(thoughts).attempt.answer.tolist() != first.attempt.answer.tolist()


def test_nothing_is_lost_when_the_puzzles_end(model):
    assert list(think_stream(model, [], SEARCHES["cascade"])) == []


def test_what_does_not_fit():
    wrong = torch.zeros(81, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"shape \[batch, 16\], not \[1, 81\]"):
        next(think_stream(LookUp(), [Question(wrong)]))
    nameless = TRM(replace(random_model("").config), torch.Generator())
    for search in (Search(verify=True), Search(views=1)):
        with pytest.raises(ValueError, match="leave out verify and views"):
            next(think_stream(nameless, QUESTIONS, search))
    assert CONFIG["seq_len"] == 16


@BATCHES
def test_what_the_rules_accept_does_not_depend_on_who_sits_beside(batch_size):
    search = replace(SEARCHES["symmetries"], verify=True)
    alone, together = (
        list(think_stream(LookUp(), QUESTIONS, search, max_steps=1, batch_size=size))
        for size in (1, batch_size)
    )
    assert {thought.attempt.way for thought in alone} == {"plain", "symmetry"}
    for one, other in zip(alone, together, strict=True):
        assert one.attempt.answer.tolist() == other.attempt.answer.tolist()
        assert one.attempt.steps == other.attempt.steps
        assert one.total_steps == other.total_steps


@BATCHES
def test_boards_with_guesses_have_random_numbers_of_their_own(model, batch_size):
    noisy = copy.copy(model)
    noisy.config = replace(model.config, noise=0.5)
    search = Search(early_exit=True, verify=True, guesses=3, guess_steps=1)
    answers = []
    for size, seed in ((1, 0), (1, 1), (batch_size, 0)):
        torch.manual_seed(seed)
        thoughts = think_stream(noisy, QUESTIONS[:4], search, max_steps=1, batch_size=size)
        answers.append([thought.attempt.answer.tolist() for thought in thoughts])
    assert answers[0] == answers[1] == answers[2]
