"""Weights that are not as they were written are refused, before much is allocated for them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import ostinato
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.models import TRM, NanoChat, NanoChatConfig, TRMConfig
from ostinato.weights.gguf_write import GGUFForm, write_gguf
from ostinato.weights.memory import check_memory, model_bytes
from ostinato.weights.save import save_weights

TOKENIZER = BytePairTokenizer.train(["the cat sat on the mat"] * 3, 270)
PUZZLES = TRMConfig(hidden_size=16, num_heads=2, puzzle_emb_ndim=16, L_layers=1, expansion=1.0)
TEXTS = NanoChatConfig(
    vocab_size=TOKENIZER.vocab_size,
    seq_len=8,
    hidden_size=32,
    num_layers=1,
    num_heads=2,
    group_size=32,
)


def content_of(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.offset_keys()}, file.metadata()


@pytest.fixture
def chat(tmp_path: Path) -> NanoChat:
    """A language model, in `model.safetensors` beside its tokenizer and in `model.gguf`."""
    model = NanoChat(TEXTS, torch.Generator().manual_seed(0))
    model.tokenizer_json = TOKENIZER.to_json()
    save_weights(tmp_path / "model.safetensors", model)
    TOKENIZER.save(tmp_path / "tokenizer.json")
    write_gguf(model, tmp_path / "model.gguf", GGUFForm("ostinato-nanochat", "q4_0"))
    return model


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf"])
def test_a_flipped_bit_is_noticed(name: str, chat: NanoChat, tmp_path: Path):
    path = tmp_path / name
    ostinato.load(path)
    content = bytearray(path.read_bytes())
    content[-65] ^= 1  # in the last tensor, behind which GGUF may have padding
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"SHA-256 does not match|scales are not those"):
        ostinato.load(path)


def test_a_changed_setting_is_noticed(chat: NanoChat, tmp_path: Path):
    tensors, metadata = content_of(tmp_path / "model.safetensors")
    metadata["ostinato"] = metadata["ostinato"].replace("10000.0", "20000.0")
    save_file(tensors, tmp_path / "model.safetensors", metadata)
    with pytest.raises(ValueError, match="SHA-256 does not match"):
        ostinato.load(tmp_path)


def test_the_tokenizer_of_another_model_is_refused(chat: NanoChat, tmp_path: Path):
    other = BytePairTokenizer.train(["dogs do not sit on that mat"] * 3, TEXTS.vocab_size)
    assert other.vocab_size == TEXTS.vocab_size
    other.save(tmp_path / "tokenizer.json")
    with pytest.raises(ValueError, match=r"with another tokenizer\.json than lies beside it"):
        ostinato.load(tmp_path)


@pytest.mark.parametrize("number", [torch.nan, -torch.inf])
def test_weights_that_are_not_finite_are_refused_by_name(number: float, tmp_path: Path):
    model = TRM(PUZZLES)
    with torch.no_grad():
        model.lm_head.weight[2, 3] = number
    save_weights(tmp_path / "model.safetensors", model)
    with pytest.raises(ValueError, match=r"lm_head\.weight is not finite"):
        ostinato.load(tmp_path)


def test_an_older_file_without_hashes_loads(chat: NanoChat, tmp_path: Path):
    tensors, metadata = content_of(tmp_path / "model.safetensors")
    save_file(tensors, tmp_path / "model.safetensors", {"ostinato": metadata["ostinato"]})
    shutil.copy(tmp_path / "tokenizer.json", tmp_path / "kept.json")
    assert ostinato.load(tmp_path).tokenizer_json == TOKENIZER.to_json()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"L_layers": 1_000_000}, "too few for L_layers 1000000"),
        ({"L_layers": 2}, "lacks the tensor L_level.layers.1"),
        ({"hidden_size": 2**20}, "has shape"),
        ({"seq_len": 2**31 - 1, "hidden_size": 16}, "GB of memory are needed"),
        ({"vocab_size": 10**23}, "vocab_size must lie in"),
    ],
)
def test_sizes_that_the_file_does_not_hold_are_refused_before_they_are_allocated(
    settings: dict[str, Any], problem: str, tmp_path: Path
):
    save_weights(tmp_path / "model.safetensors", TRM(PUZZLES))
    tensors, metadata = content_of(tmp_path / "model.safetensors")
    description = json.loads(metadata["ostinato"])
    description["config"] |= settings
    save_file(tensors, tmp_path / "model.safetensors", {"ostinato": json.dumps(description)})
    with pytest.raises(ValueError, match=problem):
        ostinato.load(tmp_path)


@pytest.mark.parametrize("config", [TRMConfig(L_layers=3, hidden_size=64), NanoChatConfig()])
def test_a_model_takes_the_memory_that_was_counted(config: Any):
    model = TRM(config) if isinstance(config, TRMConfig) else NanoChat(config)
    parameters = sum(p.nbytes for p in model.parameters())
    assert model_bytes(config) == (parameters, sum(b.nbytes for b in model.buffers()))
    check_memory(parameters, torch.device("cpu"), "")
