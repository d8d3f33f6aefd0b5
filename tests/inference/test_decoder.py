"""Decoding with a cache: every way to multiply gives the logits of the training forward."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from ostinato.inference import compiled, packing
from ostinato.inference.decoder import WAYS, Decoder, Way
from ostinato.models.nanochat import NanoChat, NanoChatConfig

SMALL = NanoChatConfig(
    vocab_size=40,
    seq_len=16,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    group_size=16,
    forward_dtype="float64",
)
VARIANTS: list[dict[str, Any]] = [
    {"num_streams": 1, "num_kv_heads": 1},
    {"num_streams": 4, "stream_mode": "dynamic", "tied_head": False, "num_kv_heads": 2},
    {"num_streams": 4, "stream_mode": "legacy"},
    {"sub_norm": True, "group_size": 0, "hidden_size": 40},
    {"activation_group_size": 8, "num_loops": 2, "sandwich_norm": True},
    {"hidden_size": 256, "group_size": 128, "ffn_mult": 1.5},
    {"hidden_size": 256, "group_size": 128, "activation_group_size": 32},
]


def trained(**settings: Any) -> NanoChat:
    """A model with every parameter moved away from its start, in fp64: there no rounding difference
    moves an activation to another integer."""
    rng = torch.Generator().manual_seed(0)
    model = NanoChat(replace(SMALL, **settings), rng).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
    return model


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_texts_of_unequal_lengths_get_the_logits_of_the_training_forward(
    variant: dict[str, Any], way: Way, monkeypatch: pytest.MonkeyPatch
):
    """Six texts, so that four at a time and the rest occur; in threads, with one text alone too."""
    monkeypatch.setattr(compiled, "SMALL_PASS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    model = trained(**variant)
    texts = torch.randint(40, (6, 10), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = model(texts)
    made = Decoder(model, slots=8, product=way)
    assert made.way == way
    for slot, text in enumerate(texts.tolist()):
        logits = made.read(text[: slot + 1], slot)
        torch.testing.assert_close(logits, wanted[slot, slot], rtol=0, atol=1e-9)
    made.copy(0, 6)
    for slots in ([0, 1, 2, 3, 4, 5], [5, 3, 1], [6, 2, 1, 4, 5], [6]):
        rows = [0 if slot == 6 else slot for slot in slots]
        places = made.lengths[slots].copy()
        logits = made.step(texts[rows, places].tolist(), slots)
        error = (logits - wanted[rows, places]).abs().max() / wanted.abs().max()
        assert error <= 1e-9
    made.clear(6)
    torch.testing.assert_close(made.read(texts[3, :2].tolist(), 6), wanted[3, 1])


@pytest.mark.parametrize(("vocab_size", "smallest"), [(40, 0), (43, 0), (43, 2**21)])
def test_float32_is_as_exact_as_the_training_forward(
    vocab_size: int, smallest: int, monkeypatch: pytest.MonkeyPatch
):
    """A large head is packed then; a vocabulary of 43 and five texts leave rests of its tiles."""
    monkeypatch.setattr(packing, "SMALLEST_PACKED_HEAD", smallest)
    model = trained(forward_dtype="float32", vocab_size=vocab_size).float()
    texts = torch.randint(vocab_size, (5, 2), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = model(texts)[:, 1]
    made = Decoder(model, slots=5, product="numba")
    for slot, text in enumerate(texts.tolist()):
        made.read(text[:1], slot)
    logits = made.step(texts[:, 1].tolist(), range(5))
    assert (logits - wanted).abs().max() / wanted.abs().max() <= 1e-5


@pytest.mark.parametrize("way", WAYS)
def test_every_way_rounds_halves_as_training_does(way: Way):
    """The first norm gives 1 for every entry, times its weight: its scale is 1 in int8."""
    model = trained(rms_norm_eps=0.0, num_streams=1)
    with torch.no_grad():
        model.embed_tokens.weight.fill_(1.0)
        halves = torch.arange(SMALL.hidden_size, dtype=torch.float64) - 10.5
        model.get_parameter("blocks.0.attention_norm.weight").copy_(halves)[0] = 127.0
        wanted = model(torch.tensor([[7]]))[0]
    logits = Decoder(model, product=way).step([7], [0])
    assert (logits - wanted).abs().max() / wanted.abs().max() <= 1e-9


def test_weights_that_change_are_laid_out_again():
    model = trained().packed()
    Decoder(model, product="numba").step([1], [0])
    model.final_norm.weight.mul_(2)
    wanted = Decoder(model, product="int8").step([1], [0])
    torch.testing.assert_close(Decoder(model, product="numba").step([1], [0]), wanted)


def test_impossible_ways_are_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="needs ternary weights"):
        Decoder(trained(ternary=False), product="numba")
    with pytest.raises(ValueError, match="--forward-dtype float32"):
        Decoder(NanoChat(replace(SMALL, forward_dtype="bfloat16")), product="numba")
    made = Decoder(trained(), capacity=1)
    made.step([1], [0])
    with pytest.raises(ValueError, match="holds 1 tokens"):
        made.step([1], [0])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'ostinato\[fast\]'"):
        Decoder(trained(), product="numba")
    assert Decoder(trained()).way in ("float", "int8")


def test_numba_takes_all_passes_or_is_refused():
    looped = replace(SMALL, num_loops=2)
    with pytest.raises(ValueError, match="numba takes all passes"):
        Decoder(NanoChat(looped).packed(), product="numba", exit_threshold=0.5)
