"""Foreign data sets: split by groups, recognised by the rules, never changed, test left alone."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostinato.data.metadata import Metadata
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.stored import StoredData, recognise, take_groups
from ostinato.data.sudoku import Sudoku, generate
from tests.data.test_batches import group_sizes, numbered_set


def write_foreign(
    folder: Path,
    split: str,
    inputs: np.ndarray,
    labels: np.ndarray,
    vocab_size: int,
    variants: int = 1,
    task: str = "",
) -> Path:
    """A split as the originals' Sudoku script writes it, file by file."""
    place = folder / split
    place.mkdir(parents=True)
    count = len(inputs)
    arrays = {
        "inputs": inputs,
        "labels": labels,
        "puzzle_identifiers": np.zeros(count, np.int32),
        "puzzle_indices": np.arange(count + 1, dtype=np.int32),
        "group_indices": np.arange(0, count + 1, variants, dtype=np.int32),
    }
    for name, array in arrays.items():
        np.save(place / f"all__{name}.npy", array)
    metadata = {
        "pad_id": 0,
        "ignore_label_id": 0,
        "blank_identifier_id": 0,
        "vocab_size": vocab_size,
        "seq_len": inputs.shape[1],
        "num_puzzle_identifiers": 1,
        "total_groups": count // variants,
        "mean_puzzle_examples": 1.0,
        "total_puzzles": count // variants,
        "sets": ["all"],
    }
    (place / "dataset.json").write_text(json.dumps(metadata | ({"task": task} if task else {})))
    return folder


def write_sudokus(
    folder: Path, size: int = 4, num_train: int = 30, variants: int = 1, task: str = ""
) -> Path:
    sudoku = Sudoku(size)
    givens = {4: (5, 9), 9: (40, 44)}[size]
    inputs, labels = generate(sudoku, num_train + 8, givens, seed=3)
    train = np.s_[:num_train]
    inputs_train, labels_train = (
        np.repeat(boards[train], variants, axis=0) for boards in (inputs, labels)
    )
    write_foreign(folder, "train", inputs_train, labels_train, size + 2, variants, task)
    return write_foreign(
        folder, "test", inputs[num_train:], labels[num_train:], size + 2, task=task
    )


def rows(puzzles: PuzzleSet) -> list[bytes]:
    pairs = zip(puzzles.inputs, puzzles.labels, strict=True)
    return [question.tobytes() + answer.tobytes() for question, answer in pairs]


