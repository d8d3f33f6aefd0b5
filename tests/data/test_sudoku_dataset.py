"""Prepared data: disjoint under all 3072 symmetries of 4x4, faithful to CSV files, repeatable."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

from ostinato.data.puzzles import PuzzleSet
from ostinato.data.sudoku import Sudoku, SudokuData, generate, rate
from tests.data.test_sudoku_oracle import images_4x4, is_solved

SPLITS = ("train", "validation", "test")
TINY = SudokuData(size=4, num_train=120, num_validation=20, num_test=60)


def texts(puzzles: PuzzleSet) -> list[tuple[str, str]]:
    sudoku = Sudoku(int(puzzles.metadata.task[-1]))
    return [
        (sudoku.format(question), sudoku.format(answer))
        for question, answer in zip(puzzles.inputs, puzzles.labels, strict=True)
    ]


def load(folder: Path) -> dict[str, PuzzleSet]:
    return {split: PuzzleSet.load(folder, split) for split in SPLITS}


def rows_4x4(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Puzzles no two of which are symmetric copies."""
    sudoku, rows, seen = Sudoku(4), [], set()
    for question, answer in zip(*generate(sudoku, 3 * count, (5, 9), seed), strict=True):
        row = sudoku.format(question), sudoku.format(answer)
        if "".join(row) not in seen and len(rows) < count:
            seen |= images_4x4("".join(row))
            rows.append(row)
    assert len(rows) == count
    return rows


def write_csv(
    path: Path, rows: Sequence[tuple[str, ...]], ratings: Sequence[object] | None = None
) -> None:
    lines = ["source,question,answer,rating"]
    for row, (question, answer) in enumerate(rows):
        lines.append(f"here,{question},{answer},{ratings[row] if ratings else ''}")
    path.write_text("\n".join(lines) + "\n")


def test_generated_splits_hold_what_was_asked_for(tmp_path):
    folder = TINY.prepare(tmp_path, print)
    sets = load(folder)
    assert [len(sets[split]) for split in SPLITS] == [120, 20, 60]
    for split, puzzles in sets.items():
        assert puzzles.num_groups == len(puzzles)
        assert (puzzles.metadata.task, puzzles.metadata.vocab_size) == ("sudoku4", 6)
        for question, answer in texts(puzzles):
            assert 4 <= 16 - question.count(".") <= 10
            assert is_solved(answer, 4)
        content = "".join(f"{question},{answer}\n" for question, answer in texts(puzzles))
        sha256 = hashlib.sha256(content.encode()).hexdigest()
        assert puzzles.metadata.notes["subset_sha256"] == sha256
        assert (puzzles.ratings is None) == (split == "train")


def test_no_generated_puzzle_is_a_symmetric_copy_of_another(tmp_path):
    sets = load(TINY.prepare(tmp_path, print))
    questions = [question for split in SPLITS for question, _ in texts(sets[split])]
    for place, question in enumerate(questions):
        assert not images_4x4(question) & set(questions[place + 1 :])


def test_generated_puzzles_join_the_training_rows_of_a_file(tmp_path):
    sets = load(TINY.prepare(tmp_path, print))
    file = tmp_path / "train.csv"
    rows = [f"{q},{a}\n" for split in SPLITS for q, a in texts(sets[split])][:30]
    file.write_text("question,answer\n" + "".join(rows))
    data = replace(
        TINY,
        source=str(file),
        num_train=20,
        num_validation=5,
        num_test=5,
        num_generated=40,
        min_givens=5,
        max_givens=7,
    )
    mixed = load(data.prepare(tmp_path, print))
    assert [len(mixed[split]) for split in SPLITS] == [60, 5, 5]
    added = [question for question, _ in texts(mixed["train"])[20:]]
    assert all(5 <= 16 - question.count(".") <= 7 for question in added)
    others = [question for split in SPLITS for question, _ in texts(mixed[split])]
    for question in added:
        assert len(images_4x4(question) & set(others)) == 1


