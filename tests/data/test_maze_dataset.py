"""Prepared mazes: disjoint under the eight symmetries, faithful to CSV files, repeatable."""

import re
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

from ostinato.data.maze import Maze, MazeData, generate, labelled
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.stored import StoredData, recognise
from ostinato.data.symmetries import transform
from tests.data.test_stored import write_foreign

SPLITS = ("train", "validation", "test")
TINY = MazeData(size=5, min_length=4, num_train=60, num_validation=10, num_test=20)
MAZE = Maze(5)


def load(folder: Path) -> dict[str, PuzzleSet]:
    return {split: PuzzleSet.load(folder, split) for split in SPLITS}


def mazes(count: int, seed: int = 0) -> np.ndarray:
    return generate(MAZE, count, 6, np.random.default_rng(seed))


def texts(puzzles: PuzzleSet) -> list[tuple[str, str]]:
    pairs = zip(puzzles.inputs, puzzles.labels, strict=True)
    return [(MAZE.format(question), MAZE.format(answer)) for question, answer in pairs]


def rows_of(inputs: np.ndarray) -> list[tuple[str, str]]:
    rows = labelled(inputs)
    return [
        (MAZE.format(question), MAZE.format(answer))
        for question, answer in zip(rows.inputs, rows.labels, strict=True)
    ]


def write_csv(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """As on the Hub, with spaces for free cells."""
    lines = [f"x,{question},{answer},5".replace(".", " ") for question, answer in rows]
    path.write_text("source,question,answer,rating\n" + "\n".join(lines) + "\n")


def images(text: str) -> set[str]:
    board = np.array(list(text)).reshape(5, 5)
    return {"".join(transform(board, number).ravel().tolist()) for number in range(8)}


def test_generated_splits_hold_what_was_asked_for(tmp_path):
    folder = TINY.prepare(tmp_path, print)
    sets = load(folder)
    assert [len(sets[split]) for split in SPLITS] == [60, 10, 20]
    for puzzles in sets.values():
        assert (puzzles.metadata.task, puzzles.metadata.vocab_size) == ("maze5", 6)
        scores = MAZE.scores(np.asarray(puzzles.inputs), np.asarray(puzzles.labels))
        assert scores["shortest_path"].all()
        assert puzzles.ratings is not None
        assert (puzzles.ratings == (puzzles.labels == 5).sum(1) + 1).all()
        assert puzzles.ratings.min() >= 4


def test_no_maze_is_a_symmetric_copy_of_another(tmp_path):
    sets = load(TINY.prepare(tmp_path, print))
    questions = [question for split in SPLITS for question, _ in texts(sets[split])]
    for place, question in enumerate(questions):
        assert not images(question) & set(questions[place + 1 :])


def test_prepared_data_are_used_again_and_depend_on_the_seed(tmp_path):
    messages: list[str] = []
    folder = TINY.prepare(tmp_path, messages.append)
    assert any("generated" in message for message in messages)
    messages.clear()
    assert TINY.prepare(tmp_path, messages.append) == folder
    assert messages == [f"data are in {folder}"]
    again = TINY.prepare(tmp_path / "elsewhere", print)
    assert again.name == folder.name
    assert texts(load(again)["test"]) == texts(load(folder)["test"])
    other = MazeData(**{**vars(TINY), "data_seed": 1}).prepare(tmp_path, print)
    assert not set(texts(load(other)["test"])) & set(texts(load(folder)["test"]))
    unmoved = MazeData(**{**vars(TINY), "augment": False})
    assert unmoved.prepare(tmp_path, print) == folder, "symmetries are drawn at load time"


def test_few_mazes_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="different maze3 puzzles with at least 6 steps, not 500"):
        MazeData(size=3, min_length=6, num_train=300, num_validation=100, num_test=100).prepare(
            tmp_path, print
        )


def test_rows_of_a_folder_keep_their_split(tmp_path):
    rows = rows_of(mazes(40))
    copy = transform(mazes(1).reshape(5, 5), 3).reshape(1, 25)
    source = tmp_path / "csv"
    source.mkdir()
    write_csv(source / "train.csv", [*rows[:30], *rows_of(copy), rows[35]])
    write_csv(source / "test.csv", rows[30:])
    data = MazeData(
        size=5, source=str(source), num_train=0, num_validation=4, num_test=0, augment=False
    )
    messages: list[str] = []
    sets = load(data.prepare(tmp_path / "data", messages.append))
    assert texts(sets["test"]) == rows[30:]
    held_out = texts(sets["validation"])
    assert len(held_out) == 4 and set(held_out) <= set(rows[:30])
    assert set(texts(sets["train"])) == set(rows[:30]) - set(held_out)
    assert "train: dropped 2 rows, symmetric copies of others" in messages


