"""Weights that have learnt what a run holds out are refused, whatever divides the data anew."""

import contextlib
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostinato.cli import main
from ostinato.data.arc.dataset import ArcData
from ostinato.data.maze import MazeData
from ostinato.data.metadata import Metadata
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.stored import StoredData
from ostinato.data.sudoku import SudokuData
from ostinato.data.text import TextData, TokenSet, load_texts
from ostinato.data.text.hops import HopData
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.held_out import contents
from ostinato.training.run import run
from tests.data.test_sudoku_oracle import images_4x4
from tests.tiny import DATA, TRAINING, tiny_config, tiny_recipe
from tests.training.processes import how_it_ends, in_processes

OTHER = replace(DATA, num_train=30, num_validation=30, num_test=20)
ARC = {"vocab_size": 12, "seq_len": 9, "task": ""}


def recipe(data: Any, init_from: Path | str = "", **model: Any) -> Recipe:
    training = TrainingConfig(**TRAINING | {"total_steps": 1, "init_from": str(init_from)})
    return Recipe("tiny", tiny_config(**model), data, training)


def train(recipe: Any, path: Path) -> list[str]:
    said = []
    assert run(recipe, path, path.parent / "data", report=said.append).finished
    return said


def data_of(path: Path) -> Path:
    return Path(json.loads((path / "environment.json").read_text())[-1]["data"])


@pytest.fixture
def start(tmp_path: Path) -> Path:
    train(recipe(DATA), tmp_path / "start")
    return tmp_path / "start"


def refusal(recipe: Any, path: Path) -> tuple[int, int, str, str]:
    """Return how many of how many were learnt, their split, and the rest of the message."""
    with pytest.raises(ValueError, match="was trained on") as error:
        train(recipe, path)
    assert not (path / "config.json").exists()
    (line,) = str(error.value).splitlines()
    found = re.search(r"trained on ([\d,]+) of the ([\d,]+) (\w+) (.*)", line)
    assert found, line
    return int(found[1]), int(found[2]), found[3], found[4]


def test_other_counts_are_refused_and_the_remedy_works(start: Path, tmp_path: Path):
    """The number is that of a brute force over all 3,072 symmetries."""
    new = recipe(OTHER, start)
    seen, total, split, rest = refusal(new, tmp_path / "new")
    folder = OTHER.prepare(tmp_path / "data", print)
    learnt = {text for row in texts(data_of(start), "train") for text in images_4x4(row)}
    held_out = texts(folder, "validation")
    assert (seen, total, split) == (sum(t in learnt for t in held_out), 30, "validation")
    assert 0 < seen < total
    flags = "--num-train 40 --num-validation 16 --num-test 8"
    assert rest == f"puzzles: take its {flags}, so that the same puzzles are held out"
    assert not concerns(train(recipe(DATA, start), tmp_path / "new"))


def texts(folder: Path, split: str) -> list[str]:
    rows = PuzzleSet.load(folder, split).inputs
    return ["".join(".1234"[token - 1] for token in row) for row in rows[:].tolist()]


def concerns(said: list[str]) -> list[str]:
    return [line for line in said if "it may have learnt" in line]


def test_the_test_puzzles_alone_count_too(start: Path, tmp_path: Path):
    """Validation is kept; only in the test are puzzles that the start has learnt."""
    own, rows = data_of(start), PuzzleSet.load(data_of(start), "train")
    for split, source in (("train", "validation"), ("validation", "test")):
        shutil.copytree(own / source, tmp_path / "mixed" / split)
    rows.save(tmp_path / "mixed", "test")
    new = recipe(StoredData(str(tmp_path / "mixed")), start)
    assert refusal(new, tmp_path / "new")[:3] == (40, 40, "test")
    shutil.rmtree(tmp_path / "mixed/test")
    assert not concerns(train(new, tmp_path / "new"))


