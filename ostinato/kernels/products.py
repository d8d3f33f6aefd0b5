"""Multiply ternary matrices of two bits a weight with int8 activations, exactly."""

from typing import Any, NamedTuple, no_type_check

import numpy as np

from ostinato.kernels.scalars import magnitude, number_of
from ostinato.kernels.vectors import (
    add_scaled,
    block_sums,
    compiled,
    inlined,
    lane_sums,
    load_codes,
    load_sums,
    no_floats,
    totals_of,
)

EPS, LEAST, LEVELS, ATTENTION, POST_RANGE, COLLAPSE = range(6)
"""Places of constants: the norms' epsilon, the least magnitude that is quantised, the number of
levels, the scale of attention, the range of h_post, and the factor of the sum of streams."""


class Matrix(NamedTuple):
    """Hold a ternary matrix of every block.

    The inputs of a row are dealt out to lanes of 32 that share a weight scale and an activation
    scale, four lanes to a block of 32 bytes: lane n of a block has bits 2n and 2n + 1. The blocks
    of every two rows stand side by side; their number is even.
    """

    codes: Any
    """uint8, flat: -1, 0, 1 as 0, 1, 2."""
    scales: Any
    """Numbers, flat, in the order of the codes."""
    sizes: Any
    """Rows, blocks of a row, scales of a block (1 or 4), the number of inputs that share an
    activation scale, whether the lanes of a block share all scales, and the number of inputs."""
    lanes: Any
    """For each lane its first input and the number of its inputs, at most 32."""


class Inputs(NamedTuple):
    """Hold the quantised inputs of a matrix, in its lanes; or those of all texts, a row each."""

    integers: Any
    negative_sums: Any
    """For each 32-bit sum of a lane, or of a block whose lanes share their scales, what the codes
    0, 1, 2 count too much."""
    scales: Any
    """Scale of each lane."""


@no_type_check
@compiled
def largest(x):
    """Return the largest magnitude; of integers, because LLVM finds no vectors for floats here."""
    found = magnitude(x[0])
    for i in range(len(x)):
        found = max(found, magnitude(x[i]))
    return number_of(found)


@no_type_check
@inlined
def inputs_of(inputs, text):
    """Return the quantised inputs of a text."""
    return Inputs(inputs.integers[text], inputs.negative_sums[text], inputs.scales[text])


@no_type_check
@compiled
def quantize(x, matrix, inputs, constants):
    """Quantise the inputs of a matrix, dealt out to its lanes, as `quantize_activations` does."""
    integers, negative_sums, scales = inputs
    group, uniform = matrix.sizes[3], matrix.sizes[4] == 1
    levels = constants[LEVELS]
    previous, scale = -1, levels
    for lane in range(len(matrix.lanes)):
        start, count = matrix.lanes[lane, 0], matrix.lanes[lane, 1]
        if count and start // group != previous:
            previous = start // group
            found = largest(x[previous * group : (previous + 1) * group])
            scale = max(found, constants[LEAST]) / levels
        scales[lane] = scale
        part, values = integers[32 * lane : 32 * lane + 32], x[start : start + count]
        for i in range(count):
            value = values[i] / scale
            whole = np.trunc(value)
            rest = value - whole
            whole += np.trunc(rest + rest)
            part[i] = np.int32(max(min(whole, levels), -levels))
        for i in range(count, 32):
            part[i] = 0
        place = lane // 4 if uniform else lane
        sums = negative_sums[8 * place : 8 * place + 8]
        for i in range(8):
            total = sums[i] if uniform and lane % 4 else np.int32(0)
            for j in range(4):
                total -= np.int32(part[4 * i + j])
            sums[i] = total


