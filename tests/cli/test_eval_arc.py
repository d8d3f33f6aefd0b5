"""`ostinato eval` of a run on ARC: pass@K and submission.json, on one process and on two."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ostinato.cli import main
from ostinato.data.arc.dataset import ArcData
from ostinato.data.stored import StoredData
from ostinato.models import TRM, TRMConfig
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.config_file import write_config
from ostinato.weights.save import save_weights

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "arc"
MODEL = TRMConfig(
    vocab_size=12,
    seq_len=900,
    hidden_size=16,
    num_heads=2,
    H_cycles=1,
    L_cycles=1,
    L_layers=1,
    puzzle_emb_ndim=16,
    puzzle_emb_len=1,
    num_puzzle_identifiers=64,
    halt_max_steps=1,
    forward_dtype="float32",
)


def make_run(path: Path, data: ArcData | StoredData) -> Path:
    """A run whose training has been skipped."""
    path.mkdir(parents=True)
    write_config(path / "config.json", Recipe("tiny", MODEL, data, TrainingConfig()))
    save_weights(path / "model.safetensors", TRM(MODEL, torch.Generator().manual_seed(0)))
    return path


@pytest.mark.parametrize(
    "data",
    [ArcData(str(GOLDEN), num_aug=6, num_validation=1), StoredData(str(GOLDEN / "built"))],
    ids=["ours", "the original's"],
)
def test_a_run_is_voted_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: ArcData | StoredData
):
    run, root = make_run(tmp_path / "run", data), tmp_path / "data"
    words = ["eval", str(run), "--device", "cpu", "--data-root", str(root)]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [key for key in result if "@" in key] == [
        f"pass@{number}" for number in (1, 2, 5, 10, 100, 1000)
    ]
    assert json.loads((run / "result.json").read_text()) == result
    submission = json.loads((run / "submission.json").read_text())
    expected = json.loads((GOLDEN / "submission.json").read_text())
    assert {task: len(tests) for task, tests in submission.items()} == {
        task: len(tests) for task, tests in expected.items()
    }
    assert main(words) == 0
    assert "pass@2" in capsys.readouterr().out
    assert main([*words, "--split", "train", "--json"]) == 0
    assert "pass@1" not in json.loads(capsys.readouterr().out)


def test_tasks_without_known_answers_are_handed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A contest: the submission is that of the same run on the same tasks with their answers."""
    contest = tmp_path / "contest"
    contest.mkdir()
    for file in GOLDEN.glob("tasks_*.json"):
        if file.name != "tasks_evaluation_solutions.json":
            shutil.copy(file, contest)
    submissions = []
    for name, source in (("known", GOLDEN), ("unknown", contest)):
        run = make_run(tmp_path / name, ArcData(str(source), num_aug=6, num_validation=1))
        words = ["eval", str(run), "--device", "cpu", "--data-root", str(tmp_path / "data")]
        assert main(words) == 0
        submissions.append((run / "submission.json").read_text())
    assert submissions[0] == submissions[1]
    assert "none of them with a known answer" in capsys.readouterr().out
    assert not (tmp_path / "unknown" / "result.json").exists()
    with pytest.raises(SystemExit):
        main([*words, "--max-steps", "2"])
    assert "nothing can be measured" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_hand_in_what_one_does(tmp_path: Path):
    run = make_run(tmp_path / "run", ArcData(str(GOLDEN), num_aug=6, num_validation=1))
    words = ["ostinato", "eval", str(run), "--device", "cpu", "--data-root", str(tmp_path / "data")]
    found = []
    for launcher in (["-m"], ["-m", "torch.distributed.run", "--nproc-per-node=2", "-m"]):
        (run / "submission.json").unlink(missing_ok=True)
        subprocess.run(
            [sys.executable, *launcher, *words],
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        result = json.loads((run / "result.json").read_text())
        scores = {key: value for key, value in result.items() if "@" in key}
        found.append((scores, (run / "submission.json").read_text()))
    assert found[0] == found[1]


def test_identifiers_of_other_data_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = make_run(tmp_path / "run", StoredData(str(GOLDEN / "built")))
    names = (GOLDEN / "built/identifiers.json").read_text()
    words = ["eval", str(run), "--device", "cpu", "--data", str(GOLDEN / "built"), "--json"]
    (run / "identifiers.json").write_text(names)
    assert main(words) == 0
    (run / "identifiers.json").write_text(json.dumps(json.loads(names)[::-1]))
    with pytest.raises(SystemExit):
        main(words)
    assert "stand for other variants" in capsys.readouterr().err
