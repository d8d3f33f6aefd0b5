"""Lay out numbers for the page: buffers in one memory, strides, panels of weights."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

ROWS, COLUMNS = 6, 8
"""Rows and columns that the page's matrix kernel computes at once; outputs are padded to them."""


@dataclass
class Buffer:
    """Room for `size` numbers."""

    size: int
    constant: Float[np.ndarray, " size"] | None = None
    first: int = -1
    """Instruction that writes it first."""
    last: int = 0
    """The last one that needs it."""
    offset: int = -1


def place_all(buffers: list[Buffer], start: int, together: bool) -> int:
    """Give each buffer the first gap among those that live at the same time; returns the end."""
    end = start
    placed: list[Buffer] = []
    for buffer in buffers:
        size = round_up(buffer.size, 4)  # 16 bytes
        neighbours = sorted(
            (b.offset, b.offset + round_up(b.size, 4))
            for b in placed
            if together or (b.first <= buffer.last and buffer.first <= b.last)
        )
        buffer.offset = start
        for low, high in neighbours:
            if low - buffer.offset >= size:
                break
            buffer.offset = max(buffer.offset, high)
        placed.append(buffer)
        end = max(end, buffer.offset + size)
    return end


def pack(weight: Float[Tensor, "outer inner"]) -> Float[Tensor, "panels inner columns"]:
    """Return a weight in panels of `COLUMNS` outputs, as the kernel reads it, padded with zeros."""
    outer, inner = weight.shape
    padded = torch.zeros(round_up(outer, COLUMNS), inner)
    padded[:outer] = weight
    return padded.unflatten(0, (-1, COLUMNS)).transpose(1, 2).contiguous()


def row_stride(layout: Tensor) -> int | None:
    """Return the distance of the rows of a value; None if it is no matrix of whole rows."""
    if layout.stride(-1) != 1:
        return None
    shape, strides = collapsed([layout[..., 0]])
    if len(shape) > 1:
        return None
    return strides[0] if layout[..., 0].numel() > 1 else layout.shape[-1]


def collapsed(layouts: list[Tensor]) -> list[list[int]]:
    """Return the common shape and the strides of each, with as few axes as possible."""
    axes = [
        (size, *(layout.stride(axis) for layout in layouts))
        for axis, size in enumerate(layouts[0].shape)
        if size > 1
    ]
    found: list[tuple[int, ...]] = []
    for size, *strides in axes:
        if found and all(up == size * s for up, s in zip(found[-1][1:], strides, strict=True)):
            found[-1] = (found[-1][0] * size, *strides)
        else:
            found.append((size, *strides))
    found = found or [(1,) * (1 + len(layouts))]
    return [list(column) for column in zip(*found, strict=True)]


def round_up(number: int, multiple: int) -> int:
    """Return the next multiple of `multiple`."""
    return -(-number // multiple) * multiple
