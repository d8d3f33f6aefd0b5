"""GGUF files hold the integers and scales of training, and are refused when they do not."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import ostinato
from ostinato.data.text.template import CHATML
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.layers import PackedTernaryLinear, Ternary
from ostinato.models.nanochat import NanoChat, NanoChatConfig
from ostinato.weights import gguf_write as export
from ostinato.weights.agreement import logit_error
from ostinato.weights.gguf import OURS
from ostinato.weights.gguf_blocks import BlockType, pack, unpack
from ostinato.weights.gguf_write import GGUFForm, choose_form, export_gguf, write_gguf
from ostinato.weights.single_stream import single_stream, streams_alike

TOKENIZER = BytePairTokenizer.train(["the cat sat on the mat", "naïve café, 日本"] * 3, 280)
SMALL = NanoChatConfig(
    vocab_size=TOKENIZER.vocab_size,
    seq_len=24,
    hidden_size=64,
    num_layers=2,
    num_heads=4,
    ffn_mult=1.5,
    group_size=32,
)
WIDE = replace(SMALL, hidden_size=256, num_layers=1, ffn_mult=2.0, group_size=256)
ALIKE = {"num_streams": 2, "stream_mode": "legacy"}


def trained(config: NanoChatConfig, alike: bool = False) -> NanoChat:
    """All parameters moved from their start; those of connections by the same if `alike`."""
    rng = torch.Generator().manual_seed(0)
    model = NanoChat(config, rng)
    sizes = {"block matrix": 0.1, "embedding": 1.0, "head": 0.3}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            role = model.parameter_roles()[name]
            if alike and role == "connection":
                parameter += 0.1 * len(name)
            else:
                parameter += sizes.get(role, 0.4) * torch.randn(parameter.shape, generator=rng)
    model.tokenizer_json = TOKENIZER.to_json()
    return model.eval()


def text(config: NanoChatConfig) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randint(config.vocab_size, (1, config.seq_len), generator=rng)


def integers(model: NanoChat) -> dict[str, Ternary]:
    modules = model.packed().named_modules()
    return {name: m.ternary() for name, m in modules if isinstance(m, PackedTernaryLinear)}


@pytest.mark.parametrize("per_row", [True, False], ids=["groups", "one-scale"])
@pytest.mark.parametrize("block_type", ["q4_0", "tq2_0", "tq1_0", "f32"])
def test_blocks_are_those_of_the_gguf_package(block_type: BlockType, per_row: bool):
    rng = torch.Generator().manual_seed(0)
    codes = torch.randint(-1, 2, (3, 512), generator=rng).to(torch.int8)
    codes[1, :256] = 0
    scales = torch.rand((3, 2) if per_row else (1, 1), generator=rng) + 0.01
    packed = pack(Ternary(codes, scales), block_type)
    held = scales if block_type == "f32" else scales.half().float()
    kind = gguf.GGMLQuantizationType[block_type.upper()]
    wanted = Ternary(codes, held).weight().numpy()
    assert np.array_equal(gguf.quants.dequantize(packed, kind), wanted)
    again = unpack(packed, block_type, 256 if per_row else 0)
    assert torch.equal(again.codes, codes)
    if block_type == "f32" and per_row:
        held = held.clone()
        held[1, 0] = 0  # a group of zeros has no scale there
    assert torch.equal(again.scales, held)


@pytest.mark.parametrize(
    ("codes", "scales", "reason"),
    [
        ([9, 8, 7, 10], [1.0] * 4, "other weights than -1, 0 and 1"),
        ([9, 8, 7, 8], [1.0, 2.0, 1.0, 1.0], "scales are not those of groups of 64"),
    ],
)
def test_blocks_of_another_quantiser_are_refused(codes: list[int], scales: list[float], reason):
    """Q4_0 with all of its sixteen levels, or with a scale for each block of a group."""
    blocks = [
        np.float16(scale).tobytes() + bytes([code | 8 << 4] * 16)
        for code, scale in zip(codes, scales, strict=True)
    ]
    data = np.frombuffer(b"".join(blocks), np.uint8).reshape(1, -1)
    with pytest.raises(ValueError, match=reason):
        unpack(data, "q4_0", 64)


def test_a_scale_too_large_for_f16_is_refused():
    ternary = Ternary(torch.ones(1, 32, dtype=torch.int8), torch.full((1, 1), 1e5))
    with pytest.raises(ValueError, match="too large for q4_0: write f32"):
        pack(ternary, "q4_0")


FORMS: list[tuple[dict[str, Any], str, str]] = [
    *(
        ({"num_streams": n, "stream_mode": mode, "tied_head": tied, "num_kv_heads": kv}, a, "q4_0")
        for n, mode, a in [
            (1, "static", "llama"),
            (2, "static", OURS),
            (2, "dynamic", OURS),
            (4, "static", OURS),
            (4, "dynamic", OURS),
            (4, "legacy", OURS),
        ]
        for tied, kv in [(True, 4), (False, 2), (True, 1)]
    ),
    ({"num_streams": 1, "sub_norm": True, "num_kv_heads": 2}, "bitnet", "q4_0"),
    ({"num_streams": 1, "sub_norm": True, "tied_head": False}, OURS, "q4_0"),
    ({"num_streams": 1, "ternary": False}, "llama", "f32"),
    ({"group_size": 0}, OURS, "q4_0"),
    ({"group_size": 16}, OURS, "f32"),
    ({"num_streams": 1, "num_loops": 3}, OURS, "q4_0"),
    ({"num_streams": 1, "sandwich_norm": True}, OURS, "q4_0"),
]


@pytest.mark.parametrize(("settings", "architecture", "blocks"), FORMS, ids=str)
def test_round_trip(settings: dict[str, Any], architecture: str, blocks: str, tmp_path: Path):
    """Every model in the form chosen for it: the same integers, scales and logits."""
    config = replace(SMALL, **settings)
    model, path = trained(config), tmp_path / "model.gguf"
    form, agreement = export_gguf(model, path, text(config), note="kept")
    assert (form.architecture, form.block_type) == (architecture, blocks)
    loaded = ostinato.load(path, kind=NanoChat)
    assert loaded.config == config and loaded.tokenizer_json == model.tokenizer_json
    assert loaded.packed() is loaded
    rounded = architecture != OURS and blocks != "f32"
    ours, theirs = integers(model), integers(loaded)
    assert ours.keys() == theirs.keys()
    for name, (codes, scales) in ours.items():
        assert torch.equal(theirs[name].codes, codes), name
        held = scales.half().float() if rounded else scales
        assert torch.equal(theirs[name].scales, held), name
    assert agreement.beside_form <= 1e-4
    if not rounded:
        assert logit_error(loaded, model, text(config)) <= 1e-4
    assert {path.name for path in tmp_path.iterdir()} == {"model.gguf"}


@pytest.mark.parametrize("group_size", [256, 0])
@pytest.mark.parametrize("blocks", ["tq2_0", "tq1_0", "q4_0"])
def test_wide_groups_take_two_bits(blocks: BlockType, group_size: int, tmp_path: Path):
    config = replace(WIDE, group_size=group_size)
    model, path = trained(config), tmp_path / "model.gguf"
    form, _ = export_gguf(model, path, text(config), OURS, blocks)
    assert form.block_type == blocks
    assert choose_form(model).block_type == "tq2_0"
    assert logit_error(ostinato.load(path), model, text(config)) <= 1e-4


def reference_llama(path: Path, tokens: list[int]) -> Tensor:
    """Logits by llama.cpp's conventions, from nothing but the file, in fp64."""
    reader = gguf.GGUFReader(path)
    architecture = reader.get_field("general.architecture").contents()

    def value(key: str) -> Any:
        return reader.get_field(f"{architecture}.{key}").contents()

    weights = {
        t.name.removesuffix(".weight"): torch.from_numpy(
            gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)
        )
        for t in reader.tensors
    }
    heads, kv_heads = value("attention.head_count"), value("attention.head_count_kv")
    size = value("rope.dimension_count")
    eps, theta = value("attention.layer_norm_rms_epsilon"), value("rope.freq_base")

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weights[name]

    def rotate(x: Tensor) -> Tensor:
        angles = torch.outer(
            torch.arange(len(x), dtype=torch.float64),
            theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size),
        )
        turn = torch.polar(torch.ones_like(angles), angles)[:, None]
        if architecture == "llama":  # adjacent entries are a pair
            pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
            return torch.view_as_real(pairs * turn).flatten(-2)
        turned = torch.complex(x[..., : size // 2], x[..., size // 2 :]) * turn
        return torch.cat([turned.real, turned.imag], -1)

    x = weights["token_embd"][tokens]
    causal = torch.full((len(tokens), len(tokens)), -torch.inf, dtype=x.dtype).triu(1)
    for block in range(value("block_count")):
        name = f"blk.{block}."
        h = norm(x, name + "attn_norm")
        q = rotate((h @ weights[name + "attn_q"].T).unflatten(-1, (heads, size)))
        k = rotate((h @ weights[name + "attn_k"].T).unflatten(-1, (kv_heads, size)))
        v = (h @ weights[name + "attn_v"].T).unflatten(-1, (kv_heads, size))
        k, v = (y.repeat_interleave(heads // kv_heads, 1) for y in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q, k) / size**0.5 + causal
        y = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
        if architecture == "bitnet":
            y = norm(y, name + "attn_sub_norm")
        x = x + y @ weights[name + "attn_output"].T
        h = norm(x, name + "ffn_norm")
        y = F.silu(h @ weights[name + "ffn_gate"].T) * (h @ weights[name + "ffn_up"].T)
        if architecture == "bitnet":
            y = norm(y, name + "ffn_sub_norm")
        x = x + y @ weights[name + "ffn_down"].T
    return norm(x, "output_norm") @ weights.get("output", weights["token_embd"]).T


@pytest.mark.parametrize(
    ("settings", "blocks"),
    [
        ({}, "f32"),
        ({}, "q4_0"),
        ({"num_kv_heads": 2, "tied_head": False}, "f32"),
        ({"num_kv_heads": 1, "rope_theta": 500.0}, "f32"),
        ({"sub_norm": True, "num_kv_heads": 2}, "f32"),
        ({"ternary": False, "num_kv_heads": 2}, "f32"),
        ({**ALIKE}, "f32"),
        ({"num_streams": 4, "stream_mode": "dynamic"}, "f32"),
    ],
    ids=str,
)
def test_llama_cpp_would_read_the_same_model(
    settings: dict[str, Any], blocks: BlockType, tmp_path: Path
):
    """Beside activations, which it quantises in its own way."""
    config = replace(SMALL, **{"num_streams": 1, "quantize_activations": False, **settings})
    model = trained(config, alike=config.num_streams > 1)
    if config.stream_mode == "dynamic":
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".post.map" in name:
                    parameter.zero_()
                if ".pre.map" in name:
                    # Small, for near 0 h_pre would meet the norms' epsilon
                    parameter.normal_(std=0.01, generator=torch.Generator().manual_seed(2))
                if ".post.bias" in name:
                    parameter.fill_(0.2)
    path = tmp_path / "model.gguf"
    form, _ = export_gguf(model, path, text(config), block_type=blocks)
    assert form.architecture == ("bitnet" if config.sub_norm else "llama")
    wanted = model(text(config))[0].double()
    error = (reference_llama(path, text(config)[0].tolist()) - wanted).abs().max() / wanted.max()
    assert error.item() <= (1e-4 if blocks == "f32" else 5e-3)
    assert ostinato.load(path).config.num_streams == 1


@pytest.mark.parametrize(
    ("settings", "architecture"),
    [({"num_streams": 1}, "llama"), ({"num_streams": 1, "sub_norm": True}, "bitnet"), ({}, OURS)],
)
def test_the_file_tells_the_length_of_the_longest_text(
    settings: dict[str, Any], architecture: str, tmp_path: Path
):
    """Under the key where llama.cpp looks for its context."""
    model, path = trained(replace(SMALL, seq_len=13, **settings)), tmp_path / "model.gguf"
    form, _ = export_gguf(model, path, text(model.config))
    assert form.architecture == architecture
    field = gguf.GGUFReader(path).get_field(f"{architecture}.context_length")
    assert field is not None and field.contents() == 13


def test_streams_are_alike_only_if_they_must_be():
    legacy = replace(SMALL, **ALIKE)
    assert streams_alike(NanoChat(legacy)) and streams_alike(trained(legacy, alike=True))
    assert not streams_alike(trained(legacy))
    assert not streams_alike(NanoChat(SMALL))
    dynamic = NanoChat(replace(SMALL, stream_mode="dynamic"))
    with torch.no_grad():
        for name, parameter in dynamic.named_parameters():
            if ".post.bias" in name:
                parameter.zero_()
    assert streams_alike(dynamic)
    with torch.no_grad():
        next(p for n, p in dynamic.named_parameters() if ".post.map" in n)[0, 0] = 1.0
    assert not streams_alike(dynamic)


def test_a_stream_that_the_epsilon_tells_apart_is_refused(tmp_path: Path):
    """With a tiny embedding, the norms' epsilon is no longer small beside what h_pre scales."""
    config = replace(SMALL, **ALIKE)
    model = trained(config, alike=True)
    with torch.no_grad():
        model.embed_tokens.weight.mul_(1e-3)
        model.final_norm.weight.fill_(1.0)
    assert single_stream(model).config.num_streams == 1
    with pytest.raises(ValueError, match=f"norms' epsilon is added to: choose {OURS}"):
        export_gguf(model, tmp_path / "model.gguf", text(config))
    assert list(tmp_path.iterdir()) == []
    export_gguf(model, tmp_path / "model.gguf", text(config), OURS)


@pytest.mark.parametrize(
    ("settings", "architecture", "blocks", "reason"),
    [
        ({}, "llama", "auto", "mixes 2 streams that differ, llama has one"),
        ({}, "bitnet", "auto", "mixes 2 streams that differ, bitnet has one"),
        ({"num_streams": 1, "sub_norm": True}, "llama", "auto", "choose bitnet"),
        ({"num_streams": 1}, "bitnet", "auto", "choose llama"),
        (
            {"num_streams": 1, "sub_norm": True, "tied_head": False},
            "bitnet",
            "auto",
            "its head is not the embedding",
        ),
        ({"num_streams": 1, "num_loops": 3}, "llama", "auto", "blocks 3 times, llama once"),
        ({"num_streams": 1, "sandwich_norm": True}, "llama", "auto", "norms behind attention"),
        ({}, "auto", "tq2_0", "rows of 64 weights do not fill blocks of 256"),
        ({"group_size": 16}, "auto", "q4_0", "groups of 16 weights are no multiple of a block"),
        ({"ternary": False}, "auto", "q4_0", "its weights are not ternary"),
    ],
)
def test_what_a_form_cannot_express_is_refused(
    settings: dict[str, Any], architecture: Any, blocks: Any, reason: str
):
    with pytest.raises(ValueError, match=f"cannot express this model: .*{reason}"):
        choose_form(trained(replace(SMALL, **settings)), architecture, blocks)


def test_the_tokenizer_is_inside(tmp_path: Path):
    path = tmp_path / "model.gguf"
    write_gguf(trained(SMALL), path, GGUFForm(OURS, "q4_0"))
    reader = gguf.GGUFReader(path)
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    vocabulary = TOKENIZER.tokenizer.get_vocab()
    assert {name: number for number, name in enumerate(tokens)} == vocabulary
    kinds = reader.get_field("tokenizer.ggml.token_type").contents()
    assert [n for n, kind in enumerate(kinds) if kind != gguf.TokenType.NORMAL] == [
        TOKENIZER.separator
    ]
    for merge in reader.get_field("tokenizer.ggml.merges").contents():
        first, second = merge.split(" ")
        assert first + second in vocabulary
    assert reader.get_field("tokenizer.ggml.bos_token_id").contents() == TOKENIZER.separator
    loaded = ostinato.load(path)
    ours, theirs = (list(ostinato.generate(m, "the cat")) for m in (trained(SMALL), loaded))
    assert ours == theirs


def test_a_model_that_chats_ends_its_turn(tmp_path: Path):
    """llama.cpp reads the template and the token that ends an answer from the file."""
    tokenizer = TOKENIZER.with_turns()
    model = trained(replace(SMALL, vocab_size=tokenizer.vocab_size))
    model.tokenizer_json, ends = tokenizer.to_json(), []
    for model.chat_template in ("", CHATML):
        write_gguf(model, tmp_path / "model.gguf", GGUFForm(OURS, "q4_0"))
        reader = gguf.GGUFReader(tmp_path / "model.gguf")
        ends.append(reader.get_field("tokenizer.ggml.eos_token_id").contents())
        assert (reader.get_field("tokenizer.chat_template") is None) == (not model.chat_template)
    assert reader.get_field("tokenizer.chat_template").contents() == CHATML
    assert ends == [tokenizer.separator, tokenizer.turn_end]


def rewritten(path: Path, change: str) -> Path:
    """A copy of a file with one thing changed, by the `gguf` package alone."""
    reader = gguf.GGUFReader(path)
    target = path.with_name(f"{change}.gguf")
    writer = gguf.GGUFWriter(target, OURS)
    for key in ("ostinato", "tokenizer.huggingface.json"):
        content = reader.get_field(key).contents()
        if change == "a setting":
            content = content.replace('"num_layers": 2', '"num_layers": 3')
        if change == "another model":
            content = content.replace('"model": "nanochat"', '"model": "gpt"')
        if change == "no object" and key == "ostinato":
            content = "[]"
        writer.add_string(key, content)
    for tensor in reader.tensors:
        name, data, kind = tensor.name, np.array(tensor.data), tensor.tensor_type
        if change == "missing" and name == "blk.1.ffn_gate.weight":
            continue
        if change == "shape" and name == "output_norm.weight":
            data = data[:-1]
        if change == "type" and name == "output_norm.weight":
            data, kind = data.astype(np.float16), gguf.GGMLQuantizationType.F16
        if change == "fp32 head as ternary" and name == "token_embd.weight":
            data = gguf.quants.quantize(data, gguf.GGMLQuantizationType.Q4_0)
            kind = gguf.GGMLQuantizationType.Q4_0
        if change == "levels" and name == "blk.0.attn_q.weight":
            data[0, 2] = 0xFF
        writer.add_tensor(name, data, raw_dtype=kind)
    if change == "extra":
        writer.add_tensor("more.weight", np.zeros(2, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("a setting", "lacks the tensor blk.2"),
        ("another model", "unknown model 'gpt'"),
        ("no object", r"object\.gguf: \$: expected `object`, got `array`"),
        ("missing", "lacks the tensor blk.1.ffn_gate.weight"),
        ("extra", "has a tensor the model does not know: more.weight"),
        ("shape", r"output_norm.weight has shape \[63\], the model needs \[64\]"),
        ("type", "output_norm.weight is f16, the model needs f32"),
        ("fp32 head as ternary", "token_embd.weight is q4_0, the model needs f32"),
        ("levels", "blk.0.attn_q.weight is not as the model has it: it has other weights"),
    ],
)
def test_every_name_shape_and_type_is_checked(change: str, message: str, tmp_path: Path):
    path = tmp_path / "model.gguf"
    write_gguf(trained(SMALL), path, GGUFForm(OURS, "q4_0"))
    assert ostinato.load(rewritten(path, "nothing")).config == SMALL
    with pytest.raises(ValueError, match=message):
        ostinato.load(rewritten(path, change))


def test_truncated_and_foreign_files_are_refused(tmp_path: Path):
    path = tmp_path / "model.gguf"
    write_gguf(trained(SMALL), path, GGUFForm(OURS, "q4_0"))
    whole = path.read_bytes()
    for length in (4, 8, 23, 24, 100, 2000, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.gguf is (truncated|no GGUF)") as caught:
            ostinato.load(path)
        assert "\n" not in str(caught.value)
    for content in (b"", b"GUGF" + whole[4:], struct.pack("<4sIQQ", b"GGUF", 99, 0, 0)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.gguf is "):
            ostinato.load(path)
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"not written by ostinato export .*qwen2"):
        ostinato.load(path)


def test_a_file_that_is_not_the_model_is_not_kept(tmp_path: Path, monkeypatch):
    """Such as one with the rows of q and k left in our order."""
    monkeypatch.setattr(export, "paired_heads", lambda *arguments: 0)
    model = trained(replace(SMALL, num_streams=1))
    with pytest.raises(ValueError, match="the file is not the model: largest logit error"):
        export_gguf(model, tmp_path / "model.gguf", text(SMALL))
    assert list(tmp_path.iterdir()) == []


def test_the_description_is_that_of_other_weights_files(tmp_path: Path):
    path = tmp_path / "model.gguf"
    write_gguf(trained(SMALL), path, GGUFForm(OURS, "q4_0"), recipe="tiny", step=3)
    content = json.loads(gguf.GGUFReader(path).get_field("ostinato").contents())
    assert content["notes"] == {"recipe": "tiny", "step": 3}
    assert content["model"] == "nanochat" and content["config"]["num_streams"] == 2
