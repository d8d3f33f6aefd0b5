"""`ostinato bench generate`: what is counted is what is held; what is printed hangs together."""

import json
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from ostinato.bench import generation
from ostinato.bench.generation import bench_generation
from ostinato.cli import main
from ostinato.layers import PackedTernaryLinear
from ostinato.models import NanoChat, NanoChatConfig
from ostinato.recipes.text import PRESETS

SMALL = NanoChatConfig(
    vocab_size=40, seq_len=16, hidden_size=32, num_layers=2, num_heads=4, group_size=16
)


@pytest.fixture(autouse=True)
def short_reads(monkeypatch: pytest.MonkeyPatch):
    """The machine's speed is no matter here, so let its measurement be short."""
    monkeypatch.setattr(generation, "READ_BYTES", 2**16)


def packed_bytes(config: NanoChatConfig) -> int:
    """Codes, scales and everything in fp32, by hand."""
    model, total = NanoChat(config).packed(), 0
    for module in model.modules():
        if isinstance(module, PackedTernaryLinear):
            total += module.codes.numel() + 4 * module.scales.numel()
    skipped = "lm_head.weight" if config.tied_head else "embed_tokens.weight"
    return total + sum(4 * p.numel() for name, p in model.named_parameters() if name != skipped)


@pytest.mark.parametrize("tied", [True, False])
def test_a_token_reads_the_packed_weights(tied: bool):
    config = replace(SMALL, tied_head=tied)
    device = torch.device("cpu")
    ways = ("int8", "float")
    speed = bench_generation("small", config, device, tokens=3, repetitions=2, ways=ways)
    assert speed.bytes_per_token == packed_bytes(config)
    assert speed.way == "int8" and {*speed.others} == {*speed.times_others} == {"float"}
    assert speed.parameters == sum(p.numel() for p in NanoChat(config).parameters())
    rate, share = speed.tokens_per_second, speed.share_of_memory_speed
    assert 0 < rate.low <= rate.median <= rate.high
    assert 0 < share.low <= share.median <= share.high


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(PRESETS, "small", SMALL)
    words = ["bench", "generate", "small", "--tokens", "2", "--repeat", "1", "--device", "cpu"]
    assert main([*words, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["name"], content["tokens"], content["repetitions"]) == ("small", 2, 1)
    assert main(words) == 0
    assert "tokens/s" in capsys.readouterr().out


@pytest.mark.skipif(not find_spec("xllamacpp"), reason="needs xllamacpp")
def test_llama_cpp_runs_the_exported_file(monkeypatch: pytest.MonkeyPatch):
    config = replace(SMALL, num_streams=1, group_size=32, seq_len=64)
    device = torch.device("cpu")
    ways = ("int8",)
    speed = bench_generation("small", config, device, 3, 1, ways=ways, llama_cpp=True)
    assert speed.times_others["llama.cpp"].median > 0
    with pytest.raises(ValueError, match="--num-streams 1"):
        bench_generation("small", SMALL, device, 3, 1, ways=ways, llama_cpp=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nano"], "unknown preset 'nano': choose from tiny"),
        (["tiny", "--tokens", "300"], "write 252 at most"),
        (["tiny", "--tokens", "0"], "must be at least 1"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["bench", "generate", *words])
    assert end.value.code == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
