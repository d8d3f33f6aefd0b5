"""nanochat: training and packed, cached inference agree; streams, causality, start, sizes."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ostinato.inference.inspect import stream_report
from ostinato.layers import PackedTernaryLinear, TernaryLinear
from ostinato.models.nanochat import NanoChat, NanoChatConfig
from ostinato.models.sizes import size_of
from ostinato.recipes.text import PRESETS, preset_named

SMALL = NanoChatConfig(
    vocab_size=40, seq_len=16, hidden_size=32, num_layers=2, num_heads=4, group_size=16
)
TOLERANCE = 1e-5
MODES = ("static", "dynamic", "legacy")

VARIANTS: list[dict[str, Any]] = [
    *(
        {"num_streams": n, "stream_mode": mode, "tied_head": tied, "num_kv_heads": 4 // ratio}
        for n, mode in [(1, "static"), *((n, m) for n in (2, 4) for m in MODES)]
        for tied in (True, False)
        for ratio in (1, 2, 4)
    ),
    {"sub_norm": True},
    {"ternary": False, "stream_mode": "dynamic"},
    {"group_size": 0},
    {"activation_group_size": 8},
    {"num_loops": 3, "sandwich_norm": True},
]


def trained(config: NanoChatConfig, seed: int = 0) -> NanoChat:
    """A model with every parameter moved away from its start, unequally."""
    rng = torch.Generator().manual_seed(seed)
    model = NanoChat(config, rng)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            std = {"block matrix": 0.1, "embedding": 0.3, "head": 0.3}
            size = std.get(model.parameter_roles()[name], 0.7)
            parameter += size * torch.randn(parameter.shape, generator=rng)
    return model


def text(config: NanoChatConfig, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (2, config.seq_len), generator=rng)


def relative_error(ours: Tensor, wanted: Tensor) -> float:
    return ((ours - wanted).abs().max() / wanted.abs().max()).item()


def in_steps(model: NanoChat, tokens: Tensor) -> Tensor:
    """Logits from the cache: some tokens at once, then one by one, then the rest."""
    cache = model.new_cache(batch_size=len(tokens))
    parts = tokens.split([5, 1, 1, 1, 3, tokens.shape[1] - 11], dim=1)
    return torch.cat([model(part, cache) for part in parts], dim=1)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_packed_cached_inference_is_the_training_forward(variant: dict[str, Any]):
    """With int8 activations in fp64, where no rounding difference is large enough to move one of
    them to another integer, and with unquantised activations in fp32."""
    for settings in (
        {"forward_dtype": "float64"},
        {"quantize_activations": False, "forward_dtype": "float32"},
    ):
        config = replace(SMALL, **variant, **settings)
        model = trained(config)
        if config.forward_dtype == "float64":
            model.double()
        tokens = text(config)
        wanted = model(tokens)
        assert wanted.requires_grad
        packed = model.packed()
        assert not any(isinstance(module, TernaryLinear) for module in packed.modules())
        assert relative_error(packed(tokens), wanted) <= TOLERANCE
        assert relative_error(in_steps(packed, tokens), wanted) <= TOLERANCE
        assert relative_error(in_steps(model, tokens), wanted) <= TOLERANCE


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_packed_forward_is_bit_identical(variant: dict[str, Any]):
    """The same sums in the same order, with int8 activations in fp32. From a cache they come in
    another order, and an activation that lies between two integers may then go the other way."""
    model = trained(replace(SMALL, **variant))
    with torch.no_grad():  # with gradients, attention takes another kernel
        assert torch.equal(model.packed()(text(SMALL)), model(text(SMALL)))


def test_packing_keeps_the_integers_and_leaves_the_model_alone():
    model = trained(SMALL)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    packed = model.packed()
    ours = model.blocks[1].get_submodule("feedforward.down_proj")
    theirs = packed.blocks[1].get_submodule("feedforward.down_proj")
    assert isinstance(ours, TernaryLinear) and isinstance(theirs, PackedTernaryLinear)
    assert torch.equal(ours.ternary().codes, theirs.codes)
    assert torch.equal(ours.ternary().scales, theirs.scales)
    assert set(theirs.codes.unique().tolist()) == {-1, 0, 1}
    assert packed.packed() is packed
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_future_does_not_touch_the_past(n: Any):
    config = replace(SMALL, num_streams=n, stream_mode="dynamic")
    model, tokens = trained(config), text(config)
    changed = tokens.clone()
    changed[:, 9] = (changed[:, 9] + 1) % config.vocab_size
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:], after[:, 9:])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("name", ["tiny", "d20"])
def test_loss_at_the_start_is_that_of_guessing(name: str, n: Any, tied: bool):
    config = replace(PRESETS[name], num_streams=n, tied_head=tied, seq_len=64)
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(config.vocab_size, (1, 65), generator=rng)
    with torch.no_grad():
        logits = NanoChat(config, rng)(tokens[:, :-1])
    loss = F.cross_entropy(logits[0], tokens[0, 1:]).item()
    assert loss == pytest.approx(math.log(config.vocab_size), rel=0.02)


def gradients_of_connections(model: NanoChat) -> dict[str, float]:
    """Largest gradient of each parameter of the connections."""
    tokens = text(model.config)
    loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    roles = model.parameter_roles()
    return {
        name: parameter.grad.abs().max().item()
        for name, parameter in model.named_parameters()
        if roles[name] == "connection" and parameter.grad is not None
    }


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_connections_learn(n: Any, mode: Any):
    """All of their parameters, but for what no gradient can reach: a sum over the streams does not
    see the last mixing, and the first, in `dynamic`, mixes streams that are still alike."""
    config = replace(SMALL, num_streams=n, stream_mode=mode, forward_dtype="float64")
    start = NanoChat(config, torch.Generator().manual_seed(0)).double()
    assert stream_report(start, text(config)).active
    model = trained(config).double()
    gradients = gradients_of_connections(model)
    assert len(gradients) == 4 * (10 if mode == "dynamic" else 3)
    unreachable = ["blocks.1.feedforward_connection.permutations"]
    if mode == "dynamic":
        unreachable.append("blocks.0.attention_connection.permutations")
    for name, largest in gradients.items():
        if any(name.startswith(prefix) for prefix in unreachable):
            assert largest < 1e-12, name
        else:
            assert largest > 1e-9, name


@pytest.mark.parametrize("n", [2, 4])
def test_legacy_is_reported_as_inactive(n: Any):
    config = replace(SMALL, num_streams=n, stream_mode="legacy", forward_dtype="float64")
    model = NanoChat(config, torch.Generator().manual_seed(0)).double()
    assert not stream_report(model, text(config)).active
    gradients = gradients_of_connections(model)
    mixing = [v for name, v in gradients.items() if ".permutations." in name]
    assert len(mixing) == 4
    assert max(mixing) < 1e-12
    assert min(v for name, v in gradients.items() if ".post." in name) > 1e-9


def test_stream_report_reads_every_connection():
    config = replace(SMALL, num_streams=4, stream_mode="dynamic")
    report = stream_report(trained(config), text(config))
    assert [reading.sublayer for reading in report.readings] == [
        "block 0 attention",
        "block 0 feedforward",
        "block 1 attention",
        "block 1 feedforward",
    ]
    for reading in report.readings:
        assert len(reading.pre) == len(reading.post) == 4
        assert sum(reading.permutations) == pytest.approx(1, abs=1e-5)
        assert reading.gain <= 1 + 1e-5
        assert 0 < reading.divergence <= 1
    assert stream_report(trained(replace(SMALL, num_streams=1)), text(SMALL)).readings == []


def test_roles_tell_block_matrices_from_the_rest():
    config = replace(SMALL, stream_mode="dynamic", sub_norm=True, tied_head=False)
    model = NanoChat(config)
    roles = model.parameter_roles()
    assert roles.keys() == dict(model.named_parameters()).keys()
    matrices = {name for name, role in roles.items() if role == "block matrix"}
    ternary = {
        f"{name}.weight" for name, m in model.named_modules() if isinstance(m, TernaryLinear)
    }
    assert matrices == ternary
    assert roles["blocks.0.attention_connection.pre.map"] == "connection"
    assert roles["blocks.0.attention.sub_norm.weight"] == "norm"
    assert roles["lm_head.weight"] == "head"


@pytest.mark.parametrize(
    "variant", [{}, {"tied_head": False}, {"num_kv_heads": 2}, {"group_size": 0}, {"num_loops": 3}]
)
def test_sizes_are_those_of_the_model(variant: dict[str, Any]):
    config = replace(SMALL, **variant)
    model, size = NanoChat(config), size_of(config)
    assert size.parameters == sum(p.numel() for p in model.parameters())
    packed = model.packed()
    held = [*packed.parameters()]
    for module in packed.modules():
        if isinstance(module, PackedTernaryLinear):
            held += [module.codes, module.scales]
    held += [t for layer in packed.new_cache() for t in (layer.keys, layer.values)]
    assert size.inference == sum(tensor.nbytes for tensor in held)
    assert size_of(config, batch_size=4).activations > 3 * size.activations


def test_the_start_is_the_documented_one():
    """Sub-layer number k reads mainly stream k mod n."""
    config = replace(
        PRESETS["tiny"], num_layers=2, num_streams=4, tied_head=False, num_loops=2, sub_norm=True
    )
    model = NanoChat(config, torch.Generator().manual_seed(0))
    weights, roles = dict(model.named_parameters()), model.parameter_roles()
    for name, weight in weights.items():
        if roles[name] in ("block matrix", "embedding", "head"):
            assert weight.std().item() == pytest.approx(0.02, rel=0.02), name
            assert abs(weight.mean().item()) < 1e-3, name
        if roles[name] == "norm":
            assert (weight == 1).all(), name
    assert weights["embed_tokens.weight"].abs().max() < 0.05 < weights["lm_head.weight"].max()
    assert (weights["exit_gate.bias"] == 0).all() and (weights["exit_gate.weight"] != 0).all()
    read = [bias.argmax().item() for name, bias in weights.items() if name.endswith(".pre.bias")]
    assert read == [0, 1, 2, 3]


def test_defaults():
    """The group of 128 and the width of the inner layer: see the presets."""
    config = NanoChatConfig()
    assert (config.rms_norm_eps, config.rope_theta) == (1e-6, 10_000.0)
    assert (config.num_streams, config.stream_mode) == (2, "static")
    assert (config.ternary, config.group_size) == (True, 128)
    assert (config.quantize_activations, config.activation_group_size) == (True, 0)
    assert (config.tied_head, config.sub_norm, config.sandwich_norm) == (True, False, False)
    assert (config.num_loops, config.kv_heads) == (1, config.num_heads)


def test_presets_are_as_large_as_documented():
    assert round(size_of(PRESETS["d20"]).parameters / 1e6, 1) == 18.0
    assert round(size_of(PRESETS["nano-125m"]).parameters / 1e6) == 127
    shapes = {
        name: (c.hidden_size, c.num_layers, c.num_heads, c.seq_len) for name, c in PRESETS.items()
    }
    assert shapes["d20"] == (256, 6, 4, 256)
    assert shapes["nano-125m"] == (768, 12, 12, 512)
    assert shapes["nano-560m"] == (1024, 24, 16, 512)
    assert PRESETS["d20"].inner_size == 768
    assert PRESETS["nano-125m"].inner_size == 2176
    assert PRESETS["nano-560m"].inner_size == 2816
    plain = replace(SMALL, ternary=False, group_size=0, ffn_mult=1.99)
    assert plain.inner_size == 63, "a part of a unit is cut off before groups are filled"
    with pytest.raises(ValueError, match="choose from tiny, d20"):
        preset_named("d21")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_kv_heads": 3}, "does not divide num_heads"),
        ({"group_size": 24}, "is not a multiple of group_size"),
        ({"num_heads": 32}, "even multiple of num_heads"),
        ({"vocab_size": 0}, "vocab_size must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **setting)


def test_a_text_too_long_is_refused():
    model = NanoChat(SMALL)
    with pytest.raises(ValueError, match="17 tokens are too many: give at most 16"):
        model(torch.zeros(1, 17, dtype=torch.int64))
