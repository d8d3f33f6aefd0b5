"""Every kind of puzzle keeps this contract: a line in `KINDS` and a recipe test a new one here."""

from functools import cache

import numpy as np
import pytest
import torch

from ostinato.data.built import GENERATED, BuiltData
from ostinato.data.tables import Rows
from ostinato.data.task import Task
from ostinato.data.tasks import KINDS, TASKS, task_named
from ostinato.recipes import all_recipes


def generators() -> dict[str, BuiltData]:
    """The data of the first recipe for each kind and size that draws its puzzles."""
    found: dict[str, BuiltData] = {}
    for make in all_recipes().values():
        data = make().data
        if isinstance(data, BuiltData) and data.source == GENERATED and make().model.task:
            found.setdefault(data.task.name, data)
    return found


DATA = generators()
EVERY = pytest.mark.parametrize("name", DATA)
COUNT = 12


@cache
def drawn(name: str, seed: int = 0) -> Rows:
    nothing = np.zeros(0, np.uint64)
    return DATA[name].generate(COUNT, np.random.default_rng(seed), nothing, lambda line: None)


def pairs(name: str) -> list[tuple[Task, np.ndarray, np.ndarray]]:
    rows = drawn(name)
    return [(DATA[name].task, *pair) for pair in zip(rows.inputs, rows.labels, strict=True)]


def has_symmetries(task: Task) -> bool:
    group = task.group
    return type(task).symmetries is not Task.symmetries or len(group.moves) > 1 or bool(group.free)


def test_every_kind_has_a_recipe_that_draws_its_puzzles():
    assert {type(data.task) for data in DATA.values()} >= {kind.task for kind in KINDS}


def test_every_size_is_found_by_its_name():
    for kind in KINDS:
        for task in kind.tasks:
            assert task_named(task.name) == TASKS[task.name] == task
            assert len(task.symbols) == task.vocab_size > 1


@EVERY
def test_the_seed_gives_its_puzzles_and_none_is_a_copy(name: str):
    task, rows, other = DATA[name].task, drawn(name), drawn(name, 1)
    again = drawn.__wrapped__(name)
    assert rows.inputs.shape == rows.labels.shape == (COUNT, task.seq_len)
    assert (rows.inputs == again.inputs).all() and (rows.labels == again.labels).all()
    assert not (rows.inputs == other.inputs).all(axis=1).any()
    signatures = task.signatures(rows.inputs, rows.labels)
    assert len(set(signatures.tolist())) == COUNT
    seen = DATA[name].generate(2, np.random.default_rng(0), signatures, lambda line: None)
    assert not set(task.signatures(seen.inputs, seen.labels)) & set(signatures)


@EVERY
def test_what_is_written_is_read(name: str):
    for task, puzzle, answer in pairs(name):
        assert (task.parse(task.format(puzzle)) == puzzle).all()
        assert (task.parse_answer(task.format(answer)) == answer).all()
        lines = iter([task.format(puzzle)])
        assert [board for _, board in task.boards(lines)] == [task.format(puzzle)]
        assert task.draw(puzzle)
        assert "!" in task.draw(answer, lambda cell, symbol: "!")
    with pytest.raises(ValueError) as error:
        task.parse(task.format(puzzle) + "~")
    assert "\n" not in str(error.value)


@EVERY
def test_right_answers_are_accepted_and_changed_ones_are_not(name: str):
    rows, task = drawn(name), DATA[name].task
    assert not task.wrong(rows.inputs, rows.labels).any()
    assert task.wrong(rows.inputs, rows.inputs).any()
    rng = np.random.default_rng(0)
    for task, puzzle, answer in pairs(name):
        assert task.check(puzzle, answer) is None
        assert not task.faults(puzzle, answer).any()
        assert (puzzle > 1).sum() >= task.fewest_givens
        assert task.count_solutions(puzzle, 1000) in (None, 1) or not task.fewest_givens
        cells = rng.permutation(task.seq_len)[:40]
        changed = np.tile(answer, (len(cells), 1))
        for cell, board in zip(cells, changed, strict=True):
            board[cell] = rng.choice([t for t in range(1, task.vocab_size) if t != answer[cell]])
        assert task.wrong(np.tile(puzzle, (len(cells), 1)), changed).all()
        assert all("\n" not in str(task.check(puzzle, board)) for board in changed[::9])


@EVERY
def test_a_changed_given_is_found(name: str):
    rows = drawn(name)
    blanks = np.unique(rows.inputs[rows.inputs != rows.labels])
    for task, puzzle, answer in pairs(name):
        assert not task.changed(puzzle, answer).any()
        given = ~np.isin(puzzle, blanks)
        others = np.where(puzzle == 2, 3, 2)
        assert (task.changed(puzzle, np.where(given, others, answer)) == given).all()
    assert (task.changed(rows.inputs, rows.labels) == np.zeros(rows.inputs.shape)).all()


@EVERY
def test_symmetries_keep_the_rules_and_can_be_undone(name: str):
    rows, task, generator = drawn(name), DATA[name].task, torch.Generator().manual_seed(0)
    for _ in range(8):
        seed = generator.get_state()
        symmetries = task.symmetries(COUNT, generator)
        inputs, labels = (torch.from_numpy(t) for t in (rows.inputs, rows.labels))
        moved, answers = symmetries.apply(inputs), symmetries.apply(labels)
        assert not moved.equal(inputs) or not has_symmetries(task)
        assert (moved == 1).sum(1).equal((inputs == 1).sum(1))
        assert not task.wrong(moved.numpy(), answers.numpy()).any()
        before, after = (
            task.signatures(a, b)
            for a, b in ((rows.inputs, rows.labels), (moved.numpy(), answers.numpy()))
        )
        assert (before == after).all()
        # Any tokens, ignored labels as well, there and back, and back and there
        tokens = torch.randint(-2, task.vocab_size, labels.shape, generator=generator)
        assert symmetries.inverse().apply(symmetries.apply(tokens)).equal(tokens)
        assert symmetries.apply(symmetries.inverse().apply(tokens)).equal(tokens)
        augmented = task.augment(inputs, labels, torch.Generator().set_state(seed))
        assert augmented[0].equal(moved) and augmented[1].equal(answers)