def test_prepared_data_are_used_again_and_can_be_rebuilt(tmp_path):
    messages: list[str] = []
    folder = TINY.prepare(tmp_path, messages.append)
    assert any("generated" in message for message in messages)
    first = {split: puzzles.fingerprint for split, puzzles in load(folder).items()}
    messages.clear()
    assert TINY.prepare(tmp_path, messages.append) == folder
    assert messages == [f"data are in {folder}"]
    assert list(tmp_path.iterdir()) == [folder]
    shutil.rmtree(folder)
    assert TINY.prepare(tmp_path, print) == folder
    assert {split: puzzles.fingerprint for split, puzzles in load(folder).items()} == first


def test_the_same_settings_give_the_same_data_as_ever(tmp_path):
    """If this hash has to change, BUILD in dataset.py goes up, so that old folders are not used."""
    data = SudokuData(num_train=20, num_validation=1, num_test=1)
    notes = PuzzleSet.load(data.prepare(tmp_path, print), "train").metadata.notes
    assert notes["subset_sha256"] == GOLDEN_SHA256


GOLDEN_SHA256 = "4ce6b330cb236a8bf0aa38a3c3cc3e82f0ab93d03cd609fb90d0cd1748ce22c1"


def test_settings_that_change_the_data_change_the_folder(tmp_path):
    small: dict[str, Any] = {"size": 4, "num_train": 4, "num_validation": 2, "num_test": 2}
    variants = [
        small,
        small | {"data_seed": 1},
        small | {"min_givens": 5},
        small | {"num_train": 5},
        small | {"num_aug": 1, "augment": False},
    ]
    folders = {SudokuData(**settings).prepare(tmp_path, print) for settings in variants}
    assert len(folders) == 5
    assert SudokuData(**small, augment=False).prepare(tmp_path, print) in folders
    assert SudokuData(**small, min_givens=4).prepare(tmp_path, print) in folders


def test_more_puzzles_than_there_are(tmp_path):
    """With four givens there are 13 essentially different puzzles of 4x4."""
    least: dict[str, Any] = {
        "size": 4,
        "min_givens": 4,
        "max_givens": 4,
        "num_validation": 1,
        "num_test": 1,
    }
    with pytest.raises(ValueError, match=r"only 13 different sudoku4 puzzles .* not 14"):
        SudokuData(**least, num_train=12).prepare(tmp_path, print)
    assert not list(tmp_path.iterdir())
    SudokuData(**least, num_train=11).prepare(tmp_path, print)


def test_copies_built_in_advance_follow_their_puzzle(tmp_path):
    data = SudokuData(size=6, num_train=5, num_validation=2, num_test=2, num_aug=7, augment=False)
    folder = data.prepare(tmp_path, print)
    puzzles = PuzzleSet.load(folder, "train")
    assert (len(puzzles), puzzles.num_groups) == (40, 5)
    assert puzzles.group_indices.tolist() == [0, 8, 16, 24, 32, 40]
    signatures = Sudoku(6).signatures(puzzles.inputs, puzzles.labels).reshape(5, 8)
    assert (signatures == signatures[:, :1]).all()
    assert len(np.unique(signatures)) == 5
    assert len(np.unique(puzzles.inputs, axis=0)) == 40
    assert len(PuzzleSet.load(folder, "test")) == 2
    assert puzzles.metadata.notes["subset_sha256"] == (
        hashlib.sha256(
            "".join(f"{question},{answer}\n" for question, answer in texts(puzzles)[::8]).encode()
        ).hexdigest()
    )