def content(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()


@given(group_sizes, st.data())
def test_taken_groups_are_those_that_were_chosen(groups: list[list[int]], data: st.DataObject):
    puzzles = numbered_set(groups)
    chosen = data.draw(st.lists(st.integers(0, len(groups) - 1), min_size=1))
    expected = []
    for group in chosen:
        for p in range(puzzles.group_indices[group], puzzles.group_indices[group + 1]):
            first, end = puzzles.puzzle_indices[p : p + 2]
            expected.append((puzzles.puzzle_identifiers[p], puzzles.inputs[first:end].tolist()))
    part = take_groups(puzzles, np.array(chosen))
    found = [
        (part.puzzle_identifiers[p], part.inputs[first:end].tolist())
        for p, (first, end) in enumerate(
            zip(part.puzzle_indices, part.puzzle_indices[1:], strict=False)
        )
    ]
    assert found == expected
    assert np.diff(part.group_indices).tolist() == [len(groups[group]) for group in chosen]
    assert part.ratings is not None and puzzles.ratings is not None
    numbers = part.inputs @ 10 ** np.arange(part.inputs.shape[1])
    np.testing.assert_array_equal(part.ratings, puzzles.ratings[numbers])


def test_validation_is_held_out_from_train_and_nothing_from_test(tmp_path: Path):
    source = write_sudokus(tmp_path / "sudokus", num_train=30)
    before = content(source)
    report: list[str] = []
    folder = StoredData(str(source)).prepare(tmp_path / "data", report.append)
    assert folder.parent == tmp_path / "data"
    sets = {split: PuzzleSet.load(folder, split) for split in ("train", "validation", "test")}
    originals = {split: PuzzleSet.load(source, split) for split in ("train", "test")}
    assert [len(sets[split]) for split in ("train", "validation", "test")] == [27, 3, 8]
    assert rows(sets["test"]) == rows(originals["test"])
    assert sorted(rows(sets["train"]) + rows(sets["validation"])) == sorted(
        rows(originals["train"])
    )
    assert any("3 of its 30 training puzzles are held out" in line for line in report)
    assert content(source) == before


def test_copies_go_with_their_puzzle_and_validation_has_none(tmp_path: Path):
    pairs = np.array([(group, variant) for group in range(20) for variant in range(4)])
    source = write_foreign(tmp_path / "some", "train", pairs, pairs, vocab_size=20, variants=4)
    folder = StoredData(str(source), num_validation=5).prepare(tmp_path / "data", print)
    train, validation = PuzzleSet.load(folder, "train"), PuzzleSet.load(folder, "validation")
    assert (train.num_groups, validation.num_groups) == (15, 5)
    held_out = {group for group, _ in validation.inputs.tolist()}
    assert validation.inputs.tolist() == [[group, 0] for group in sorted(held_out)]
    assert train.inputs.tolist() == [pair for pair in pairs.tolist() if pair[0] not in held_out]


def test_the_choice_is_seeded_and_built_once(tmp_path: Path):
    source, root = write_sudokus(tmp_path / "sudokus"), tmp_path / "data"
    folder = StoredData(str(source)).prepare(root, print)
    built = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    report: list[str] = []
    assert StoredData(str(source), augment=False).prepare(root, report.append) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == built
    assert report[-1] == f"data are in {folder}"
    other = StoredData(str(source), data_seed=1).prepare(root, print)
    assert rows(PuzzleSet.load(other, "validation")) != rows(PuzzleSet.load(folder, "validation"))
    inputs = np.load(source / "train/all__inputs.npy")
    np.save(source / "train/all__inputs.npy", inputs[::-1])
    labels = np.load(source / "train/all__labels.npy")
    np.save(source / "train/all__labels.npy", labels[::-1])
    assert StoredData(str(source)).prepare(root, print) not in (folder, other)
    assert len(list(root.iterdir())) == 3, "nothing else is left behind"


@pytest.mark.parametrize(("groups", "held_out"), [(2, 1), (19, 1), (20, 2), (12_000, 1000)])
def test_a_tenth_is_held_out_at_most_a_thousand(tmp_path: Path, groups: int, held_out: int):
    tokens = np.ones((groups, 3), np.uint8)
    source = write_foreign(tmp_path / "some", "train", tokens, tokens, vocab_size=6)
    folder = StoredData(str(source)).prepare(tmp_path / "data", print)
    assert len(PuzzleSet.load(folder, "validation")) == held_out
    assert len(PuzzleSet.load(folder, "train")) == groups - held_out


def test_a_complete_data_set_is_used_where_it_is(tmp_path: Path):
    source = write_sudokus(tmp_path / "sudokus", task="sudoku4")
    test = PuzzleSet.load(source, "test")
    test.save(source, "validation")
    report: list[str] = []
    assert StoredData(str(source)).prepare(tmp_path / "data", report.append) == source
    assert report == [f"data are in {source}"]
    with pytest.raises(ValueError, match="has a validation split: leave num_validation at 0"):
        StoredData(str(source), num_validation=3).prepare(tmp_path / "data", print)


def test_a_complete_data_set_that_does_not_name_its_puzzle_is_copied(tmp_path: Path):
    source = write_sudokus(tmp_path / "sudokus")
    PuzzleSet.load(source, "test").save(source, "validation")
    folder = StoredData(str(source)).prepare(tmp_path / "data", print)
    for split in ("train", "validation", "test"):
        assert PuzzleSet.load(folder, split).metadata.task == "sudoku4"
        assert rows(PuzzleSet.load(folder, split)) == rows(PuzzleSet.load(source, split))


@pytest.mark.parametrize("size", [4, 9])
def test_sudokus_are_recognised_by_the_rules(tmp_path: Path, size: int):
    source = write_sudokus(tmp_path / "sudokus", size)
    puzzles = PuzzleSet.load(source, "train")
    assert recognise(puzzles) == f"sudoku{size}"
    place = source / "train/all__labels.npy"
    labels = np.load(place)
    labels[7, 5] = labels[7, 6]
    np.save(place, labels)
    assert recognise(PuzzleSet.load(source, "train")) == ""


def test_other_puzzles_are_not_taken_for_sudokus(tmp_path: Path):
    report: list[str] = []
    tokens = np.full((10, 81), 2, np.uint8)
    source = write_foreign(tmp_path / "some", "train", tokens, tokens, vocab_size=11)
    folder = StoredData(str(source)).prepare(tmp_path / "data", report.append)
    assert PuzzleSet.load(folder, "train").metadata.task == ""
    assert any("no symmetries are known" in line for line in report)
    report.clear()
    StoredData(str(source), augment=False).prepare(tmp_path / "data", report.append)
    assert not any("symmetries" in line for line in report)


@pytest.mark.parametrize("task", ["sudoku4", ""])
@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_that_break_the_rules_are_refused(tmp_path: Path, task: str, split: str):
    source = write_sudokus(tmp_path / "sudokus", task=task)
    place = source / split / "all__labels.npy"
    labels = np.load(place)
    labels[[3, 7], 5] = labels[[3, 7], 6]
    np.save(place, labels)
    message = rf"{split}, example 3: wrong answer: .*; correct it \(the first of 2\)$"
    with pytest.raises(ValueError, match=message):
        StoredData(str(source)).prepare(tmp_path / "data", print)
    labels[[3, 7], 5] = 0  # not supervised
    np.save(place, labels)
    if task:
        StoredData(str(source)).prepare(tmp_path / "data", print)


@pytest.mark.parametrize("ids", [1, 2])
def test_other_data_with_two_answers_to_a_question_are_reported(tmp_path: Path, ids: int):
    questions = np.arange(60).reshape(20, 3) % 50
    questions[17], answers = questions[4], np.arange(20)[:, None] + np.zeros((1, 3), int)
    source = write_foreign(tmp_path / "some", "train", questions, answers, vocab_size=50)
    identifiers = np.zeros(20, np.int32)
    identifiers[17] = ids - 1
    np.save(source / "train/all__puzzle_identifiers.npy", identifiers)
    path = source / "train/dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_puzzle_identifiers": ids}))
    said: list[str] = []
    StoredData(str(source)).prepare(tmp_path / "data", said.append)
    assert (
        ids == 2 or f"{source}/train, example 4 and {source}/train, example 17: the same" in said[0]
    )
    assert ("different answers" in said[0]) == (ids == 1)


