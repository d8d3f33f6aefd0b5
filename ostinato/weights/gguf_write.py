"""Write a nanochat as one GGUF file, for Ostinato and, if it is a plain Llama, for llama.cpp.

The integers and scales of the training quantiser are written unchanged; `ostinato.weights.gguf`
describes the architectures and their precision. A model that an architecture or a block type cannot
express is refused.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ostinato.files import atomic, make_folder
from ostinato.inference.generate import byte_tokenizer_of
from ostinato.layers import PackedTernaryLinear, Ternary, TernaryLinear
from ostinato.models.nanochat import NanoChat, NanoChatConfig
from ostinato.weights.agreement import (
    DIVERGENCE,
    TOLERANCE,
    Agreement,
    check,
    logit_error,
    with_half_scales,
    without_activation_rounding,
)
from ostinato.weights.gguf import (
    ARCHITECTURES,
    DESCRIPTION_KEY,
    EXACT_SCALES,
    OURS,
    SHA256_KEY,
    TEMPLATE_KEY,
    TOKENIZER_KEY,
    Architecture,
    adjacent_pair_rows,
    digest_of,
    gguf_name,
    paired_heads,
)
from ostinato.weights.gguf_blocks import (
    BlockType,
    ggml_type,
    gguf_package,
    misfit,
    pack,
)
from ostinato.weights.load import load
from ostinato.weights.save import describe
from ostinato.weights.single_stream import single_stream, streams_alike

FILE_TYPES = {
    "f32": "ALL_F32",
    "q4_0": "MOSTLY_Q4_0",
    "tq1_0": "MOSTLY_TQ1_0",
    "tq2_0": "MOSTLY_TQ2_0",
}
"""Block type → name of the file's type in llama.cpp."""
SLOW: tuple[BlockType, ...] = ("tq1_0", "f32")
"""Block types that llama.cpp runs slowly."""
BY_SIZE: tuple[BlockType, ...] = ("tq2_0", "q4_0", "f32")
"""Block types, smallest first. tq1_0 is left out because it is slow to unpack."""


@dataclass(frozen=True)
class GGUFForm:
    """Describe how a model is written."""

    architecture: Architecture
    block_type: BlockType

    def __str__(self) -> str:
        return f"{self.architecture}, {self.block_type}"


def export_gguf(
    model: NanoChat,
    path: Path,
    tokens: Int[Tensor, "1 seq"],
    architecture: Architecture | Literal["auto"] = "auto",
    block_type: BlockType | Literal["auto"] = "auto",
    divergence: float = DIVERGENCE,
    **notes: Any,
) -> tuple[GGUFForm, Agreement]:
    """Write `path`, read it back and compare it with the model on `tokens`; see `choose_form`.

    Raises ValueError if the form does not fit, or if the file differs from the model; no file
    is left then.
    """
    form = choose_form(model, architecture, block_type)
    make_folder(path.parent)
    with atomic(path) as file:
        write_gguf(model, Path(file.name), form, **notes)
        written = load(file.name, model.embed_tokens.weight.device, kind=NanoChat)
        left = what_is_left(model, form, tokens)
        agreement = check(written, model, tokens, left, divergence)
    return form, agreement


def what_is_left(model: NanoChat, form: GGUFForm, tokens: Int[Tensor, "1 seq"]) -> NanoChat | None:
    """Return the part of a model that its form can hold, as a model; None: all of it.

    Raises ValueError if streams that are alike cannot be merged into one.
    """
    if form.architecture == OURS:
        return None
    single = single_stream(model)
    if form.block_type != "f32":
        left = with_half_scales(single)
    else:
        left = single if model.config.num_streams > 1 else None
    if model.config.num_streams > 1:
        error = logit_error(
            without_activation_rounding(single), without_activation_rounding(model), tokens
        )
        if not error <= TOLERANCE:
            raise ValueError(
                f"{form.architecture} cannot express this model: with one stream its logits are "
                f"off by {error:.1e}, because h_pre scales what the norms' epsilon is added to: "
                f"choose {OURS}"
            )
    return left


def choose_form(
    model: NanoChat,
    architecture: Architecture | Literal["auto"] = "auto",
    block_type: BlockType | Literal["auto"] = "auto",
) -> GGUFForm:
    """Return the form asked for; "auto": llama.cpp's if one fits, in the smallest blocks.

    Raises ValueError with the reason if the model cannot be expressed in it.
    """
    if architecture != "auto" and (reason := why_not(model, architecture)):
        raise ValueError(f"{architecture} cannot express this model: {reason}")
    if block_type != "auto" and (reason := why_no_blocks(model, block_type)):
        raise ValueError(f"{block_type} cannot express this model: {reason}")
    return GGUFForm(
        next(a for a in ARCHITECTURES if not why_not(model, a))  # ours fits every model
        if architecture == "auto"
        else architecture,
        next(kind for kind in BY_SIZE if not why_no_blocks(model, kind))
        if block_type == "auto"
        else block_type,
    )