def test_all_rows_are_for_training_if_validation_is_generated(tmp_path, monkeypatch):
    """The Hub's data set as the originals use it; here of another size, from a folder."""
    rows = rows_of(mazes(30))
    write_csv(tmp_path / "train.csv", rows[:20])
    write_csv(tmp_path / "test.csv", rows[20:])
    asked = []

    def download(
        repository: str, *, repo_type: str, revision: None, allow_patterns: list[str]
    ) -> str:
        asked.extend((repository, name, repo_type) for name in allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(MazeData, "task", MAZE)
    data = MazeData(
        source="maze-30x30-hard-1k",
        min_length=7,
        num_train=0,
        num_validation=6,
        num_test=0,
        validate_on="generated",
    )
    sets = load(data.prepare(tmp_path / "data", print))
    assert asked == [
        ("sapientinc/maze-30x30-hard-1k", f"{split}.csv", "dataset") for split in ("train", "test")
    ]
    assert (texts(sets["train"]), texts(sets["test"])) == (rows[:20], rows[20:])
    assert len(sets["validation"]) == 6
    assert sets["validation"].ratings is not None and sets["validation"].ratings.min() >= 7
    assert sets["validation"].metadata.notes["source"] == "generated"
    for question, _ in texts(sets["validation"]):
        assert not images(question) & {old for old, _ in rows}


def test_a_maze_with_two_answers_is_reported(tmp_path):
    question = "S..##" + "..G##" + "#" * 15
    answers = ["Soo##" + "..G##" + "#" * 15, "S..##" + "ooG##" + "#" * 15]
    path, said = tmp_path / "mazes.csv", []
    write_csv(path, [*rows_of(mazes(3)), *((question, answer) for answer in answers)])
    MAZE.read_table(path, said.append)
    assert said == [f"{path}:5 and {path}:6: the same question has different answers"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda q, a: (q, a.replace("o", " ", 1)), "wrong answer: the path ends at row"),
        (lambda q, a: (q[1:], a), "has 25 characters"),
        (lambda q, a: (q, a.replace("o", "x", 1)), "character 'x' at row"),
        (lambda q, a: (q.replace("S", " "), a), "the maze has 0 S: write exactly one"),
    ],
)
def test_faulty_rows_are_refused_with_their_line(tmp_path, edit, message):
    good, bad = rows_of(mazes(2))
    path = tmp_path / "mazes.csv"
    write_csv(path, [good, edit(*bad)])
    data = MazeData(size=5, source=str(path), num_train=1, num_validation=1, num_test=1)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}:3: .*{re.escape(message)}"):
        data.prepare(tmp_path / "data", print)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_train": -1}, "num_train must not be negative, but is -1"),
        ({"num_test": 0}, "set num_test to at least 1"),
        ({"min_length": 900}, "no maze30 has a shortest path of 900 steps"),
        ({"source": "maze-30x30-hard-1k", "min_length": 9}, "min_length is for generated mazes"),
        ({"source": "maze-30x30-hard-1k", "size": 9}, "holds 30x30 mazes: set size=30, not 9"),
        ({"size": 9, "perfect": True, "unique": True}, "unique does nothing with perfect"),
        ({"size": 9, "perfect": True, "carved": True}, "carved mazes are perfect ones"),
        ({"size": 9, "max_length": 20}, "max_length is for carved mazes"),
        ({"size": 9, "carved": True, "min_length": 30, "max_length": 20}, "min_length 30 is more"),
        ({"size": 8, "perfect": True}, "perfect mazes have an odd size, not 8: add one"),
        ({"validate_on": "generated"}, "validate_on is for mazes in files"),
        ({"size": 2}, "a maze of size 2 is not known"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MazeData(**settings)


def test_there_must_be_enough_rows(tmp_path):
    path = tmp_path / "mazes.csv"
    write_csv(path, rows_of(mazes(5)))
    data = MazeData(size=5, source=str(path), num_train=4, num_validation=1, num_test=1)
    with pytest.raises(ValueError, match=r"only 3 different puzzles .* for train, not 4: lower"):
        data.prepare(tmp_path / "data", print)
    with pytest.raises(ValueError, match="no data source 'nowhere': give generated, maze-30x30"):
        MazeData(source="nowhere").prepare(tmp_path, print)


def test_data_sets_of_the_originals_are_recognised(tmp_path):
    rows = labelled(mazes(30))
    source = write_foreign(tmp_path / "theirs", "train", rows.inputs, rows.labels, 6)
    assert recognise(PuzzleSet.load(source, "train")) == "maze5"
    prepared = StoredData(str(source)).prepare(tmp_path / "data", print)
    assert PuzzleSet.load(prepared, "train").metadata.task == "maze5"
    wrong = rows.labels.copy()
    wrong[-1, (wrong[-1] == 5).argmax()] = 2
    foreign = write_foreign(tmp_path / "others", "train", rows.inputs, wrong, 6)
    assert recognise(PuzzleSet.load(foreign, "train")) == ""
