"""GGUF files of nanochats, read back: every name, shape and type is checked against the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ostinato.decoding import decode_json
from ostinato.layers import Ternary, TernaryLinear
from ostinato.layers.rotary import half_split_rows
from ostinato.models.digest import digest
from ostinato.models.gguf_layout import (
    ARCHITECTURES,
    DESCRIPTION_KEY,
    EXACT_SCALES,
    OURS,
    SHA256_KEY,
    TOKENIZER_KEY,
    Architecture,
    gguf_name,
    paired_heads,
)
from ostinato.models.nanochat import NanoChat, NanoChatConfig
from ostinato.weights.gguf_blocks import BLOCK_TYPES, BlockType, gguf_package, unpack

MAGIC = b"GGUF"
UNREADABLE = (*(LookupError, ValueError, ArithmeticError, MemoryError, RuntimeError, OSError),)
"""What the `gguf` package raises for files that are damaged."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file: `data` is bytes unless the type is f32."""

    type: str
    shape: tuple[int, ...]
    """As PyTorch has it, the reverse of the file's."""
    data: np.ndarray


@dataclass(frozen=True)
class GGUFFile:
    """The content of a file."""

    source: str
    architecture: Architecture
    description: dict[str, Any]
    """What `ostinato.weights.load.describe` made of the model."""
    tokenizer: str
    """Content of its `tokenizer.json`; empty if it has none."""
    tensors: dict[str, StoredTensor]
    is_damaged: bool
    """Whether the SHA-256 in it is of something else; older files have none."""


def is_gguf(path: Path) -> bool:
    """Whether a file says that it is one."""
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
    is_damaged = sha256 not in ("", digest_of(description, tokenizer, arrays))
    return GGUFFile(str(path), architecture, content, tokenizer, tensors, is_damaged)


def digest_of(description: str, tokenizer: str, arrays: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of the content of a file, whose names are those of GGUF."""
    flat = {name: torch.from_numpy(np.ravel(array)) for name, array in arrays.items()}
    return digest(description + tokenizer, flat)


def bounded(reader: Any) -> Any:
    """The reader of the package, but it stops at the end of the file, however much is announced."""

    class Bounded(reader):
        def _get(self, offset: Any, dtype: Any, count: Any = 1, *order: Any, **named: Any) -> Any:
            end = int(offset) + int(count) * np.dtype(dtype).itemsize
            if not 0 <= offset <= end <= len(self.data):
                raise ValueError("the file ends before its content")
            return super()._get(offset, dtype, count, *order, **named)

    return Bounded


def text_of(reader: Any, key: str) -> str:
    """The text under a key; empty if there is none."""
    field = reader.get_field(key)
    content = field.contents() if field else ""
    if not isinstance(content, str):
        raise ValueError(f"{key} is no text")
    return content


def packed_tensors(file: GGUFFile, config: NanoChatConfig) -> dict[str, Tensor]:
    """The tensors of a file as a packed model of this configuration names them.

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
    """The tensor `name`, out of those that are `left`; ValueError if it is not as it should be."""
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
    """Codes and scales of a ternary matrix."""
    try:
        return unpack(stored.data, cast(BlockType, stored.type), group_size)
    except ValueError as error:
        raise ValueError(f"{file.source}: {name} is not as the model has it: {error}") from None


def unpaired(rows: Tensor, name: str, file: GGUFFile, config: NanoChatConfig) -> Tensor:
    """Rows in the order of our rotary positions."""
    heads = paired_heads(name, file.architecture, config)
    return half_split_rows(rows, heads).contiguous() if heads else rows
