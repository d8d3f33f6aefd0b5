"""`ostinato export`: from a run to the originals' format, and from theirs to ours."""

import json
from pathlib import Path

import pytest
import torch
import yaml

import ostinato
from ostinato.cli import main, parse
from ostinato.models import HRM, TRM, HRMConfig, TRMConfig
from ostinato.recipes import recipe_named
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.config_file import write_config
from ostinato.weights.official import write_official
from ostinato.weights.save import save_weights

SHAPE = {
    "task": "sudoku4",
    "vocab_size": 6,
    "seq_len": 16,
    "hidden_size": 16,
    "num_heads": 2,
    "expansion": 1.0,
    "L_layers": 1,
    "puzzle_emb_ndim": 16,
    "forward_dtype": "float32",
}
TRAINING = TrainingConfig(
    total_steps=40,
    global_batch_size=24,
    lr=3e-4,
    warmup_steps=11,
    lr_min_ratio=0.25,
    weight_decay=0.5,
    beta2=0.9,
    puzzle_emb_lr=2e-3,
    puzzle_emb_weight_decay=0.25,
    ema_decay=0.5,
    seed=4,
    loss_type="softmax_cross_entropy",
    halt_exploration_prob=0.2,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as training leaves it, as far as exports read it."""
    folder = tmp_path / "run"
    folder.mkdir()
    model = HRM(HRMConfig(**SHAPE, H_layers=1), torch.Generator().manual_seed(1))
    save_weights(folder / "model.safetensors", model, recipe="tiny", step=40)
    data = recipe_named("sudoku4-tiny").data
    write_config(folder / "config.json", Recipe("tiny", model.config, data, TRAINING))
    return folder


def same_answers(one: Path, other: Path) -> bool:
    first, second = ostinato.load(one), ostinato.load(other)
    tokens = torch.randint(0, 6, (3, 16), generator=torch.Generator().manual_seed(2))
    answers = zip(ostinato.think(first, tokens), ostinato.think(second, tokens), strict=True)
    return first.config == second.config and all(
        torch.equal(a.output.logits, b.output.logits) and torch.equal(a.q_halt, b.q_halt)
        for a, b in answers
    )


def test_run_to_official(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["export", str(run), "--format", "official"]) == 0
    path = run / "exports/official/step_40"
    assert capsys.readouterr().out == f"{path}\n"
    assert same_answers(run, path)
    content = yaml.safe_load((path.parent / "all_config.yaml").read_text())
    arch = content.pop("arch")
    assert content.pop("ostinato")["task"] == "sudoku4"
    assert content == {
        "global_batch_size": 24,
        "lr": 3e-4,
        "lr_warmup_steps": 11,
        "lr_min_ratio": 0.25,
        "weight_decay": 0.5,
        "beta1": 0.9,
        "beta2": 0.9,
        "puzzle_emb_lr": 2e-3,
        "puzzle_emb_weight_decay": 0.25,
        "ema": True,
        "ema_rate": 0.5,
        "seed": 4,
    }
    assert arch["loss"] == {"name": "losses@ACTLossHead", "loss_type": "softmax_cross_entropy"}
    assert (arch["halt_exploration_prob"], arch["H_layers"]) == (0.2, 1)
    assert arch["name"] == "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1"
    assert not arch.keys() & {"task", "vocab_size", "seq_len", "num_puzzle_identifiers"}


def test_run_to_the_hub(run: Path, tmp_path: Path):
    output = tmp_path / "out"
    words = ["export", str(run), "--format", "safetensors", "--output", str(output)]
    assert main(words) == 0
    assert same_answers(run, output)
    assert {path.name for path in output.iterdir()} == {"model.safetensors", "config.json"}
    assert json.loads((output / "config.json").read_text())["notes"]["recipe"] == "tiny"
    # Its config.json is no run's: nothing is known of the training
    assert main(["export", str(output), "--format", "official"]) == 0
    assert same_answers(run, output / "exports/official")


def test_official_to_ours(tmp_path: Path):
    """A foreign checkpoint may tell neither the kind of puzzle nor its size."""
    model = TRM(TRMConfig(**SHAPE))
    write_official(model, tmp_path / "theirs")
    settings = tmp_path / "theirs/all_config.yaml"
    content = yaml.safe_load(settings.read_text())
    del content["ostinato"]
    settings.rename(tmp_path / "elsewhere.yaml").write_text(yaml.safe_dump(content))

    words = ["export", str(tmp_path / "theirs/checkpoint"), "--format", "safetensors"]
    words += ["--config", str(tmp_path / "elsewhere.yaml")]
    for more, problem in (
        ([], "give it as seq_len"),
        (["--task", "sudoku5"], "unknown task 'sudoku5'"),
        (
            ["--task", "sudoku4", "--seq-len", "81"],
            "--task sudoku4 means seq_len 16, the model has 81",
        ),
        (["--task", "sudoku6"], "--task sudoku6 means vocab_size 8, the model has 6"),
    ):
        with pytest.raises(ValueError, match=problem):
            parse([*words, *more])()
    assert main([*words, "--task", "sudoku4"]) == 0
    converted = ostinato.load(tmp_path / "theirs/exports/safetensors")
    assert converted.config == model.config
    assert main([*words, "--seq-len", "16", "--output", str(tmp_path / "bare")]) == 0
    assert ostinato.load(tmp_path / "bare").config.task == ""

    rows = ["--puzzle-embeddings", "mean", "--num-puzzle-identifiers", "5"]
    assert main([*words, "--seq-len", "16", *rows, "--output", str(tmp_path / "rows")]) == 0
    table = ostinato.load(tmp_path / "rows").puzzle_emb
    assert table is not None and table.weights.shape == (5, 16)


def test_mistakes_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for words, problem in (
        (["run"], "--format"),
        (["run", "--format", "pickle"], "pickle"),
        (["hf:owner/name", "--format", "official"], "say with --output where to write"),
        (["nothing", "--format", "official", "--output", "out"], "nothing does not exist"),
        (["run", "--format", "official", "--output", "file"], "could not write to file"),
        (["run", "--format", "official", "--seq-len", "81"], "the model has 16"),
    ):
        with pytest.raises(SystemExit) as error:
            main(["export", *words])
        assert error.value.code == 2
        message = capsys.readouterr().err
        assert problem in message and message.count("\n") == 1
