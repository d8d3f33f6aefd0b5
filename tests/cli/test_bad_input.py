"""Every mistake of a user's: one line that names the remedy, exit code 2, and nothing is lost."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ostinato.cli import main
from ostinato.cli.process import in_one_line
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.sudoku import Sudoku, generate
from ostinato.weights import safetensors_file

TINY = (
    "--hidden-size 16 --num-heads 2 --puzzle-emb-ndim 16 --H-cycles 1 --L-cycles 1 --L-layers 1 "
    "--num-train 30 --num-validation 10 --num-test 10 --global-batch-size 8 --total-steps 2 "
    "--device cpu"
).split()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished tiny run in `runs/sudoku4-tiny` and its data in `data`."""
    place = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["train", "sudoku4-tiny", *TINY]) == 0
    return place


@pytest.fixture
def work(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working directory."""
    shutil.copytree(finished, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a bad command line prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("ostinato: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("solve runs/sudoku4-tiny 1.", "16"),
        ("solve runs/sudoku4-tiny .1..3..12..4..3x", "'x'"),
        ("solve runs/sudoku4-tiny 11..............", "twice"),
        ("solve runs/nowhere .1..3..12..4..3.", "runs/nowhere"),
        ("train sudoku4-tinny", "sudoku4-tiny"),
        ("train sudoku4-tiny --hiden-size 3", "--hidden-size"),
        ("train sudoku4-tiny --lr much", "much"),
        ("train sudoku4-tiny --lr -1", "must not be negative"),
        ("train sudoku4-tiny --hidden-size 30", "num_heads"),
        ("train sudoku4-tiny --run runs/new --data nowhere", "nowhere"),
        ("train sudoku4-tiny --run runs/new --device tpu", "tpu"),
        ("train sudoku4-tiny --run runs/new --time-limit soon", "25m"),
        ("train sudoku4-tiny --hidden-size 32 --puzzle-emb-ndim 32", "hidden_size"),
        ("train sudoku4-tiny --resume never", "holds a run already"),
        ("eval runs/nowhere", "runs/nowhere"),
        ("eval runs/sudoku4-tiny --data nowhere", "nowhere"),
        ("eval runs/sudoku4-tiny --split exam", "exam"),
        ("plot runs/nowhere", "runs/nowhere"),
        ("plot sudoku4-tinny", "did you mean runs/sudoku4-tiny?"),
        ("plot sudoku9", "give the folder of a run"),
        ("eval sudoku9-lagre", "did you mean sudoku9-large?"),
        ("export sudoku9-lagre --format official", "did you mean sudoku9-large?"),
        ("verify sudoku9-lagre", "did you mean sudoku9-large?"),
        ("generate sudoku9-lagre once", "did you mean sudoku9-large?"),
        ("generate sudoku9 once --max-tokens 3", "sudoku9.safetensors holds a trm"),
        ("generate RUN -- -x --max-tokens 3", "--max-tokens stands behind --"),
        ("verify --golden nowhere", "nowhere"),
        ("evaluate runs/sudoku4-tiny", "eval"),
        ("train sudoku4-tiny --expansion -1", "expansion must not be negative"),
        ("train sudoku4-tiny --expansion inf", "expansion must be a finite number"),
        ("train sudoku4-tiny --lr nan", "lr must be a finite number"),
        ("train sudoku4-tiny --hidden-size 10000000", "hidden_size must lie in [1, 1048576]"),
        ("train sudoku4-tiny --run runs/new --hidden-size 1048576", "smaller --hidden-size"),
        ("train sudoku4-tiny --run runs/new --L-layers 1000000000", "fewer --L-layers"),
        ("train sudoku4-tiny --run runs/new --global-batch-size 1000000000", "GB: give a smaller"),
        ("bench train sudoku4-tiny --global-batch-size 1000000000", "GB: give a smaller"),
        ("train nanochat-tiny --run runs/new --global-batch-size 1000000000", "GB: give a smaller"),
        ("train sudoku4-tiny --run runs/new --device meta", "unknown device 'meta'"),
        (f"train sudoku4-tiny --seed {10**23}", "seed must lie in"),
        (f"train sudoku4-tiny --num-train {10**23}", "num_train must lie in"),
        (f"solve runs/sudoku4-tiny .1..3..12..4..3. --max-steps {10**23}", "max_steps must lie in"),
        ("generate runs/nowhere a --temperature 1e-40", "temperature must be 0 or more"),
        ("generate runs/nowhere a --repetition-penalty 1e-320", "repetition_penalty must be"),
    ],
)
def test_bad_words(words: str, message: str, work: Path, capsys: pytest.CaptureFixture[str]):
    assert message in error_of(words.split(), capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="only where there is no CUDA device")
def test_cuda_where_there_is_none(work: Path, capsys: pytest.CaptureFixture[str]):
    message = error_of("train sudoku4-tiny --run runs/new --device cuda".split(), capsys)
    assert "no cuda device" in message


def test_truncated_weights(work: Path, capsys: pytest.CaptureFixture[str]):
    path = work / "runs/sudoku4-tiny/model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    assert "truncated" in error_of(["eval", "runs/sudoku4-tiny"], capsys)


def test_foreign_checkpoint(work: Path, capsys: pytest.CaptureFixture[str]):
    words = ["train", "sudoku4-tiny", *TINY, "--resume", "runs/sudoku4-tiny/model.safetensors"]
    assert "not a checkpoint" in error_of(words, capsys)
    (work / "notes.txt").write_text("no tensors")
    assert "notes.txt" in error_of([*words[:-1], "notes.txt"], capsys)


def test_data_of_wrong_values(work: Path, capsys: pytest.CaptureFixture[str]):
    folder = next((work / "data").iterdir())
    path = folder / "train/all__inputs.npy"
    inputs = np.load(path)
    inputs[3, 5] = 77
    np.save(path, inputs)
    message = error_of(["train", "sudoku4-tiny", "--run", "runs/new", *TINY], capsys)
    assert "77" in message and "all__inputs.npy" in message


def test_data_of_another_size(work: Path, capsys: pytest.CaptureFixture[str]):
    questions, answers = generate(Sudoku(6), 4, (12, 20), seed=0)
    for split in ("train", "validation", "test"):
        PuzzleSet.of_examples("sudoku6", questions, answers, 8).save(work / "six", split)
    words = "train sudoku4-tiny --run runs/new --data six".split()
    assert "vocab_size 8" in error_of(words, capsys)


def test_full_disk_keeps_the_checkpoint_before(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    before = {path: path.read_bytes() for path in (work / "runs").rglob("step-*")}
    assert before

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors_file, "content", full)
    words = ["train", "sudoku4-tiny", *TINY, "--total-steps", "4", "--extend"]
    assert "No space left on device" in error_of(words, capsys)
    for path, content in before.items():
        assert path.read_bytes() == content
    monkeypatch.undo()
    monkeypatch.chdir(work)
    assert main(words) == 0
    assert json.loads((work / "runs/sudoku4-tiny/config.json").read_text())


def test_a_missing_compiler_is_told_in_one_line():
    error = RuntimeError("InductorError: InvalidCxxCompiler: No working C++ compiler found in x")
    assert in_one_line(error) == (
        "there is no C++ compiler: install one, such as g++, or leave out --compile"
    )