def test_training_rows_that_copy_held_out_rows_are_dropped(tmp_path):
    rows = rows_4x4(30)
    copies = [sorted(images_4x4("".join(rows[i])))[7] for i in (20, 21, 25, 0)]
    train = rows[:20] + [(copy[:16], copy[16:]) for copy in copies]
    write_csv(tmp_path / "train.csv", train)
    write_csv(tmp_path / "validation.csv", rows[20:24])
    write_csv(tmp_path / "test.csv", rows[24:], ratings=[1, 2.5, 3, 4, 5, 6])
    messages: list[str] = []
    data = SudokuData(
        size=4, source=str(tmp_path), num_train=0, num_validation=0, num_test=0, data_seed=5
    )
    sets = load(data.prepare(tmp_path / "root", messages.append))
    assert texts(sets["validation"]) == rows[20:24]
    assert texts(sets["test"]) == rows[24:]
    # Three copy held-out rows. The fourth is a copy of the first row: one of the two stays.
    assert len(sets["train"]) == 20
    assert set(rows[1:20]) < set(texts(sets["train"])) < set(rows[:20]) | {train[-1]}
    assert "train: dropped 4 rows, symmetric copies of others" in messages
    assert sets["test"].ratings is not None
    assert sets["test"].ratings.tolist() == [1, 2.5, 3, 4, 5, 6]
    assert sets["test"].metadata.notes["rated_by"] == "source"
    assert sets["validation"].metadata.notes["rated_by"] == "guesses"
    assert sets["train"].ratings is None


def test_a_validation_row_that_copies_a_test_row_is_dropped(tmp_path):
    rows = rows_4x4(6)
    copy = max(images_4x4("".join(rows[5])))
    for split, chosen in (
        ("train", rows[:2]),
        ("validation", [*rows[2:4], (copy[:16], copy[16:])]),
        ("test", rows[4:]),
    ):
        write_csv(tmp_path / f"{split}.csv", chosen)
    data = SudokuData(size=4, source=str(tmp_path), num_train=0, num_validation=0, num_test=1)
    sets = load(data.prepare(tmp_path / "root", print))
    assert texts(sets["validation"]) == rows[2:4]


def test_splits_without_a_file_come_from_unused_training_rows(tmp_path):
    rows = rows_4x4(40)
    write_csv(tmp_path / "all.csv", rows, ratings=list(range(40)))
    source = str(tmp_path / "all.csv")
    data = SudokuData(size=4, source=source, num_train=20, num_validation=5, num_test=10)
    sets = load(data.prepare(tmp_path / "root", print))
    chosen = [row for split in SPLITS for row in texts(sets[split])]
    assert [len(sets[split]) for split in SPLITS] == [20, 5, 10]
    assert len(set(chosen)) == 35
    assert set(chosen) < set(rows)
    for puzzles in sets.values():
        assert puzzles.ratings is not None
        assert [rows[int(rating)] for rating in puzzles.ratings] == texts(puzzles)
    # The training rows do not depend on how many are held out.
    data = SudokuData(size=4, source=source, num_train=20, num_validation=9, num_test=3)
    assert texts(load(data.prepare(tmp_path / "root", print))["train"]) == texts(sets["train"])
    data = SudokuData(size=4, source=source, num_train=0, num_validation=9, num_test=3)
    messages: list[str] = []
    assert len(load(data.prepare(tmp_path / "root", messages.append))["train"]) == 28
    assert not any("dropped" in message for message in messages)


def test_all_guesses_are_counted_if_a_held_out_row_has_no_rating(tmp_path):
    sudoku = Sudoku(9)
    puzzles, answers = generate(sudoku, 6, (25, 25), 0)
    rows = [tuple(map(sudoku.format, row)) for row in zip(puzzles, answers, strict=True)]
    write_csv(tmp_path / "train.csv", rows[:2], ratings=[7, ""])
    write_csv(tmp_path / "validation.csv", rows[2:3], ratings=[7])
    write_csv(tmp_path / "test.csv", rows[3:], ratings=["", 7, 7])
    data = SudokuData(source=str(tmp_path), num_train=0, num_validation=0, num_test=0)
    sets = load(data.prepare(tmp_path / "root", print))
    assert sets["train"].ratings is None
    assert sets["validation"].ratings is not None
    assert sets["validation"].ratings.tolist() == [7]
    assert sets["test"].ratings is not None
    assert sets["test"].ratings.tolist() == [rate(sudoku, puzzle) for puzzle in puzzles[3:]]


