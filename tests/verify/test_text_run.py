"""`ostinato verify` of language models: whole ones pass, in every form; what is spoilt is found."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import ostinato
from ostinato.data.text import TextData
from ostinato.models import NanoChatConfig
from ostinato.training.config import TextRecipe, TextTrainingConfig
from ostinato.training.run import run
from ostinato.verify.run import Finding, verify_run
from ostinato.weights.gguf_write import GGUFForm, write_gguf
from ostinato.weights.save import write_hub

CHECKPOINT = "checkpoints/step-00000003.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, its corpus and data, and its model for the Hub and as GGUF."""
    root = tmp_path_factory.mktemp("trained")
    (root / "corpus").mkdir()
    for number in range(9):
        (root / f"corpus/{number}.txt").write_text(f"low lower newest {number} wide wider " * 9)
    model = NanoChatConfig(
        vocab_size=270, seq_len=16, hidden_size=32, num_layers=1, num_heads=2, group_size=32
    )
    training = TextTrainingConfig(total_steps=3, global_batch_size=4, eval_every=3, device="cpu")
    recipe = TextRecipe("tiny", model, TextData(str(root / "corpus"), num_tokens=270), training)
    run(recipe, root / "run", root / "data", report=lambda line: None)
    loaded = ostinato.load(root / "run")
    write_hub(loaded, root / "hub", recipe="tiny")
    write_gguf(loaded, root / "model.gguf", GGUFForm("ostinato-nanochat", "q4_0"))
    return root


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "copy")
    return tmp_path / "copy"


def findings(root: Path, name: str) -> dict[str, Finding]:
    found = verify_run(root / name, root / "data", torch.device("cpu"), lambda line: None)
    return {finding.name: finding for finding in found}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "run",
            ["weights", "tokenizer", "step-00000003", "score beside the weights", "result.json"],
        ),
        ("hub", ["weights", "tokenizer"]),
        ("model.gguf", ["weights", "tokenizer"]),
    ],
)
def test_what_is_whole_passes(name: str, wanted: list[str], trained: Path):
    found = findings(trained, name)
    assert list(found) == wanted
    assert all(finding.passed for finding in found.values()), found
    if name == "run":
        assert "bits per byte of validation recorded" in found["result.json"].found


def test_a_corpus_that_has_changed_is_said_and_is_no_fault_of_the_run(copy: Path):
    shutil.rmtree(copy / "data")
    config = json.loads((copy / "run/config.json").read_text())
    config["data"]["corpus"] = str(copy / "corpus")
    (copy / "run/config.json").write_text(json.dumps(config))
    (copy / "corpus/1.txt").write_text("something else altogether, that merges otherwise " * 9)
    found = findings(copy, "run")["result.json"]
    assert found.passed and "not measured again" in found.found


@pytest.mark.parametrize(
    ("spoil", "name", "message"),
    [
        ("run/model.safetensors", "weights", "SHA-256"),
        (f"run/{CHECKPOINT}", "step-00000003", "damaged"),
        ("run/tokenizer.json", "weights", "another tokenizer.json"),
        ("hub/model.safetensors", "weights", "SHA-256"),
        ("model.gguf", "weights", "SHA-256|scales are not"),
    ],
)
def test_what_is_spoilt_is_found(spoil: str, name: str, message: str, copy: Path):
    content = bytearray((copy / spoil).read_bytes())
    content[-65] ^= 1
    (copy / spoil).write_bytes(content)
    assert not (finding := findings(copy, spoil.split("/")[0])[name]).passed
    assert any(part in finding.found for part in message.split("|")), finding


def test_a_score_that_does_not_come_out_again_is_found(copy: Path):
    result = json.loads((copy / "run/result.json").read_text())
    (copy / "run/result.json").write_text(
        json.dumps(result | {"bits_per_byte": result["bits_per_byte"] * 1.02})
    )
    assert not findings(copy, "run")["result.json"].passed
    (copy / "hub/tokenizer.json").unlink()
    assert "has no tokenizer.json" in findings(copy, "hub")["tokenizer"].found
