"""Pack ternary matrices into ggml's block types; a block's f16 scale `d` is its group's scale.

| type  | weights | bits a weight | how a code t of -1, 0, 1 is held                        |
|-------|---------|---------------|---------------------------------------------------------|
| q4_0  | 32      | 4.5           | t + 8 in a nibble; every llama.cpp reads it             |
| tq2_0 | 256     | 2.06          | t + 1 in two bits                                       |
| tq1_0 | 256     | 1.69          | five to a byte, in base 3                               |
| f32   | 1       | 32            | t · scale itself                                        |

A group of weights is one block or several, so its integers are stored exactly. Its scale is rounded
to f16, except in f32. Nothing is quantised here: that happened in training.

Source: ggml, `ggml-common.h` and `ggml-quants.c` (MIT). The `gguf` package packs tq1_0 and tq2_0.
"""

from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from ostinato.layers import Ternary

BlockType = Literal["q4_0", "tq2_0", "tq1_0", "f32"]
BLOCK_TYPES: tuple[BlockType, ...] = get_args(BlockType)
BLOCK_SIZES: dict[BlockType, int] = {"q4_0": 32, "tq2_0": 256, "tq1_0": 256, "f32": 1}
"""Weights of a block, all of one row."""


def gguf_package() -> ModuleType:
    """Import the `gguf` package, which comes with an extra."""
    try:
        import gguf
    except ImportError as error:
        raise ValueError("GGUF files need a package: pip install 'ostinato[export]'") from error
    return gguf


def misfit(in_features: int, group_size: int, block_type: BlockType) -> str:
    """Say why blocks of this type cannot hold groups of `group_size` inputs; empty if they can."""
    block = BLOCK_SIZES[block_type]
    if in_features % block:
        return f"rows of {in_features} weights do not fill blocks of {block}"
    if group_size % block:
        return f"groups of {group_size} weights are no multiple of a block of {block}"
    return ""


def pack(ternary: Ternary, block_type: BlockType) -> np.ndarray:
    """Pack the matrix into bytes, row by row (f32: numbers). The groups must fit: see `misfit`.

    Raises ValueError if a scale is too large for f16.
    """
    if block_type == "f32":
        return ternary.weight().float().cpu().numpy()
    block, (rows, inputs) = BLOCK_SIZES[block_type], ternary.codes.shape
    codes = ternary.codes.cpu().numpy().reshape(-1, block)
    blocks_per_group = inputs // block // ternary.scales.shape[1]
    spread = ternary.scales.expand(rows, -1).repeat_interleave(blocks_per_group, dim=1)
    scales = spread.cpu().half().numpy().reshape(-1, 1)
    if not np.isfinite(scales).all():
        raise ValueError(
            f"a scale of {ternary.scales.max():g} is too large for {block_type}: write f32"
        )
    if block_type == "q4_0":
        nibbles = (codes + 8).astype(np.uint8)
        packed = np.hstack([scales.view(np.uint8), nibbles[:, :16] | nibbles[:, 16:] << 4])
    else:
        gguf = gguf_package()
        packed = gguf.quants.quantize(codes.astype(np.float32), ggml_type(block_type))
        packed[:, -2:] = scales.view(np.uint8)  # gguf writes 1 there, or 0 if all codes are 0
    return packed.reshape(rows, -1)


def unpack(data: np.ndarray, block_type: BlockType, group_size: int) -> Ternary:
    """Invert `pack`, except that scales stay rounded. Raises ValueError for other content."""
    if block_type == "f32":
        return recovered(torch.from_numpy(data), group_size)
    rows = len(data)
    if block_type == "q4_0":
        blocks = data.reshape(-1, 18)
        scales, nibbles = blocks[:, :2], blocks[:, 2:]
        codes = np.hstack([nibbles & 15, nibbles >> 4]).astype(np.int8) - np.int8(8)
    else:
        gguf = gguf_package()
        blocks = data.reshape(-1, gguf.GGML_QUANT_SIZES[ggml_type(block_type)][1]).copy()
        scales = blocks[:, -2:].copy()
        blocks[:, -2:] = np.ones(1, np.float16).view(np.uint8)
        codes = gguf.quants.dequantize(blocks, ggml_type(block_type)).astype(np.int8)
    if np.abs(codes).max(initial=0) > 1:
        raise ValueError("it has other weights than -1, 0 and 1 times a scale")
    values = torch.from_numpy(scales.copy().view(np.float16).astype(np.float32).reshape(rows, -1))
    codes = torch.from_numpy(codes.reshape(rows, -1))
    per_group = (group_size or codes.shape[1]) // BLOCK_SIZES[block_type]
    groups = values.unflatten(1, (-1, per_group))
    if not (groups == groups[..., :1]).all() or (group_size == 0 and values.unique().numel() > 1):
        raise ValueError(f"its scales are not those of groups of {group_size or 'a matrix'}")
    return Ternary(codes, values[:1, :1] if group_size == 0 else groups[..., 0])


def recovered(weight: Float[Tensor, "out_features in_features"], group_size: int) -> Ternary:
    """Recover codes and scales from their products. A group of zeros gets scale 0."""
    groups = weight.unflatten(1, (-1, group_size)) if group_size else weight.reshape(1, 1, -1)
    scales = groups.abs().amax(-1)
    codes: Int8[Tensor, "out_features in_features"] = weight.sign().to(torch.int8)
    ternary = Ternary(codes, scales)
    if not torch.equal(ternary.weight(), weight):
        raise ValueError("it has other weights than -1, 0 and 1 times a scale")
    return ternary


def ggml_type(block_type: BlockType) -> Any:
    """Return the type under the `gguf` package's name."""
    return gguf_package().GGMLQuantizationType[block_type.upper()]
