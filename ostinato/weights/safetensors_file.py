"""Write tensors as a safetensors file, atomically."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ostinato.files import atomic

DTYPES = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"},
    **{torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8"},
    **{torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"},
    **{torch.complex64: "C64", torch.bool: "BOOL"},
}
"""Names of the dtypes in a safetensors file."""


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write the layout of https://github.com/huggingface/safetensors#format, atomically.

    `safetensors.torch.save_file` is not used because it leaves its temporary file behind when it
    is killed; `save` needs the memory of the file a second time.
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    assert "__metadata__" not in tensors
    # Wide dtypes first, so that every tensor is aligned.
    names = sorted(tensors, key=lambda name: -tensors[name].element_size())
    end = 0
    for name in names:
        start, end = end, end + tensors[name].nbytes
        dtype, shape = DTYPES[tensors[name].dtype], list(tensors[name].shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(content(tensors[name]))


def content(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor."""
    return tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data


def digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a text and of tensors: names, dtypes, shapes, bytes."""
    content = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        content.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().reshape(-1)
        content.update(flat.view(torch.uint8).numpy().data)
    return content.hexdigest()
