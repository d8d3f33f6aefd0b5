"""Read GGUF files of nanochats; every name, shape and type is checked against the model.

A file has one of three architectures:

| architecture        | for                                    | read by              | scales |
|---------------------|----------------------------------------|----------------------|--------|
| `llama`             | one stream                             | llama.cpp, Ostinato  | f16    |
| `bitnet`            | one stream, SubLN, tied head           | llama.cpp, Ostinato  | f16    |
| `ostinato-nanochat` | every nanochat                         | Ostinato             | exact  |

The tensors have llama.cpp's names. `ostinato-nanochat` adds two kinds of tensors in F32: the
connections of the streams, and the exact scales of every ternary matrix, because blocks hold scales
in f16 only. A file of any architecture stores its configuration under the key `ostinato`, as our
safetensors files do, and the tokenizer under `tokenizer.huggingface.json`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from ostinato.decoding import decode_json
from ostinato.layers import Ternary, TernaryLinear
from ostinato.models.nanochat import NanoChat, NanoChatConfig
from ostinato.weights.gguf_blocks import BLOCK_TYPES, BlockType, gguf_package, unpack
from ostinato.weights.safetensors_file import digest

Architecture = Literal["llama", "bitnet", "ostinato-nanochat"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
OURS: Architecture = "ostinato-nanochat"

DESCRIPTION_KEY = "ostinato"
"""Model, configuration and notes, as JSON."""
TOKENIZER_KEY = "tokenizer.huggingface.json"
TEMPLATE_KEY = "tokenizer.chat_template"
SHA256_KEY = "ostinato.sha256"

EXACT_SCALES = "group_scales"
"""Ending of the tensors of our architecture with scales in F32."""

PARTS = {
    "embed_tokens": "token_embd",
    "final_norm": "output_norm",
    "lm_head": "output",
    "exit_gate": "exit_gate",
    "attention_norm": "attn_norm",
    "attention.q_proj": "attn_q",
    "attention.k_proj": "attn_k",
    "attention.v_proj": "attn_v",
    "attention.o_proj": "attn_output",
    "attention.sub_norm": "attn_sub_norm",
    "attention_out_norm": "post_attention_norm",
    "attention_connection": "attn_streams",
    "feedforward_norm": "ffn_norm",
    "feedforward.gate_proj": "ffn_gate",
    "feedforward.up_proj": "ffn_up",
    "feedforward.down_proj": "ffn_down",
    "feedforward.sub_norm": "ffn_sub_norm",
    "feedforward_out_norm": "post_ffw_norm",
    "feedforward_connection": "ffn_streams",
}
"""Our name of a part of the model, or of a block → llama.cpp's name."""

MAGIC = b"GGUF"
UNREADABLE = (*(LookupError, ValueError, ArithmeticError, MemoryError, RuntimeError, OSError),)
"""Exceptions that the `gguf` package raises for damaged files."""


@dataclass(frozen=True)
class StoredTensor:
    """Hold a tensor of a file: `data` is bytes unless the type is f32."""

    type: str
    shape: tuple[int, ...]
    """Shape in PyTorch's order, the reverse of the file's."""
    data: np.ndarray


@dataclass(frozen=True)
class GGUFFile:
    """Hold the content of a file."""

    source: str
    architecture: Architecture
    description: dict[str, Any]
    """Description of the model, made by `ostinato.weights.save.describe`."""
    tokenizer: str
    """Content of the model's `tokenizer.json`; empty if it has none."""
    chat_template: str
    """Template of conversations of a model that was trained on them."""
    tensors: dict[str, StoredTensor]
    is_damaged: bool
    """True if the SHA-256 in the file does not match its content; older files have none."""


def is_gguf(path: Path) -> bool:
    """Return whether a file starts with the mark of GGUF."""
    with path.open("rb") as file:
        return file.read(4) == MAGIC or path.suffix == ".gguf"


def read_gguf(path: Path) -> GGUFFile:
    """Read a file that `ostinato export` wrote.

    Raises ValueError, naming the file, if it is truncated, damaged, or another program's.
    """
    package = gguf_package()
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise ValueError(f"{path} is no GGUF file: it does not begin with GGUF")
    try:
        with np.errstate(over="ignore"):
            reader = bounded(package.GGUFReader)(path)
        architecture = text_of(reader, "general.architecture")
        description = text_of(reader, DESCRIPTION_KEY)
        tokenizer = text_of(reader, TOKENIZER_KEY)
        template = text_of(reader, TEMPLATE_KEY)
        sha256 = text_of(reader, SHA256_KEY)
        tensors = {
            tensor.name: StoredTensor(
                tensor.tensor_type.name.lower(),
                tuple(reversed(tensor.shape.tolist())),
                np.array(tensor.data),
            )
            for tensor in reader.tensors
        }
    except UNREADABLE:
        raise ValueError(f"{path} is truncated or damaged: get it again") from None
    if not description or architecture not in ARCHITECTURES:
        raise ValueError(
            f"{path} was not written by ostinato export (its architecture is "
            f"{architecture or 'not given'}): other files are for llama.cpp"
        )
    content = decode_json(description, dict[str, Any], str(path), "get it again")
    arrays = {name: tensor.data for name, tensor in tensors.items()}
    is_damaged = sha256 not in ("", digest_of(description, tokenizer + template, arrays))
    return GGUFFile(str(path), architecture, content, tokenizer, template, tensors, is_damaged)