def test_turned_and_mirrored_mazes_are_the_same(tmp_path: Path):
    mazes = MazeData(size=5, num_train=20, num_validation=6, num_test=6)
    shape = {"task": "maze5", "vocab_size": 6, "seq_len": 25}
    train(recipe(mazes, **shape), tmp_path / "start")
    folder = data_of(tmp_path / "start")
    shutil.copytree(folder / "test", tmp_path / "new/train")
    learnt = PuzzleSet.load(folder, "train")
    inputs, labels = (
        np.rot90(tokens.reshape(-1, 5, 5), axes=(1, 2)).reshape(-1, 25)
        for tokens in (np.asarray(learnt.inputs), np.asarray(learnt.labels))
    )
    PuzzleSet.of_examples("maze5", inputs, labels, 6).save(tmp_path / "new", "validation")
    new = recipe(StoredData(str(tmp_path / "new")), tmp_path / "start", **shape)
    seen, total, split, rest = refusal(new, tmp_path / "run")
    assert (split, seen) == ("validation", total)
    assert rest.endswith("hold out puzzles that it has not seen, or start from other weights")


def test_every_run_before_the_start_counts(start: Path, tmp_path: Path):
    """The run in between has learnt nothing of what is held out, its own start has."""
    own = data_of(start)
    for split, source in (("train", "test"), ("validation", "validation")):
        shutil.copytree(own / source, tmp_path / "middle-data" / split)
    train(recipe(StoredData(str(tmp_path / "middle-data")), start), tmp_path / "middle")
    message = re.escape(f"{start} was trained on")
    with pytest.raises(ValueError, match=message):
        train(recipe(OTHER, tmp_path / "middle"), tmp_path / "new")


@pytest.mark.parametrize("place", ["model.safetensors", "checkpoints/step-00000001.safetensors"])
def test_a_file_of_a_run_counts_as_the_run(place: str, start: Path, tmp_path: Path):
    assert (start / place).exists()
    assert refusal(recipe(OTHER, start / place), tmp_path / "new")[2] == "validation"


def test_data_that_are_gone_or_changed_are_reported(start: Path, tmp_path: Path):
    own = data_of(start)
    elsewhere = tmp_path / "elsewhere"
    shutil.move(own, elsewhere / "data" / own.name)
    new = recipe(OTHER, start)
    assert refusal(new, elsewhere / "new")[2] == "validation", "found below the folder of data"

    (line,) = concerns(train(new, tmp_path / "gone"))
    assert line == (
        f"{start}: its training data are gone or have changed, so it may have learnt some of the "
        "puzzles held out here"
    )
    assert not concerns(train(recipe(DATA, start), tmp_path / "same")), "these cannot be others"
    shutil.rmtree(own)
    PuzzleSet.load(OTHER.prepare(tmp_path / "data", print), "train").save(own, "train")
    assert len(concerns(train(new, tmp_path / "changed"))) == 1


def test_a_run_without_a_record_has_its_data_built_again(start: Path, tmp_path: Path):
    path = start / "environment.json"
    entries = json.loads(path.read_text())
    for entry in entries:
        del entry["data"], entry["data_sha256"]
    path.write_text(json.dumps(entries))
    shutil.rmtree(tmp_path / "data")
    assert refusal(recipe(OTHER, start), tmp_path / "new")[2] == "validation"
    path.unlink()
    assert refusal(recipe(OTHER, start), tmp_path / "new")[2] == "validation"


def test_weights_that_do_not_name_their_data_are_reported_once(start: Path, tmp_path: Path):
    file = tmp_path / "alone" / "model.safetensors"
    file.parent.mkdir()
    shutil.copy(start / "model.safetensors", file)
    (file.parent / "config.json").write_text('{"model": "trm", "config": {}}')
    new = recipe(OTHER, file)
    (line,) = concerns(train(new, tmp_path / "new"))
    assert line.startswith(f"{file} does not say what it was trained on, so it may have")
    file.unlink()
    assert not concerns(train(new, tmp_path / "new")), "a finished run needs no start"
    with pytest.raises(ValueError, match="alone"):
        train(new, tmp_path / "other")


