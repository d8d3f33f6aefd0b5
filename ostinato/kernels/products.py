"""Multiply ternary matrices of two bits a weight with int8 activations, exactly."""

from typing import Any, NamedTuple, no_type_check

import numpy as np

from ostinato.kernels.vectors import (
    add_scaled,
    block_sums,
    compiled,
    compiled_for_finite,
    inlined,
    lane_sums,
    load_codes,
    load_sums,
    no_floats,
    total_of,
)

EPS, LEAST, LEVELS, ATTENTION, POST_RANGE, COLLAPSE = range(6)
"""Places of constants: the norms' epsilon, the least magnitude that is quantised, the number of
levels, the scale of attention, the range of h_post, and the factor of the sum of streams."""


class Matrix(NamedTuple):
    """Hold a ternary matrix of every block.

    The inputs of a row are dealt out to lanes of 32 that share a weight scale and an activation
    scale, four lanes to a block of 32 bytes: lane n of a block has bits 2n and 2n + 1.
    """

    codes: Any
    """uint8, flat: -1, 0, 1 as 0, 1, 2."""
    scales: Any
    """Numbers, flat: of each block in turn."""
    sizes: Any
    """Rows, blocks of a row, scales of a block (1 or 4), the number of inputs that share an
    activation scale, and whether the lanes of a block share all scales."""
    lanes: Any
    """For each lane its first input and the number of its inputs, at most 32."""


class Inputs(NamedTuple):
    """Hold the quantised inputs of a matrix, in its lanes."""

    integers: Any
    negative_sums: Any
    """For each 32-bit sum of a lane, or of a block whose lanes share their scales, what the codes
    0, 1, 2 count too much."""
    scales: Any
    """Scale of each lane."""


@no_type_check
@compiled_for_finite
def largest(x):
    """Return the largest magnitude."""
    found = abs(x[0])
    for value in x:
        found = max(found, abs(value))
    return found


@no_type_check
@inlined
def inputs_of(work, text):
    """Return the quantised inputs of a text."""
    return Inputs(work.integers[text], work.negative_sums[text], work.scales[text])


@no_type_check
@compiled
def quantize(x, matrix, text, work, constants):
    """Quantise the inputs of a matrix, dealt out to its lanes, as `quantize_activations` does."""
    group, uniform = matrix.sizes[3], matrix.sizes[4] == 1
    integers, negative_sums, scales = inputs_of(work, text)
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
def add_block(total, packed, weight, inputs, block):
    """Add the products of a block whose lanes share their scales."""
    start = load_sums(inputs.negative_sums, 8 * block)
    sums = block_sums(start, packed, inputs.integers, 128 * block)
    return add_scaled(total, sums, weight * inputs.scales[4 * block])


@no_type_check
@inlined
def add_lanes(total, packed, scales, at, step, inputs, block):
    """Add the products of a block whose lanes have scales of their own."""
    lane = 4 * block
    start = load_sums(inputs.negative_sums, 8 * lane)
    sums = lane_sums(start, packed, 0, inputs.integers, 32 * lane)
    total = add_scaled(total, sums, scales[at] * inputs.scales[lane])
    start = load_sums(inputs.negative_sums, 8 * lane + 8)
    sums = lane_sums(start, packed, 1, inputs.integers, 32 * lane + 32)
    total = add_scaled(total, sums, scales[at + step] * inputs.scales[lane + 1])
    start = load_sums(inputs.negative_sums, 8 * lane + 16)
    sums = lane_sums(start, packed, 2, inputs.integers, 32 * lane + 64)
    total = add_scaled(total, sums, scales[at + 2 * step] * inputs.scales[lane + 2])
    start = load_sums(inputs.negative_sums, 8 * lane + 24)
    sums = lane_sums(start, packed, 3, inputs.integers, 32 * lane + 96)
    return add_scaled(total, sums, scales[at + 3 * step] * inputs.scales[lane + 3])


@no_type_check
@compiled
def one_by_block(codes, scales, blocks, inputs, out):
    """Multiply for one text, if the lanes of each block share their scales."""
    for row in range(len(out)):
        total = no_floats(scales[0])
        for block in range(blocks):
            at = row * blocks + block
            total = add_block(total, load_codes(codes, 32 * at), scales[at], inputs, block)
        out[row] = total_of(total)


@no_type_check
@compiled
def one_by_lane(codes, scales, blocks, step, inputs, out):
    """Multiply for one text, if the lanes of a block have scales of their own."""
    for row in range(len(out)):
        total = no_floats(scales[0])
        for block in range(blocks):
            at = row * blocks + block
            packed = load_codes(codes, 32 * at)
            at = at * 4 if step else at
            total = add_lanes(total, packed, scales, at, step, inputs, block)
        out[row] = total_of(total)


@no_type_check
@compiled
def four_by_block(codes, scales, blocks, a, b, c, d, out):
    """Multiply for the texts a to d: codes are taken apart once for all."""
    for row in range(out.shape[1]):
        sum_a = sum_b = sum_c = sum_d = no_floats(scales[0])
        for block in range(blocks):
            at = row * blocks + block
            packed, weight = load_codes(codes, 32 * at), scales[at]
            sum_a = add_block(sum_a, packed, weight, a, block)
            sum_b = add_block(sum_b, packed, weight, b, block)
            sum_c = add_block(sum_c, packed, weight, c, block)
            sum_d = add_block(sum_d, packed, weight, d, block)
        out[0, row], out[1, row] = total_of(sum_a), total_of(sum_b)
        out[2, row], out[3, row] = total_of(sum_c), total_of(sum_d)


@no_type_check
@compiled
def four_by_lane(codes, scales, blocks, step, a, b, c, d, out):
    """Do the same as `four_by_block` for lanes with scales of their own."""
    for row in range(out.shape[1]):
        sum_a = sum_b = sum_c = sum_d = no_floats(scales[0])
        for block in range(blocks):
            at = row * blocks + block
            packed = load_codes(codes, 32 * at)
            at = at * 4 if step else at
            sum_a = add_lanes(sum_a, packed, scales, at, step, a, block)
            sum_b = add_lanes(sum_b, packed, scales, at, step, b, block)
            sum_c = add_lanes(sum_c, packed, scales, at, step, c, block)
            sum_d = add_lanes(sum_d, packed, scales, at, step, d, block)
        out[0, row], out[1, row] = total_of(sum_a), total_of(sum_b)
        out[2, row], out[3, row] = total_of(sum_c), total_of(sum_d)


@no_type_check
@compiled
def multiply(matrix, layer, first, last, texts, work, out):
    """Write rows `first` to `last` of the matrix times the quantised inputs of all texts."""
    blocks, per_block, uniform = matrix.sizes[1], matrix.sizes[2], matrix.sizes[4] == 1
    start = (layer * matrix.sizes[0] + first) * blocks
    codes, scales = matrix.codes[32 * start :], matrix.scales[per_block * start :]
    step = per_block // 4
    text = 0
    while text + 4 <= texts:
        a, b = inputs_of(work, text), inputs_of(work, text + 1)
        c, d = inputs_of(work, text + 2), inputs_of(work, text + 3)
        part = out[text : text + 4, first:last]
        if uniform:
            four_by_block(codes, scales, blocks, a, b, c, d, part)
        else:
            four_by_lane(codes, scales, blocks, step, a, b, c, d, part)
        text += 4
    while text < texts:
        if uniform:
            one_by_block(codes, scales, blocks, inputs_of(work, text), out[text, first:last])
        else:
            one_by_lane(codes, scales, blocks, step, inputs_of(work, text), out[text, first:last])
        text += 1