def test_groups_whose_ids_test_needs_stay_in_training(tmp_path: Path):
    """As in ARC: the demonstration pairs of the test tasks."""
    train = numbered_set([[2, 1], [3], [1, 1], [2], [1]])
    test = take_groups(train, np.array([0, 2, 3]))
    train.save(tmp_path / "arc", "train")
    test.save(tmp_path / "arc", "test")
    for seed in range(10):
        data = StoredData(str(tmp_path / "arc"), num_validation=1, data_seed=seed)
        folder = data.prepare(tmp_path / "data", print)
        held_out = PuzzleSet.load(folder, "validation").puzzle_identifiers
        assert not np.isin(held_out, test.puzzle_identifiers).any()
    with pytest.raises(ValueError, match="3 of 5 training puzzles cannot be held out"):
        StoredData(str(tmp_path / "arc"), num_validation=3).prepare(tmp_path / "data", print)


def test_mistakes_have_remedies(tmp_path: Path):
    def prepare(path: Path, num_validation: int = 0) -> None:
        StoredData(str(path), num_validation=num_validation).prepare(tmp_path / "data", print)

    with pytest.raises(ValueError, match=r"there is no folder .*nowhere: give one that holds"):
        prepare(tmp_path / "nowhere")
    source = write_sudokus(tmp_path / "sudokus")
    with pytest.raises(ValueError, match=r"30 of 30 training puzzles cannot be .*lower num_valid"):
        prepare(source, num_validation=30)
    (source / "train").rename(source / "training")
    with pytest.raises(ValueError, match="no split 'train'"):
        prepare(source)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/train.csv").touch()
    with pytest.raises(ValueError, match=r"holds CSV files: train on them with --source .*tables"):
        prepare(tmp_path / "tables")
    with pytest.raises(ValueError, match="num_validation must not be negative, but is -1"):
        prepare(source, num_validation=-1)
    assert not (tmp_path / "data").exists()


def test_metadata_of_the_parts_count_what_they_hold(tmp_path: Path):
    source = write_sudokus(tmp_path / "sudokus", num_train=20, variants=2)
    folder = StoredData(str(source)).prepare(tmp_path / "data", print)
    metadata = Metadata.load(folder / "train" / "dataset.json")
    assert (metadata.total_groups, metadata.total_puzzles) == (18, 36)
    assert metadata.notes["copied_from"] == str(source)


def test_the_layout_of_nano_trm(tmp_path: Path):
    """Three arrays a split, a canvas with -100 around the labels, and a split called val."""
    puzzles, answers = generate(Sudoku(4), 12, (6, 8), seed=0)
    for split, rows in (("train", slice(8)), ("val", slice(8, 10)), ("test", slice(10, 12))):
        place = tmp_path / "nano" / split
        place.mkdir(parents=True)
        for name, tokens, outside in (("inputs", puzzles, 0), ("labels", answers, -100)):
            canvas = np.full((len(tokens[rows]), 6, 6), outside, np.int32)
            canvas[:, :4, :4] = tokens[rows].reshape(-1, 4, 4) + 1
            np.save(place / f"all__{name}.npy", canvas.reshape(-1, 36))
        np.save(place / "all__puzzle_identifiers.npy", np.zeros(len(puzzles[rows]), np.int32))
        facts = {"num_puzzles": len(puzzles[rows]), "grid_size": 4, "seq_len": 36, "vocab_size": 7}
        (place / "dataset.json").write_text(json.dumps(facts))
    folder = StoredData(str(tmp_path / "nano")).prepare(tmp_path / "data", lambda line: None)
    for split, count in (("train", 8), ("validation", 2), ("test", 2)):
        rows = PuzzleSet.load(folder, split)
        assert (len(rows), rows.num_groups, rows.metadata.ignore_label_id) == (count, count, -100)
        assert ((rows.labels != -100).sum(axis=1) == 16).all()