def test_what_the_run_trains_on_itself_is_not_the_starts_doing(tmp_path: Path):
    """Data from elsewhere may have the same rows in training and test."""
    rng = np.random.default_rng(0)
    inputs, labels = rng.integers(1, 6, (2, 24, 6))

    def write(name: str, **parts: slice) -> Recipe:
        metadata = Metadata(vocab_size=6, seq_len=6, num_puzzle_identifiers=1)
        for split, rows in parts.items():
            count = len(inputs[rows])
            bounds = np.arange(count + 1)
            tokens = inputs[rows], labels[rows]
            PuzzleSet.assemble(metadata, *tokens, np.zeros(count, int), bounds, bounds).save(
                tmp_path / name, split
            )
        shape = {"task": "", "vocab_size": 6, "seq_len": 6}
        source = "" if name == "first" else tmp_path / "start"
        return recipe(StoredData(str(tmp_path / name), augment=False), source, **shape)

    train(write("first", train=slice(8), validation=slice(8, 12)), tmp_path / "start")
    both = write("both", train=slice(4, 20), validation=slice(16, 24), test=slice(4, 8))
    assert not concerns(train(both, tmp_path / "both-run"))
    other = write("other", train=slice(4, 20), validation=slice(16, 24), test=slice(2, 8))
    assert refusal(other, tmp_path / "other-run")[:3] == (2, 6, "test")


def test_pairs_of_arc(tmp_path: Path):
    """Demonstrations are for training; the tests of validation tasks are not."""
    rng = np.random.default_rng(0)
    for number in range(8):
        pairs = [
            {"input": grid.tolist(), "output": (9 - grid).tolist()}
            for grid in rng.integers(0, 10, (3, 2, 3))
        ]
        place = tmp_path / "tasks" / ("evaluation" if number < 2 else "training")
        place.mkdir(parents=True, exist_ok=True)
        content = {"train": pairs[:2], "test": pairs[2:]}
        (place / f"{number:08x}.json").write_text(json.dumps(content))
    data = ArcData(str(tmp_path / "tasks"), num_aug=2, canvas=3, num_validation=2)
    ids = {**ARC, "num_puzzle_identifiers": 25}
    train(recipe(data, **ids), tmp_path / "start")

    new = recipe(replace(data, num_aug=1), tmp_path / "start", **ids)
    mean = replace(new, training=replace(new.training, puzzle_embeddings="mean"))
    assert not concerns(train(mean, tmp_path / "fewer")), "the same tests of the same tasks"
    new = recipe(replace(data, num_validation=4), tmp_path / "start", **ids)
    seen, total, split, rest = refusal(new, tmp_path / "new")
    assert (seen, total, split) == (2, 4, "validation")
    assert rest.startswith("puzzles: take its --num-validation 2")


def test_documents(tmp_path: Path):
    first = tiny_recipe("nanochat", tmp_path / "corpus", total_steps=1)
    train(first, tmp_path / "start")
    shuffled = replace(first.data, data_seed=1)
    training = replace(first.training, init_from=str(tmp_path / "start"))
    new = replace(first, data=shuffled, training=training)
    seen, total, split, rest = refusal(new, tmp_path / "new")
    learnt = set(TokenSet.load(data_of(tmp_path / "start"), "train").texts())
    folders = [p for p in (tmp_path / "data").iterdir() if p != data_of(tmp_path / "start")]
    held_out = list(TokenSet.load(folders[0], split).texts())
    assert (seen, total) == (sum(text in learnt for text in held_out), 2)
    assert rest == "documents: take its --data-seed 0, so that the same documents are held out"
    assert not concerns(train(replace(first, training=training), tmp_path / "new"))


def test_expressions_are_held_out_by_their_hash(tmp_path: Path):
    data = HopData(num_train=50, num_validation=20, num_test=20)
    folder = data.prepare(tmp_path, print)
    assert contents(load_texts(folder, "train"), None) == set()


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = "--total-steps 1 --global-batch-size 8 --hidden-size 16 --num-heads 2 --device cpu"
    words += " --puzzle-emb-ndim 16"
    common = ["train", "sudoku4-tiny", *words.split()]
    with contextlib.chdir(tmp_path):
        counts = ["--num-train", "40", "--num-validation", "9", "--num-test", "9"]
        assert main([*common, "--run", "start", *counts]) == 0
        more = [*common, "--init-from", "start", "--run", "more"]
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([*more, "--num-train", "20", "--num-validation", "29", *counts[4:]])
        assert end.value.code == 2
        (line,) = [x for x in capsys.readouterr().err.splitlines() if "was trained on" in x]
        flags = "--num-train 40 --num-validation 9"
        assert f"of the 29 validation puzzles: take its {flags}, so that" in line
        assert not Path("more/config.json").exists()
        assert main([*more, *counts]) == 0


