"""`ostinato train --data`: a foreign data set is trained on, and evaluated by the run's name."""

import json
from pathlib import Path

import pytest

from ostinato.cli import main
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.stored import StoredData
from ostinato.training.config import Recipe
from ostinato.training.config_file import read_config
from tests.data.test_stored import write_sudokus

SMALL = (
    "--hidden-size 16 --num-heads 2 --puzzle-emb-ndim 16 --global-batch-size 4 --total-steps 2 "
    "--halt-max-steps 2 --device cpu"
).split()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_sudokus(Path("foreign"), num_train=30, variants=2)


def test_train_and_evaluate(source: Path, capsys: pytest.CaptureFixture[str]):
    words = ["train", "sudoku4-tiny", "--data", str(source), "--num-validation", "5", *SMALL]
    assert main(words) == 0
    assert "5 of its 30 training puzzles are held out" in capsys.readouterr().err
    run = Path("runs/sudoku4-tiny")
    data = read_config(run / "config.json", Recipe).data
    assert data == StoredData(str(source.resolve()), augment=True, num_validation=5)
    assert main(["eval", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["puzzles"], result["split"]) == (8, "test")
    assert PuzzleSet.load(Path(result["data"]), "test").metadata.task == "sudoku4"
    assert main(words) == 0, "the same command finds the run finished"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--num-train 5",
            "--num-train is for data that the recipe builds: leave it out with --dat",
        ),
        ("--data nowhere", "nowhere: give one that holds train/ and test/"),
        ("--seq-len 25", "has seq_len 16, the model 25: use --seq-len 16"),
        ("--num-validation 30", "lower num_validation"),
    ],
)
def test_mistakes_take_one_line(
    source: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
):
    with pytest.raises(SystemExit) as end:
        main(["train", "sudoku4-tiny", "--data", str(source), *SMALL, *words.split()])
    assert end.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
