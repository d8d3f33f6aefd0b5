"""`ostinato verify RUN`: a run as it was left passes; whatever is spoilt in it is found."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ostinato.cli import main
from ostinato.data.sudoku import SudokuData
from ostinato.models import HRM, HRMConfig
from ostinato.training.checkpoint import load_checkpoint, save_checkpoint
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.run import run
from ostinato.verify.run import verify_run
from ostinato.weights.save import save_weights

MODEL = HRMConfig(
    task="sudoku4",
    vocab_size=6,
    seq_len=16,
    hidden_size=16,
    num_heads=2,
    expansion=1.0,
    H_layers=1,
    L_layers=1,
    puzzle_emb_ndim=16,
    halt_max_steps=3,
    forward_dtype="float32",
)
RECIPE = Recipe(
    "tiny",
    MODEL,
    SudokuData(size=4, num_train=20, num_validation=40, num_test=50),
    TrainingConfig(
        total_steps=6,
        global_batch_size=4,
        optimizer="muon",
        lr=1e-2,
        warmup_steps=0,
        ema_decay=0.9,
        eval_every=6,
        device="cpu",
    ),
)
CHECKPOINT = "step-00000006"
Tree = dict[str, Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and its data."""
    root = tmp_path_factory.mktemp("trained")
    run(RECIPE, root / "run", root / "data", report=lambda line: None)
    return root


@pytest.fixture
def copy(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "data").symlink_to(trained / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def failures(path: Path) -> dict[str, str]:
    """Return the faults that are found."""
    found = verify_run(path, Path("data"), torch.device("cpu"), lambda line: None)
    return {finding.name: finding.found for finding in found if not finding.passed}


def test_a_run_as_it_was_left(copy: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["verify", "run", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("passed") == 4
    assert main(["eval", "run", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["verify", "run", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == [
        "weights",
        CHECKPOINT,
        "score beside the weights",
        "result.json",
    ]
    assert "of 40 validation puzzles" in lines[2]["found"]
    assert "of 50 test puzzles" in lines[3]["found"]


def test_weights_alone_have_no_scores(copy: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["verify", "run/model.safetensors"]) == 0
    assert capsys.readouterr().out.count("passed") == 1
    for words, message in (
        (["nowhere"], "nowhere does not exist"),
        (["run", "--golden", "x"], "leave out"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["verify", *words])
        assert end.value.code == 2 and message in capsys.readouterr().err


def without_a_tensor(tensors: Tree) -> None:
    del tensors["H_level.layers.0.mlp.down_proj.weight"]


def with_another_tensor(tensors: Tree) -> None:
    tensors["bias"] = torch.zeros(3)


def of_another_shape(tensors: Tree) -> None:
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1].contiguous()


def not_a_number(tensors: Tree) -> None:
    tensors["puzzle_emb.weights"][0, 3] = torch.nan


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_a_tensor, "down_proj"),
        (with_another_tensor, "bias"),
        (of_another_shape, "lm_head.weight has shape"),
        (not_a_number, "puzzle_emb.weights is not finite"),
    ],
)
def test_spoilt_weights(copy: Path, spoil: Callable[[Tree], None], message: str):
    file = copy / "model.safetensors"
    with safe_open(file, "pt") as content:
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        metadata = content.metadata()
    spoil(tensors)
    save_file(tensors, file, metadata)
    assert message in failures(copy)["weights"]
    assert main(["verify", "run"]) == 1


def average_not_a_number(tree: Tree) -> None:
    tree["ema"]["q_head.bias"][0] = torch.nan


def weight_infinite(tree: Tree) -> None:
    tree["model"]["lm_head.weight"][2, 3] = -torch.inf


def moment_not_a_number(tree: Tree) -> None:
    tree["optimizers"][1]["state"][0]["exp_avg_sq"][0, 0] = torch.nan


def moment_of_another_shape(tree: Tree) -> None:
    state = tree["optimizers"][0]["state"][1]
    state["momentum_buffer"] = state["momentum_buffer"][1:]


def moments_missing(tree: Tree) -> None:
    del tree["optimizers"][0]["state"][1]


def state_not_a_number(tree: Tree) -> None:
    tree["slots"][0]["z_L"][0, 0, 0] = torch.nan


def average_missing(tree: Tree) -> None:
    del tree["ema"]["q_head.bias"]


def weight_of_another_shape(tree: Tree) -> None:
    tree["model"]["lm_head.weight"] = tree["model"]["lm_head.weight"][1:]


def without_slots(tree: Tree) -> None:
    del tree["slots"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (average_not_a_number, "ema/q_head.bias is not finite"),
        (weight_infinite, "model/lm_head.weight is not finite"),
        (moment_not_a_number, "optimizers/1/state/0/exp_avg_sq is not finite"),
        (moment_of_another_shape, "momentum_buffer of a weight of shape"),
        (moments_missing, "an optimiser has moments for"),
        (state_not_a_number, "z_L is not finite"),
        (average_missing, "lacks ema/q_head.bias"),
        (weight_of_another_shape, "model/lm_head.weight has shape"),
        (without_slots, "lacks slots"),
    ],
)
def test_spoilt_checkpoints(copy: Path, spoil: Callable[[Tree], None], message: str):
    file = copy / f"checkpoints/{CHECKPOINT}.safetensors"
    tree = load_checkpoint(file)
    spoil(tree)
    save_checkpoint(file, tree)
    found = failures(copy)
    assert found.keys() == {CHECKPOINT} and message in found[CHECKPOINT]
    assert main(["verify", "run"]) == 1


def test_damaged_and_missing_files(copy: Path):
    file = copy / f"checkpoints/{CHECKPOINT}.safetensors"
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(content)
    (copy / "result.json").unlink()
    found = failures(copy)
    assert "damaged" in found.pop(CHECKPOINT)
    assert "there is no" in found.pop("result.json")
    assert not found
    file.unlink()
    assert "cannot go on" in failures(copy)["checkpoints"]


def test_scores_that_do_not_come_out_again(copy: Path):
    result = json.loads((copy / "result.json").read_text())
    for changed in (
        {"exact_accuracy": result["exact_accuracy"] + 0.03},
        {"cell_accuracy": result["cell_accuracy"] - 0.03},
        {"puzzles": 41},
        {"steps": 4},
        {"split": "tset"},
        {"exact_accuracy": None},
    ):
        (copy / "result.json").write_text(json.dumps(result | changed))
        found = failures(copy)
        assert found.keys() == {"result.json"}
        assert next(iter(changed)) in found["result.json"], changed
    (copy / "result.json").write_text(json.dumps(result))

    other = HRM(MODEL, torch.Generator().manual_seed(1))
    score = {"puzzles": 40, "exact_accuracy": 0.5}
    save_weights(copy / "model.safetensors", other, validation=score)
    found = failures(copy)
    assert found.keys() == {"score beside the weights", "result.json"}