def why_not(model: NanoChat, architecture: Architecture) -> str:
    """Say why a model does not fit this architecture; empty if it fits."""
    config = model.config
    if architecture == OURS:
        return ""
    if config.num_loops > 1:
        return f"it applies its blocks {config.num_loops} times, {architecture} once: choose {OURS}"
    if config.sandwich_norm:
        return f"it has norms behind attention and feed-forward: choose {OURS}"
    if not streams_alike(model):
        return (
            f"it mixes {config.num_streams} streams that differ, {architecture} has one: "
            f"choose {OURS}"
        )
    if architecture == "llama" and config.sub_norm:
        return "it has norms in front of o and down (SubLN): choose bitnet"
    if architecture == "bitnet" and not config.sub_norm:
        return "it has no norms in front of o and down (SubLN): choose llama"
    if architecture == "bitnet" and not config.tied_head:
        return f"its head is not the embedding: choose {OURS}"
    return ""


def why_no_blocks(model: NanoChat, block_type: BlockType) -> str:
    """Say why a model's matrices do not fit these blocks; empty if they fit."""
    if block_type == "f32":
        return ""
    matrices = [ternary for part in model.modules() if (ternary := ternary_of(part))]
    if not matrices:
        return "its weights are not ternary: choose f32"
    sizes = {(t.codes.shape[1], t.codes.shape[1] // t.scales.shape[1]) for t in matrices}
    reasons = (misfit(inputs, group, block_type) for inputs, group in sorted(sizes))
    return next((f"{reason}: choose another type" for reason in reasons if reason), "")


def ternary_of(module: torch.nn.Module) -> Ternary | None:
    """Return the codes and scales of a ternary layer, trained or packed; None for other modules."""
    if isinstance(module, TernaryLinear | PackedTernaryLinear):
        return module.ternary()
    return None


def write_gguf(model: NanoChat, path: Path, form: GGUFForm, **notes: Any) -> None:
    """Write `model` to `path` in a form that fits it; `notes` (JSON) are kept with it.

    Raises ValueError if a scale does not fit in f16, OSError if the file cannot be written.
    """
    package = gguf_package()
    if form.architecture != OURS:
        model = single_stream(model)
    writer = package.GGUFWriter(path, form.architecture)
    try:
        writer.add_name(notes.get("recipe", "nanochat"))
        writer.add_file_type(package.LlamaFileType[FILE_TYPES[form.block_type]])
        writer.add_quantization_version(package.GGML_QUANT_VERSION)
        add_sizes(writer, model.config)
        content = json.dumps(describe(model, **notes), ensure_ascii=False)
        writer.add_string(DESCRIPTION_KEY, content)
        add_tokenizer(writer, model)
        stored = stored_tensors(model, form)
        arrays = {name: data for name, data, _ in stored}
        texts = model.tokenizer_json + model.chat_template
        writer.add_string(SHA256_KEY, digest_of(content, texts, arrays))
        for name, data, kind in stored:
            writer.add_tensor(name, data, raw_dtype=ggml_type(kind))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def add_sizes(writer: Any, config: NanoChatConfig) -> None:
    """Add the sizes under the names that llama.cpp knows."""
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.seq_len)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.inner_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)


def add_tokenizer(writer: Any, model: NanoChat) -> None:
    """Add the tokenizer in llama.cpp's form and in ours, or a note that there is none."""
    if not model.tokenizer_json:
        writer.add_tokenizer_model("none")
        return
    if model.chat_template:
        writer.add_string(TEMPLATE_KEY, model.chat_template)
    tokenizer = byte_tokenizer_of(model)
    content = json.loads(model.tokenizer_json)
    names = sorted(vocabulary := tokenizer.tokenizer.get_vocab(), key=vocabulary.__getitem__)
    special = tokenizer.tokenizer.get_added_tokens_decoder()
    kinds = gguf_package().TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names)
    writer.add_token_types(
        [kinds.CONTROL if token in special else kinds.NORMAL for token in range(len(names))]
    )
    merges = content["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(tokenizer.separator)
    end = tokenizer.turn_end if model.chat_template else None
    writer.add_eos_token_id(tokenizer.separator if end is None else end)
    writer.add_add_bos_token(True)  # as `encode` puts the separator in front
    writer.add_string(TOKENIZER_KEY, model.tokenizer_json)


def stored_tensors(model: NanoChat, form: GGUFForm) -> list[tuple[str, np.ndarray, BlockType]]:
    """Return the names, contents and types of the tensors of a file."""
    found: list[tuple[str, np.ndarray, BlockType]] = []
    ternary = {
        f"{name}.": codes for name, module in model.named_modules() if (codes := ternary_of(module))
    }

    def paired(rows: Tensor, name: str) -> Tensor:
        heads = paired_heads(name, form.architecture, model.config)
        return adjacent_pair_rows(rows, heads) if heads else rows

    for prefix, (codes, scales) in ternary.items():
        name = f"{prefix}weight"
        codes = paired(codes, name)
        scales = scales if len(scales) == 1 else paired(scales, name)
        data = pack(Ternary(codes, scales), form.block_type)
        found.append((gguf_name(name), data, form.block_type))
        if form.architecture == OURS:
            found.append((gguf_name(f"{prefix}{EXACT_SCALES}"), as_f32(scales), "f32"))
    for name, tensor in model.state_dict().items():
        prefix = name.rpartition(".")[0] + "."
        if prefix not in ternary:
            tensor = paired(tensor.reshape(tensor.shape or (1,)), name)
            found.append((gguf_name(name), as_f32(tensor), "f32"))
    return found


def as_f32(tensor: Tensor) -> np.ndarray:
    """Return the numbers of a tensor, on the CPU."""
    return tensor.detach().float().cpu().contiguous().numpy()