def end_and_errors(words: list[str]) -> tuple[str, list[str]]:
    """Return how a command ends, and the lines that it writes on standard error."""
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        end = how_it_ends(main, words)
    return end, errors.getvalue().splitlines()


def test_of_two_processes_the_first_says_it_and_both_end(start: Path, tmp_path: Path):
    """As with every mistake, the other process leaves quietly."""
    words = ["train", "sudoku4-tiny", "--device", "cpu", "--global-batch-size", "8"]
    words += ["--data-root", str(tmp_path / "data"), "--run-folder", str(tmp_path / "new")]
    words += ["--init-from", str(start), "--num-train", "30", "--num-validation", "30"]
    words += ["--num-test", "20", "--total-steps", "1"]
    (first, said), other = in_processes(2, end_and_errors, words)
    assert (first, *other) == ("exit 2", "exit 1", [])
    (line,) = [line for line in said if line.startswith("ostinato:")]
    assert line == said[-1] and line.startswith(f"ostinato: {start} was trained on")
    assert not (tmp_path / "new/config.json").exists()


def test_a_model_that_ships_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = "--num-train 4 --num-validation 2 --num-test 2 --total-steps 1 --global-batch-size 2"
    with contextlib.chdir(tmp_path):
        source = ["--source", "generated", "--num-generated", "0", "--slot-turns", "1"]
        start = ["--init-from", "sudoku9", "--halt-max-steps", "1", "--device", "cpu"]
        assert main(["train", "sudoku9", *source, *start, *words.split()]) == 0
    said = concerns(capsys.readouterr().err.splitlines())
    assert len(said) == 1 and said[0].startswith("sudoku9 does not say what it was trained on")


def test_stored_copies_stand_for_their_puzzle():
    data = SudokuData(size=4, num_train=5, num_validation=5, num_test=5)
    rows = data.splits(lambda line: None)["train"]
    plain = data.puzzle_set("train", rows, lambda line: None)
    copies = replace(data, num_aug=3, augment=False).puzzle_set("train", rows, lambda line: None)
    assert len(copies) == 4 * len(plain)
    assert contents(copies, plain) == contents(plain, plain)
    assert len(contents(plain, plain)) == 5


def test_givens_without_a_label():
    """Read the labels of nano-trm too, where -100 leaves a given unsupervised."""
    data = SudokuData(size=4, num_train=5, num_validation=5, num_test=5)
    plain = data.puzzle_set("train", data.splits(print)["train"], print)
    labels = np.where(plain.inputs > 1, -100, plain.labels.astype(int))
    metadata = replace(plain.metadata, ignore_label_id=-100)
    assert contents(replace(plain, labels=labels, metadata=metadata), plain) == contents(
        plain, plain
    )


def test_a_document_is_the_same_in_any_place(tmp_path: Path):
    """Documents are compared without their separators, the last one as well."""
    for name in "ab":
        (tmp_path / name).mkdir()
        for number, text in enumerate(("one two", "two three", "three four")):
            shift = number if name == "a" else 2 - number
            (tmp_path / name / f"{shift}.txt").write_text(text)
    sets = []
    for name in "ab":
        data = TextData(str(tmp_path / name), num_tokens=259, num_validation=1, num_test=1)
        folder = data.prepare(tmp_path / "data", print)
        parts = [TokenSet.load(folder, split) for split in ("train", "validation", "test")]
        sets.append(set.union(*(contents(part, part) for part in parts)))
    assert sets[0] == sets[1] and len(sets[0]) == 3
