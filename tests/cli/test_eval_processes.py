"""`ostinato eval` of every task on two processes gives what it gives on one."""

import json
from pathlib import Path

import pytest

from ostinato.cli import main
from tests.training.processes import in_processes

PUZZLES = "--num-train 12 --num-validation 4 --num-test 5"
RECIPES = {
    # A few steps: an untrained model makes a rounding, by the size of the batch, grow at each
    "sudoku": f"sudoku4-tiny {PUZZLES} --halt-max-steps 2",
    "maze": f"maze-tiny {PUZZLES} --size 5 --task maze5 --seq-len 25 --slot-turns 1",
    "ARC": "arc-tiny --num-aug 2",
    "text": "nanochat-tiny --corpus corpus --num-tokens 262 --vocab-size 262 --seq-len 16 "
    "--hidden-size 16 --num-layers 1 --num-heads 2 --group-size 16 --num-test 3",
}


@pytest.mark.parametrize("words", RECIPES.values(), ids=RECIPES)
def test_two_processes_find_what_one_does(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("corpus").mkdir()
    for number in range(8):
        Path(f"corpus/{number}.txt").write_text(f"def f{number}(x):\n    return x\n" * 9)
    small = "--global-batch-size 4 --total-steps 1 --device cpu --forward-dtype float32 --run run"
    assert main(["train", *words.split(), *small.split()]) == 0

    command = ["eval", str(tmp_path / "run"), "--device", "cpu", "--data-root", str(tmp_path / "d")]
    assert main(command) == 0
    one = taken_files(tmp_path / "run")
    assert "result.json" in one
    assert in_processes(2, main, command) == [0, 0]
    assert taken_files(tmp_path / "run") == one


def taken_files(run: Path) -> dict[str, object]:
    """Take what an evaluation has written out of the run's folder: all but the speed."""
    found = {}
    for name in ("result.json", "submission.json", "votes.json"):
        if (run / name).exists():
            # Sums over processes round in another order
            text = (run / name).read_text()
            found[name] = json.loads(text, parse_float=lambda number: f"{float(number):.4g}")
            (run / name).unlink()
    for name in ("seconds", "puzzles_per_second"):
        found["result.json"].pop(name, None)
    return found
