"""The on-disk format, against plain files and one wrong thing at a time."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from ostinato.data.batches import IGNORE_LABEL, training_batches
from ostinato.data.batches import test_batches as batches_of_test
from ostinato.data.metadata import Metadata
from ostinato.data.puzzles import PuzzleSet


def small_set() -> PuzzleSet:
    """Three groups of 2, 1 and 3 puzzles, with 12 examples."""
    inputs = np.arange(48, dtype=np.uint8).reshape(12, 4) % 10
    return PuzzleSet.assemble(
        Metadata(
            vocab_size=11,
            seq_len=4,
            num_puzzle_identifiers=10,
            pad_id=10,
            task="numbers",
            notes={"seed": 3},
        ),
        inputs,
        labels=inputs + 1,
        puzzle_identifiers=np.array([4, 5, 6, 7, 8, 1]),
        puzzle_indices=np.array([0, 1, 3, 6, 8, 10, 12]),
        group_indices=np.array([0, 2, 3, 6]),
        ratings=np.arange(12) / 7,
    )


def test_saved_set_loads_unchanged(tmp_path: Path) -> None:
    puzzles = small_set()
    puzzles = replace(
        puzzles, metadata=replace(puzzles.metadata, task="numbers", notes={"seed": 3})
    )
    puzzles.save(tmp_path, "train")
    loaded = PuzzleSet.load(tmp_path, "train")
    assert loaded.metadata == puzzles.metadata
    assert loaded.arrays().keys() == puzzles.arrays().keys()
    for key, array in puzzles.arrays().items():
        np.testing.assert_array_equal(loaded.arrays()[key], array, strict=True)
    assert loaded.fingerprint == puzzles.fingerprint
    loaded.save(tmp_path, "train")  # over the files that it reads from
    assert PuzzleSet.load(tmp_path, "train").fingerprint == puzzles.fingerprint
    replace(loaded, ratings=None).save(tmp_path, "train")
    assert PuzzleSet.load(tmp_path, "train").ratings is None


def test_counts() -> None:
    puzzles = small_set()
    assert (len(puzzles), puzzles.num_groups, puzzles.metadata.total_puzzles) == (12, 3, 6)
    assert puzzles.metadata.total_groups == 3
    assert puzzles.metadata.mean_puzzle_examples == 2
    assert puzzles.epoch_examples == 6


def test_fingerprint_tells_every_change() -> None:
    puzzles = small_set()
    fingerprints = [puzzles.fingerprint]
    for key, array in puzzles.arrays().items():
        changed = array.copy()
        changed.flat[-1] += 1
        fingerprints.append(replace(puzzles, **{key: changed}).fingerprint)
    for fact in ({"ignore_label_id": None}, {"vocab_size": 12}):
        changed = replace(puzzles, metadata=replace(puzzles.metadata, **fact))
        fingerprints.append(changed.fingerprint)
    assert len(set(fingerprints)) == len(fingerprints)
    noted = replace(puzzles, metadata=replace(puzzles.metadata, notes={"built": "today"}))
    assert noted.fingerprint == puzzles.fingerprint


def test_of_examples_groups_the_copies() -> None:
    inputs = np.arange(24).reshape(6, 4) % 10
    puzzles = PuzzleSet.of_examples("numbers", inputs, inputs + 1, 11, copies=3, seed=5)
    assert puzzles.group_indices.tolist() == [0, 3, 6]
    assert puzzles.puzzle_indices.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert puzzles.puzzle_identifiers.tolist() == [0] * 6
    assert puzzles.inputs.dtype == puzzles.labels.dtype == np.uint8
    np.testing.assert_array_equal(puzzles.labels, inputs + 1)
    assert (puzzles.metadata.task, puzzles.metadata.notes) == ("numbers", {"seed": 5})
    with pytest.raises(ValueError, match="no whole groups of 4"):
        PuzzleSet.of_examples("numbers", inputs, inputs, 11, copies=4)
    with pytest.raises(ValueError, match=r"labels: 10 is not in 0..9"):
        PuzzleSet.of_examples("numbers", inputs, inputs + 1, 10)


def write_original(place: Path, sets: tuple[str, ...] = ("all",), **metadata: object) -> None:
    """A split of the older format, without total_puzzles, written as plain files."""
    content = {
        "pad_id": 0,
        "ignore_label_id": 0,
        "blank_identifier_id": 0,
        "vocab_size": 6,
        "seq_len": 3,
        "num_puzzle_identifiers": 4,
        "total_groups": 2 * len(sets),
        "mean_puzzle_examples": 4 / 3,
        "sets": list(sets),
    }
    place.mkdir(parents=True)
    (place / "dataset.json").write_text(json.dumps(content | metadata))
    for number, name in enumerate(sets):
        tokens = np.arange(12).reshape(4, 3) % 5 + number  # int64, as some of the builders write
        for key, array in (
            ("inputs", tokens),
            ("labels", tokens),
            ("puzzle_identifiers", np.array([1, 2, 3], np.int32)),
            ("puzzle_indices", np.array([0, 2, 3, 4], np.int32)),
            ("group_indices", np.array([0, 2, 3], np.int32)),
        ):
            np.save(place / f"{name}__{key}.npy", array)


def test_older_files_load_and_keep_unknown_keys(tmp_path: Path) -> None:
    write_original(tmp_path / "train", source="somewhere")
    puzzles = PuzzleSet.load(tmp_path, "train")
    assert puzzles.metadata.total_puzzles == 3
    assert puzzles.metadata.mean_puzzle_examples == 4 / 3
    assert puzzles.metadata.notes == {"source": "somewhere"}
    assert puzzles.metadata.task == ""
    batch = next(training_batches(puzzles, 8, seed=0))
    assert batch.inputs.dtype == torch.int32
    puzzles.save(tmp_path, "copy")
    assert json.loads((tmp_path / "copy/dataset.json").read_text())["source"] == "somewhere"


def test_several_sets_are_concatenated(tmp_path: Path) -> None:
    write_original(tmp_path / "train", sets=("first", "second"))
    puzzles = PuzzleSet.load(tmp_path, "train")
    tokens = np.arange(12).reshape(4, 3) % 5
    np.testing.assert_array_equal(puzzles.inputs, np.concatenate([tokens, tokens + 1]))
    assert puzzles.puzzle_indices.tolist() == [0, 2, 3, 4, 6, 7, 8]
    assert puzzles.group_indices.tolist() == [0, 2, 3, 5, 6]
    assert puzzles.puzzle_identifiers.tolist() == [1, 2, 3, 1, 2, 3]
    assert (puzzles.num_groups, puzzles.metadata.total_puzzles) == (4, 6)
    np.save(tmp_path / "train/first__ratings.npy", np.ones(4, np.float32))
    with pytest.raises(ValueError, match="only some sets have ratings"):
        PuzzleSet.load(tmp_path, "train")
    np.save(tmp_path / "train/second__ratings.npy", np.zeros(4, np.float32))
    assert PuzzleSet.load(tmp_path, "train").arrays()["ratings"].tolist() == [1] * 4 + [0] * 4


def test_ignored_label_may_lie_outside_the_vocabulary(tmp_path: Path) -> None:
    write_original(tmp_path / "train", ignore_label_id=-100)
    np.save(tmp_path / "train/all__labels.npy", np.array([[0, 5, -100]] * 4))
    puzzles = PuzzleSet.load(tmp_path, "train")
    batch, _ = next(batches_of_test(puzzles, 4))
    assert batch.labels.tolist() == [[0, 5, IGNORE_LABEL]] * 4


def test_without_ignored_label_every_position_counts(tmp_path: Path) -> None:
    write_original(tmp_path / "train", ignore_label_id=None)
    batch, _ = next(batches_of_test(PuzzleSet.load(tmp_path, "train"), 4))
    assert batch.labels.flatten().tolist() == [number % 5 for number in range(12)]


@pytest.mark.parametrize(
    ("key", "array", "message"),
    [
        ("inputs", np.zeros((4, 2), int), r"shape \(4, 2\) is not \(4, 3\)"),
        ("inputs", np.zeros((0, 3), int), "no example"),
        ("inputs", np.zeros((), int), r"shape \(\)"),
        ("inputs", np.ones((4, 3)), "dtype float64"),
        ("inputs", np.full((4, 3), 6), r"6 is not in 0..5; .*vocab_size"),
        ("inputs", np.full((4, 3), -1), r"-1 is not in 0..5"),
        ("labels", np.zeros((3, 3), int), r"shape \(3, 3\) is not \(4, 3\)"),
        ("labels", np.array([[1, 2, 255]] * 4, np.uint8), r"255 is not in 0..5"),
        ("puzzle_identifiers", np.array([0, 1, 4]), r"4 is not in 0..3; .*num_puzzle_identifiers"),
        ("puzzle_indices", np.array([0, 2, 4]), r"shape \(3,\) is not \(4,\)"),
        ("puzzle_indices", np.array([0, 2, 2, 4]), "does not increase from 0 to 4"),
        ("puzzle_indices", np.array([0, 3, 2, 4], np.uint32), "does not increase from 0 to 4"),
        ("puzzle_indices", np.array([0, 1, 2, 3]), "does not increase from 0 to 4"),
        ("group_indices", np.array([1, 2, 3]), "does not increase from 0 to 3"),
        ("group_indices", np.array([0, 2, 4]), "does not increase from 0 to 3"),
        ("group_indices", np.zeros(0, int), "shape"),
        ("group_indices", np.array([0, 3]), "total_groups is 2, the arrays have 1"),
        ("ratings", np.zeros(3), r"shape \(3,\) is not \(4,\)"),
    ],
)
def test_wrong_array_is_named(tmp_path: Path, key: str, array: np.ndarray, message: str) -> None:
    write_original(tmp_path / "train")
    np.save(tmp_path / f"train/all__{key}.npy", array)
    with pytest.raises(ValueError, match=message) as error:
        PuzzleSet.load(tmp_path, "train")
    named = "dataset.json" if "total_groups" in message else f"all__{key}.npy"
    assert str(error.value).startswith(f"{tmp_path / 'train' / named}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["inputs", "puzzle_identifiers", "group_indices"])
def test_missing_and_truncated_arrays_are_named(tmp_path: Path, key: str) -> None:
    write_original(tmp_path / "train")
    path = tmp_path / f"train/all__{key}.npy"
    content = path.read_bytes()
    for length in (len(content) - 1, 20, 0):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f"all__{key}.npy: not readable .*build or download"):
            PuzzleSet.load(tmp_path, "train")
    path.unlink()
    with pytest.raises(ValueError, match=f"all__{key}.npy: missing; build"):
        PuzzleSet.load(tmp_path, "train")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"vocab_size": "6"}, r"\$\.vocab_size: expected `int`, got `str`"),
        ({"vocab_size": -1}, r"\$\.vocab_size: expected `int` >= 0"),
        ({"ignore_label_id": 0.5}, r"\$\.ignore_label_id: expected `int \| null`, got `float`"),
        ({"mean_puzzle_examples": None}, r"\$\.mean_puzzle_examples: expected `float`, got `null`"),
        ({"task": 9}, r"\$\.task: expected `str`, got `int`"),
        ({"sets": "all"}, r"\$\.sets: expected `array`, got `str`"),
        ({"sets": []}, r"\$\.sets: expected `array` of length >= 1"),
        ({"sets": ["../train/all"]}, r"\$\.sets\[0\]: expected `str` matching regex"),
        ({"pad_id": 6}, "pad_id is not smaller than vocab_size"),
        ({"blank_identifier_id": 4}, "blank_identifier_id is not smaller than num_puzzle_identif"),
    ],
)
def test_wrong_metadata_is_named(tmp_path: Path, metadata: dict, message: str) -> None:
    write_original(tmp_path / "train")
    path = tmp_path / "train/dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | metadata))
    with pytest.raises(ValueError, match=f"dataset.json: {message}"):
        PuzzleSet.load(tmp_path, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[1, 2]", "$: expected `object`, got `array`"),
        ("{}", "$: object missing required field `vocab_size`"),
    ],
)
def test_foreign_json_is_refused(tmp_path: Path, content: str, message: str) -> None:
    write_original(tmp_path / "train")
    (tmp_path / "train/dataset.json").write_text(content)
    with pytest.raises(ValueError, match=rf"dataset.json:? {re.escape(message)}"):
        PuzzleSet.load(tmp_path, "train")


def test_missing_split_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no split 'train' .*; build or download"):
        PuzzleSet.load(tmp_path / "nowhere", "train")
    write_original(tmp_path / "test")
    write_original(tmp_path / "validation")
    with pytest.raises(ValueError, match=r"no split 'train' .*; it has test, validation"):
        PuzzleSet.load(tmp_path, "train")


def test_interrupted_save_does_not_load(tmp_path: Path) -> None:
    puzzles = small_set()
    puzzles.save(tmp_path, "train")
    with (
        mock.patch.object(os, "fsync", side_effect=OSError("no space left")),
        pytest.raises(ValueError, match="no space left"),
    ):
        puzzles.save(tmp_path, "train")
    with pytest.raises(ValueError, match="no split 'train'"):
        PuzzleSet.load(tmp_path, "train")
