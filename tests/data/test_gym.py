"""Tables that reasoning-gym draws; its own entries and scorer are the reference."""

import pytest

pytest.importorskip("reasoning_gym")

from ostinato.data.puzzles import PuzzleSet
from ostinato.data.table import TableData
from ostinato.data.table.gym import KINDS, dataset_of, drawn, in_signs
from ostinato.data.tasks import find_task

SETTINGS = {
    "n_queens": "n=5,min_remove=2,max_remove=4",
    "sudoku": "min_empty=20,max_empty=25",
    "futoshiki": "min_board_size=4,max_board_size=5",
    "game_of_life": "grid_size_x=5,grid_size_y=5,filled_cells=9,simulation_steps=2",
    "rotate_matrix": "min_rotations=3,max_rotations=3",
    "rotten_oranges": "min_n=10,max_n=11",
}


def source_of(name: str) -> str:
    return ",".join(["reasoning-gym:" + name, *filter(None, [SETTINGS.get(name, "")])])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", KINDS)
def test_answers_are_judged_as_the_scorer_judges_them(name):
    task = TableData(source=source_of(name), num_train=40).task
    assert find_task(task.name) == task
    _, dataset = dataset_of(source_of(name), size=12)
    right = wrong = 0
    entries = [dataset[number] for number in range(12)]
    for entry in entries:
        puzzle = task.parse(KINDS[name].question(entry))
        for other in [*entries[:4], entry]:
            score = dataset.score_answer(other["answer"], entry)
            said = in_signs(other["answer"]) if name == "futoshiki" else other["answer"]
            problem = task.check(puzzle, task.parse_answer(said))
            assert (problem is None) == (score == 1)
            right, wrong = right + (score == 1), wrong + (score < 1)
    assert right >= 12 and wrong > 0


def test_a_drawn_table_is_split_into_different_puzzles(tmp_path):
    data = TableData(source="reasoning-gym:mini_sudoku", num_train=40, symmetries="square")
    folder = data.prepare(tmp_path, lambda line: None)
    sets = {split: PuzzleSet.load(folder, split) for split in ("train", "validation", "test")}
    assert {split: len(rows) for split, rows in sets.items()} == {
        "train": 40,
        "validation": 5,
        "test": 5,
    }
    task = data.task
    puzzles = {task.format(row) for rows in sets.values() for row in rows.inputs}
    assert len(puzzles) == 50
    scored = task.scores(sets["test"].inputs, sets["test"].labels)
    assert scored["solved_by_the_rules"].all()


def test_drawing_ends_when_no_question_is_new():
    rows = list(drawn("reasoning-gym:n_queens,n=4,max_remove=3", 5000, seed=0))
    assert len(rows) == len(dict(rows)) == 2 * (4 + 6 + 4)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("word_ladder", "word_ladder is no table of boards: choose one of n_queens"),
        ("chess", "chess is not known"),
        ("n_queens,m=3", "no setting 'm': it has max_remove, min_remove, n"),
        ("n_queens,n=many", "'n=many' is no number: write n=3"),
        ("n_queens,n=3", "n must be between 4 and 12"),
        ("rotate_matrix", "which is not on it: choose one"),
    ],
)
def test_sources_that_are_no_tables_are_refused(source, fault):
    with pytest.raises(ValueError, match=fault):
        _ = TableData(source="reasoning-gym:" + source).task


def test_symbols_that_a_scorer_could_run_are_refused():
    name = TableData(source="reasoning-gym:mini_sudoku", num_train=16).task.name
    with pytest.raises(ValueError, match="damaged description"):
        find_task(name.replace('"4"', '"exit(4)"'))


def test_a_board_that_is_no_puzzle_is_not_solved():
    task = TableData(source="reasoning-gym:shortest_path", num_train=16).task
    assert task.check(task.parse("O O"), task.parse_answer("up")) == (
        "this is no puzzle of shortest_path"
    )