def digest_of(description: str, tokenizer: str, arrays: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of the content of a file, under GGUF's names."""
    flat = {name: torch.from_numpy(np.ravel(array)) for name, array in arrays.items()}
    return digest(description + tokenizer, flat)


def bounded(reader: Any) -> Any:
    """Return the package's reader, but stop at the end of the file, whatever sizes it announces."""

    class Bounded(reader):
        def _get(self, offset: Any, dtype: Any, count: Any = 1, *order: Any, **named: Any) -> Any:
            end = int(offset) + int(count) * np.dtype(dtype).itemsize
            if not 0 <= offset <= end <= len(self.data):
                raise ValueError("the file ends before its content")
            return super()._get(offset, dtype, count, *order, **named)

    return Bounded


def text_of(reader: Any, key: str) -> str:
    """Return the text under a key; empty if there is none."""
    field = reader.get_field(key)
    content = field.contents() if field else ""
    if not isinstance(content, str):
        raise ValueError(f"{key} is no text")
    return content


def packed_tensors(file: GGUFFile, config: NanoChatConfig) -> dict[str, Tensor]:
    """Return the tensors of a file under the names of a packed model of this configuration.

    Raises ValueError, naming the tensor, if one is missing, extra, mis-shaped or of another type.
    """
    with torch.device("meta"):
        model = NanoChat(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    ternary = {
        f"{name}.weight": module.group_size
        for name, module in model.named_modules()
        if isinstance(module, TernaryLinear)
    }
    exact = file.architecture == OURS
    left = dict(file.tensors)
    found: dict[str, Tensor] = {}
    for name, shape in wanted.items():
        theirs = gguf_name(name)
        if name not in ternary:
            found[name] = torch.from_numpy(take(file, left, theirs, shape or (1,), ("f32",)).data)
            found[name] = unpaired(found[name].reshape(shape), name, file, config)
            continue
        stored = take(file, left, theirs, shape, BLOCK_TYPES)
        codes, scales = unpack_tensor(file, theirs, stored, ternary[name])
        if exact:
            ending = theirs.removesuffix("weight") + EXACT_SCALES
            values = take(file, left, ending, tuple(scales.shape), ("f32",))
            scales = torch.from_numpy(values.data)
        part = name.removesuffix("weight")
        found[f"{part}codes"] = unpaired(codes, name, file, config)
        found[f"{part}scales"] = (
            scales if len(scales) == 1 else unpaired(scales, name, file, config)
        )
    if left:
        raise ValueError(f"{file.source} has a tensor the model does not know: {min(left)}")
    return found


def take(
    file: GGUFFile,
    left: dict[str, StoredTensor],
    name: str,
    shape: tuple[int, ...],
    types: tuple[str, ...],
) -> StoredTensor:
    """Take the tensor `name` out of `left`; ValueError if it is missing or not as expected."""
    stored = left.pop(name, None)
    if stored is None:
        raise ValueError(f"{file.source} lacks the tensor {name}")
    if stored.shape != shape:
        raise ValueError(
            f"{file.source}: {name} has shape {list(stored.shape)}, the model needs {list(shape)}"
        )
    if stored.type not in types:
        raise ValueError(
            f"{file.source}: {name} is {stored.type}, the model needs {' or '.join(types)}"
        )
    return stored


def unpack_tensor(file: GGUFFile, name: str, stored: StoredTensor, group_size: int) -> Ternary:
    """Return the codes and scales of a ternary matrix."""
    try:
        return unpack(stored.data, cast(BlockType, stored.type), group_size)
    except ValueError as error:
        raise ValueError(f"{file.source}: {name} is not as the model has it: {error}") from None


def unpaired(rows: Tensor, name: str, file: GGUFFile, config: NanoChatConfig) -> Tensor:
    """Return the rows in the order of our rotary positions."""
    heads = paired_heads(name, file.architecture, config)
    return half_split_rows(rows, heads).contiguous() if heads else rows


def gguf_name(ours: str) -> str:
    """Translate a name: `blocks.0.attention.q_proj.weight` → `blk.0.attn_q.weight`."""
    prefix, name = "", ours
    if ours.startswith("blocks."):
        _, index, name = ours.split(".", 2)
        prefix = f"blk.{index}."
    part = max((p for p in PARTS if name.startswith(f"{p}.")), key=len)
    return prefix + PARTS[part] + name.removeprefix(part)


def paired_heads(ours: str, architecture: Architecture, config: NanoChatConfig) -> int:
    """Return the number of heads whose rows `architecture` wants in adjacent pairs; 0: no change.

    llama.cpp rotates adjacent pairs in `llama`, halves in `bitnet` (`llama_model_rope_type`).
    """
    if architecture != "llama":
        return 0
    heads = {".attention.q_proj.": config.num_heads, ".attention.k_proj.": config.kv_heads}
    return next((number for part, number in heads.items() if part in ours), 0)


def half_split_rows(
    weight: Shaped[Tensor, "rows in_features"], num_heads: int
) -> Shaped[Tensor, "rows in_features"]:
    """Reorder a query or key projection from adjacent pairs (x[2i], x[2i + 1]) to our half-split.

    Llama's released weights and llama.cpp's `llama` architecture have adjacent pairs. Attention
    does not depend on the order of a head's entries, so only the rows have to move.
    """
    pairs = weight.unflatten(0, (num_heads, -1, 2))
    return pairs.transpose(1, 2).flatten(0, 2)


def adjacent_pair_rows(
    weight: Shaped[Tensor, "rows in_features"], num_heads: int
) -> Shaped[Tensor, "rows in_features"]:
    """Invert `half_split_rows`."""
    halves = weight.unflatten(0, (num_heads, 2, -1))
    return halves.transpose(1, 2).flatten(0, 2)
