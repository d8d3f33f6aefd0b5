"""`ostinato solve RUN --arc`, and the pictures of tasks."""

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from ostinato.cli import main
from ostinato.cli.solve_arc import paint, show_answers
from ostinato.data.arc.sources import task_from_json
from ostinato.data.grids import PALETTE
from ostinato.evaluation.arc import ArcVotes, Candidate, key_of
from ostinato.files import write_json
from ostinato.models import TRM, TRMConfig
from ostinato.weights.save import save_weights

TASK = {
    "train": [{"input": [[1, 2]], "output": [[2, 1]]}],
    "test": [{"input": [[3, 4]], "output": [[4, 3]]}],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    config = TRMConfig(
        vocab_size=12,
        seq_len=9,
        hidden_size=16,
        num_heads=2,
        H_cycles=1,
        L_cycles=1,
        L_layers=1,
        puzzle_emb_ndim=16,
        puzzle_emb_len=1,
        halt_max_steps=1,
        forward_dtype="float32",
    )
    (tmp_path / "run").mkdir()
    model = TRM(config, torch.Generator().manual_seed(0))
    save_weights(tmp_path / "run/model.safetensors", model)
    (tmp_path / "task.json").write_text(json.dumps(TASK))
    return tmp_path / "run"


def some_votes() -> ArcVotes:
    """Three votes for the right answer to the task, two for another."""
    votes = ArcVotes(["<blank>", "task"], [task_from_json("task", TASK)])
    right, wrong = (np.array(grid, np.uint8) for grid in ([[4, 3]], [[0], [9]]))
    question = np.array([[3, 4]], np.uint8)
    votes.ballots["task", key_of(question)] = {
        key_of(wrong): Candidate(0, 2, 1.0),
        key_of(right): Candidate(1, 3, 1.5),
    }
    return votes


def test_new_tasks_are_learnt_and_answered(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["solve", str(run), "--arc", str(tmp_path / "task.json"), "--device", "cpu"]
    words += ["--steps", "2", "--num-aug", "3", "--batch-size", "4"]
    picture = tmp_path / "answers.svg"
    assert main([*words, "--picture", str(picture)]) == 1  # untrained as it is
    output = capsys.readouterr()
    assert "task task" in output.out and "of 4 votes" in output.out and "wrong" in output.out
    assert "of the demonstrations are reproduced" in output.err
    assert "<svg" in picture.read_text()

    assert main([*words, "--json", "--keep", str(tmp_path / "kept")]) == 1
    submission = json.loads(capsys.readouterr().out)
    assert submission["task"][0].keys() == {"attempt_1", "attempt_2"}
    assert (tmp_path / "kept/run/model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arc", "nowhere.json"], "nowhere.json cannot be read"),
        (["--arc", "TASK", "--steps", "0"], "steps must be at least 1"),
        (["--arc", "TASK", "--watch"], "unknown setting --watch"),
        (["." * 9], "run answers tasks of ARC: use ostinato solve "),
    ],
)
def test_wrong_words_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
):
    words = [str(tmp_path / "task.json") if word == "TASK" else word for word in words]
    with pytest.raises(SystemExit) as end:
        main(["solve", str(run), *words])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_grids_are_painted_in_their_colours():
    grid = np.array([[1, 2], [0, 9]], np.uint8)
    assert paint(grid, colour=False).plain == "1 2\n0 9"
    painted = paint(grid, colour=True)
    assert painted.plain == "    \n    "
    colours = [str(span.style).removeprefix("on ") for span in painted.spans]
    assert colours == [PALETTE[cell] for cell in grid.ravel()]


def test_answers_are_shown_with_their_votes():
    screen = Console(record=True, width=120, color_system=None, file=StringIO())
    votes = some_votes()
    assert show_answers(votes.tasks[0], votes, screen)
    text = screen.export_text()
    assert "answer 1: 3 of 5 votes, 50% sure" in text and "answer 2: 2 of 5" in text
    assert "4 3" in text and "right" in text and "wrong" in text
    votes.ballots.clear()
    assert not show_answers(votes.tasks[0], votes, screen)


def test_tasks_of_a_run_are_drawn(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("matplotlib")
    with pytest.raises(SystemExit):
        main(["plot", str(run), "--tasks", "all"])
    assert "run ostinato eval" in capsys.readouterr().err
    votes = some_votes().files()["votes.json"]
    assert isinstance(votes, dict) and votes["task"]["test"][0]["votes"] == 5
    write_json(run / "votes.json", votes)
    for names in ("all", "task"):
        assert main(["plot", str(run), "--tasks", names]) == 0
        assert capsys.readouterr().out.strip() == str(run / "tasks.png")
        assert (run / "tasks.png").stat().st_size > 2000
        (run / "tasks.png").unlink()
    svg = tmp_path / "tasks.svg"
    assert main(["plot", str(run), "--tasks", "task", "--output", str(svg)]) == 0
    for colour in (1, 2, 3, 4, 9):  # of the demonstration, the test and its two answers
        assert PALETTE[colour].lower() in svg.read_text()
    with pytest.raises(SystemExit):
        main(["plot", str(run), "--tasks", "other"])
    assert "no task other: choose from task, or all" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--picture answers.txt", "end the name in .png"),
        ("--picture nowhere/x.png", "nowhere does not exist"),
        ("--lr 1e9", "no longer finite: lower --lr"),
    ],
)
def test_what_cannot_be_done_is_told_in_its_own_words(
    run: Path, words: str, message: str, capsys: pytest.CaptureFixture, monkeypatch
):
    monkeypatch.chdir(run.parent)
    command = f"solve run --arc task.json --steps 8 --num-aug 2 --batch-size 2 --device cpu {words}"
    with pytest.raises(SystemExit) as end:
        main(command.split())
    assert end.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