def test_the_seed_chooses_the_rows(tmp_path):
    write_csv(tmp_path / "all.csv", rows_4x4(40))
    chosen = []
    for seed in (0, 1):
        settings: dict[str, Any] = {
            "num_train": 20,
            "num_validation": 5,
            "num_test": 5,
            "data_seed": seed,
        }
        data = SudokuData(size=4, source=str(tmp_path / "all.csv"), **settings)
        chosen.append(set(texts(load(data.prepare(tmp_path / "root", print))["train"])))
    assert chosen[0] != chosen[1]


def test_a_changed_file_is_another_data_set(tmp_path):
    rows = rows_4x4(12)
    data = SudokuData(
        size=4, source=str(tmp_path / "all.csv"), num_train=0, num_validation=2, num_test=2
    )
    write_csv(tmp_path / "all.csv", rows[:10])
    before = data.prepare(tmp_path / "root", print)
    write_csv(tmp_path / "all.csv", rows)
    after = data.prepare(tmp_path / "root", print)
    assert (len(load(before)["train"]), len(load(after)["train"])) == (6, 8)


def test_too_few_rows_and_missing_files(tmp_path):
    write_csv(tmp_path / "train.csv", rows_4x4(10))
    settings: dict[str, Any] = {"size": 4, "source": str(tmp_path), "num_train": 7, "num_test": 2}
    changes: list[tuple[dict[str, Any], str]] = [
        ({"num_validation": 2}, "only 6 different puzzles are left for train, not 7"),
        ({"num_validation": 0}, "there is no validation.csv: set num_validation"),
        ({"num_validation": 9}, "only 8 different .* left for validation, not 9"),
        ({"source": str(tmp_path / "root")}, "no data source"),
    ]
    for changed, message in changes:
        with pytest.raises(ValueError, match=message):
            SudokuData(**settings | changed).prepare(tmp_path / "new", print)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no train\.csv in this folder"):
        SudokuData(source=str(tmp_path / "empty")).prepare(tmp_path / "new", print)


def test_sudoku_extreme_comes_from_the_hub(tmp_path, monkeypatch):
    asked = []

    def download(repo, *, repo_type, revision, allow_patterns):
        for name in allow_patterns:
            asked.append((repo, name, repo_type))
            rows = list(zip(*generate(Sudoku(9), 12, (40, 44), len(name)), strict=True))
            path = tmp_path / name
            write_csv(path, [tuple(map(Sudoku(9).format, row)) for row in rows], list(range(12)))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    data = SudokuData(source="sudoku-extreme", num_train=5, num_validation=3, num_test=0)
    sets = load(data.prepare(tmp_path / "root", print))
    repo = "sapientinc/sudoku-extreme"
    assert asked == [(repo, "train.csv", "dataset"), (repo, "test.csv", "dataset")]
    assert [len(sets[split]) for split in SPLITS] == [5, 3, 12]
    assert sets["test"].ratings is not None
    assert sets["test"].ratings.tolist() == list(range(12))

    def offline(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    assert data.prepare(tmp_path / "root", print).is_dir()  # prepared before: no need to ask
    with pytest.raises(ValueError, match=r"go online, or set source to a folder.*no network"):
        data.prepare(tmp_path / "other", print)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 5}, "choose 4, 6, 9 or 16"),
        ({"num_train": 0}, "set num_train to at least 1"),
        ({"num_test": -1}, "num_test must not be negative, but is -1"),
        ({"num_aug": 10}, "set augment=False with it, or num_aug=0"),
        ({"min_givens": 50}, "givens from 50 to 44 are impossible"),
        ({"size": 4, "min_givens": 3}, "choose a range within 4 to 16"),
        ({"source": "x.csv", "max_givens": 40}, "leave out min_givens and max_givens"),
        ({"source": "sudoku-extreme", "size": 4}, "set size=9, not 4"),
        ({"num_generated": 5}, "num_generated is for CSV sources"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        SudokuData(**settings)