@no_type_check
@inlined
def add_block(total, codes, scales, step, at, inputs, block):
    """Add the products of block `at` of a pair of rows with block `block` of the inputs.

    `step` is None if the lanes of a block share their scales; else it is 1 if they have weight
    scales of their own, and 0 if only the inputs have.
    """
    packed, lane, sums = load_codes(codes, 64 * at), 4 * block, inputs.negative_sums
    if step is None:
        counted = block_sums(load_sums(sums, 8 * block), packed, inputs.integers, 32 * lane)
        return add_scaled(total, counted, inputs.scales[lane], scales, 2 * at)
    place = 2 * at * (1 + 3 * step)
    counted = lane_sums(load_sums(sums, 8 * lane), packed, 0, inputs.integers, 32 * lane)
    total = add_scaled(total, counted, inputs.scales[lane], scales, place)
    lane, place = lane + 1, place + 2 * step
    counted = lane_sums(load_sums(sums, 8 * lane), packed, 1, inputs.integers, 32 * lane)
    total = add_scaled(total, counted, inputs.scales[lane], scales, place)
    lane, place = lane + 1, place + 2 * step
    counted = lane_sums(load_sums(sums, 8 * lane), packed, 2, inputs.integers, 32 * lane)
    total = add_scaled(total, counted, inputs.scales[lane], scales, place)
    lane, place = lane + 1, place + 2 * step
    counted = lane_sums(load_sums(sums, 8 * lane), packed, 3, inputs.integers, 32 * lane)
    return add_scaled(total, counted, inputs.scales[lane], scales, place)


@no_type_check
@compiled
def one_text(codes, scales, step, blocks, inputs, out):
    """Multiply for one text, with eight rows at a time, which share what is read of the inputs."""
    pairs = len(out) // 2
    whole = pairs // 4 * 4
    for pair in range(0, whole, 4):
        a = b = c = d = no_floats(scales[0])
        at = pair * blocks
        for block in range(blocks):
            a = add_block(a, codes, scales, step, at, inputs, block)
            b = add_block(b, codes, scales, step, at + blocks, inputs, block)
            c = add_block(c, codes, scales, step, at + 2 * blocks, inputs, block)
            d = add_block(d, codes, scales, step, at + 3 * blocks, inputs, block)
            at += 1
        row = 2 * pair
        found = totals_of(a, b, c, d)
        out[row], out[row + 2], out[row + 4], out[row + 6] = found[:4]
        out[row + 1], out[row + 3], out[row + 5], out[row + 7] = found[4:]
    for pair in range(whole, pairs):
        a = zero = no_floats(scales[0])
        for block in range(blocks):
            a = add_block(a, codes, scales, step, pair * blocks + block, inputs, block)
        found = totals_of(a, zero, zero, zero)
        out[2 * pair], out[2 * pair + 1] = found[0], found[4]


@no_type_check
@compiled
def four_texts(codes, scales, step, blocks, texts, out):
    """Multiply for four texts: codes are taken apart once for all."""
    for pair in range(out.shape[1] // 2):
        a = b = c = d = no_floats(scales[0])
        for block in range(blocks):
            at = pair * blocks + block
            a = add_block(a, codes, scales, step, at, texts[0], block)
            b = add_block(b, codes, scales, step, at, texts[1], block)
            c = add_block(c, codes, scales, step, at, texts[2], block)
            d = add_block(d, codes, scales, step, at, texts[3], block)
        row, found = 2 * pair, totals_of(a, b, c, d)
        out[0, row], out[1, row], out[2, row], out[3, row] = found[:4]
        row += 1
        out[0, row], out[1, row], out[2, row], out[3, row] = found[4:]


@no_type_check
@compiled
def multiply_texts(codes, scales, step, blocks, rows, texts, inputs, out):
    """Multiply for all texts."""
    first, last = rows
    whole = texts // 4 * 4
    for text in range(0, whole, 4):
        a, b = inputs_of(inputs, text), inputs_of(inputs, text + 1)
        c, d = inputs_of(inputs, text + 2), inputs_of(inputs, text + 3)
        part = out[text : text + 4, first:last]
        four_texts(codes, scales, step, blocks, (a, b, c, d), part)
    for text in range(whole, texts):
        one_text(codes, scales, step, blocks, inputs_of(inputs, text), out[text, first:last])


@no_type_check
@compiled
def multiply(matrix, layer, first, last, texts, inputs, out):
    """Write rows `first` to `last` of the matrix times the quantised inputs of all texts."""
    blocks, per_block, uniform = matrix.sizes[1], matrix.sizes[2], matrix.sizes[4] == 1
    start = (layer * matrix.sizes[0] + first) * blocks
    codes, scales = matrix.codes[32 * start :], matrix.scales[per_block * start :]
    rows = first, last
    if uniform:
        multiply_texts(codes, scales, None, blocks, rows, texts, inputs, out)
    else:
        multiply_texts(codes, scales, per_block // 4, blocks, rows, texts, inputs, out)
