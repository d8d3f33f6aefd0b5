"""Run nanochat for one token of each of several texts: a whole forward pass in compiled code.

`ostinato.layers` and `ostinato.models.nanochat` define what is computed; this is the same function,
with int8 activations and two bits a weight, for texts whose earlier keys and values are cached.
Threads share a pass. It is a list of phases, each of so many chunks. A thread takes the next chunk
that nobody has taken, and waits at the end of a phase until all its chunks are done. So a thread
that comes late, or not at all, only leaves more chunks for the others.

Numbers stay in the dtype of the model: a Python number times a float32 would be a float64.
"""

import math
from typing import Any, NamedTuple, no_type_check

import numba
import numpy as np
from numba.extending import overload

from ostinato.kernels.vectors import (
    add_atomic,
    add_scaled,
    block_sums,
    lane_sums,
    load_codes,
    load_sums,
    no_floats,
    power_of_two,
    read_atomic,
    total_of,
)

(BEGIN, QKV, ATTEND, ATTENDED, O_PROJ, MIDDLE, GATE_UP, INNER, DOWN, END, LAST, AGAIN, HEAD) = (
    range(13)
)
"""Kinds of phases, in their order. Those from QKV to END are for each block; LAST takes the place
of the last END, and AGAIN begins a further loop."""
EPS, LEAST, LEVELS, ATTENTION, POST_RANGE, COLLAPSE = range(6)
"""Places of constants: the norms' epsilon, the least magnitude that is quantised, the number of
levels, the scale of attention, the range of h_post, and the factor of the sum of streams."""
COUNTERS = 16
"""Counters of a phase: the first and the ninth are used, so that they share no cache line."""

# Without reference counts (_nrt), for nothing is allocated: this halves compilation and time
compiled = numba.njit(  # pyright: ignore[reportCallIssue] the stubs lack two options
    nogil=True, cache=True, _nrt=False, error_model="numpy", fastmath={"contract", "reassoc", "nsz"}
)

inlined = numba.njit(  # pyright: ignore[reportCallIssue]
    nogil=True, _nrt=False, error_model="numpy", forceinline=True
)


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


class Weights(NamedTuple):
    """Hold all weights of a model; `…_norms` have a row per block, or none."""

    embedding: Any
    head: Any
    qkv: Matrix
    o_proj: Matrix
    gate_up: Matrix
    down: Matrix
    attention_norms: Any
    attended_norms: Any
    attention_out_norms: Any
    feedforward_norms: Any
    inner_norms: Any
    feedforward_out_norms: Any
    final_norm: Any
    bias: Any
    """For each connection the logits of h_pre, h_post and the permutations; empty: one stream."""
    map: Any
    """What a normalised input adds to those logits, if the connections are dynamic; else empty."""
    permutations: Any
    cos: Any
    sin: Any
    constants: Any
    """See `EPS` and so on."""


class Inputs(NamedTuple):
    """Hold the quantised inputs of a matrix, in its lanes."""

    integers: Any
    negative_sums: Any
    """For each 32-bit sum of a lane, or of a block whose lanes share their scales, what the codes
    0, 1, 2 count too much."""
    scales: Any
    """Of each lane."""


class Work(NamedTuple):
    """Hold the cache, and the intermediate results of a pass, a row for each text."""

    keys: Any
    """Rotated keys: layers, slots, key heads, head size, positions."""
    values: Any
    """The same, but layers, slots, key heads, positions, head size."""
    streams: Any
    mixed: Any
    mixing: Any
    """h_pre, h_post, the mixing matrix, and the logits that they come from."""
    integers: Any
    negative_sums: Any
    scales: Any
    x: Any
    qkv: Any
    scores: Any
    inner: Any
    logits: Any


@no_type_check
@numba.njit(nogil=True, cache=True, _nrt=False, fastmath=True)  # pyright: ignore[reportCallIssue]
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


LOG2_E, LN_2 = np.float32(math.log2(math.e)), np.float32(0.693359375)
LN_2_REST = np.float32(math.log(2) - 0.693359375)
"""LN_2 has so few digits that its multiples are exact; the rest is added by itself."""
LEAST_EXPONENT, LARGEST_EXPONENT = np.float32(-87), np.float32(88)
SERIES = [np.float32(1 / math.factorial(n)) for n in range(8)]
"""Terms of e to the x: with |x| below 0.35, seven give float32's precision."""
HALF = np.float32(0.5)


def exponential(x: float) -> float:
    """Return e to the x; for float32 in a form that loops do many at a time."""
    return math.exp(x)


@no_type_check
@overload(exponential, inline="always")
def exponential_of(x):
    """Choose the form of `exponential` for a type."""
    if x != numba.types.float32:
        return lambda x: math.exp(x)
    c1, c2, c3, c4, c5, c6, c7 = SERIES[1:]

    def implementation(x):
        x = min(max(x, LEAST_EXPONENT), LARGEST_EXPONENT)
        whole = np.floor(x * LOG2_E + HALF)
        x = (x - whole * LN_2) - whole * LN_2_REST
        tail = c2 + x * (c3 + x * (c4 + x * (c5 + x * (c6 + x * c7))))
        return (c1 + x * (c1 + x * tail)) * power_of_two(whole)  # pyright: ignore[reportCallIssue] an intrinsic

    return implementation


@no_type_check
@compiled
def dot(a, b):
    """Return the sum of the products."""
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@no_type_check
@compiled
def copy(source, out):
    """Copy numbers: an assignment of slices would take numba seconds to compile."""
    for i in range(len(source)):
        out[i] = source[i]


@no_type_check
@compiled
def inverse_root(x, eps):
    """Return 1 / the root of the mean square of x, as in `rms_norm`."""
    return x.dtype.type(1) / math.sqrt(dot(x, x) / x.dtype.type(len(x)) + eps)


@no_type_check
@compiled
def normalize(x, weight, constants, out):
    """Compute `RMSNorm`."""
    factor = inverse_root(x, constants[EPS])
    for i in range(len(x)):
        out[i] = x[i] * factor * weight[i]


@no_type_check
@compiled
def read_streams(weights, connection, text, work):
    """Compute `HyperConnection.mixing`, and return the streams weighted by h_pre, as `work.x`."""
    streams, mixing, x = work.streams[text], work.mixing[text], work.x[text]
    n, one = len(streams), x.dtype.type(1)
    if n == 1:
        copy(streams[0], x)
        return
    logits = mixing[2 * n + n * n :]
    copy(weights.bias[connection], logits)
    if len(weights.map):
        total = x.dtype.type(0)
        for s in range(n):
            total += dot(streams[s], streams[s])
        factor = one / math.sqrt(total / x.dtype.type(n * len(x)) + weights.constants[EPS])
        for k in range(len(logits)):
            for s in range(n):
                logits[k] += factor * dot(weights.map[connection, k, s], streams[s])
    for s in range(n):
        mixing[s] = one / (one + exponential(-logits[s]))
        mixing[n + s] = weights.constants[POST_RANGE] / (one + exponential(-logits[n + s]))
    choices, matrix = logits[2 * n :], mixing[2 * n : 2 * n + n * n]
    softmax(choices)
    for i in range(n * n):
        matrix[i] = dot(weights.permutations[i], choices)
    for i in range(len(x)):
        x[i] = mixing[0] * streams[0, i]
    for s in range(1, n):
        for i in range(len(x)):
            x[i] += mixing[s] * streams[s, i]


@no_type_check
@compiled
def softmax(x):
    """Replace numbers by their softmax."""
    top = x[0]
    for value in x:
        top = max(top, value)
    total = x.dtype.type(0)
    for i in range(len(x)):
        x[i] = exponential(x[i] - top)
        total += x[i]
    for i in range(len(x)):
        x[i] /= total


@no_type_check
@compiled
def write_streams(weights, text, work):
    """Mix the streams, and let them take in the output of a sub-layer, which is `work.x`."""
    streams, mixed, mixing = work.streams[text], work.mixed[text], work.mixing[text]
    x, n = work.x[text], len(streams)
    if n == 1:
        for i in range(len(x)):
            streams[0, i] += x[i]
        return
    dynamic = len(weights.map) > 0
    for s in range(n):
        for i in range(len(x)):
            if dynamic:
                mixed[s, i] = mixing[n + s] * x[i]
            else:
                mixed[s, i] = 0
                streams[s, i] += mixing[n + s] * x[i]
    for s in range(n):
        for t in range(n):
            for i in range(len(x)):
                mixed[t, i] += mixing[2 * n + n * s + t] * streams[s, i]
    for s in range(n):
        copy(mixed[s], streams[s])


@no_type_check
@compiled
def rotate(x, cos, sin):
    """Apply the rotary position of a head, in place."""
    half = len(x) // 2
    for i in range(half):
        first, second = x[i], x[i + half]
        x[i] = first * cos[i] - second * sin[i]
        x[i + half] = second * cos[i] + first * sin[i]


@no_type_check
@compiled
def add_rows(factors, rows, out):
    """Add the rows times their factors, four at a time, so that `out` is read and written less."""
    whole = len(factors) // 4 * 4
    for n in range(0, whole, 4):
        a, b, c, d = rows[n], rows[n + 1], rows[n + 2], rows[n + 3]
        by_a, by_b, by_c, by_d = factors[n], factors[n + 1], factors[n + 2], factors[n + 3]
        for i in range(len(out)):
            out[i] += by_a * a[i] + by_b * b[i] + by_c * c[i] + by_d * d[i]
    for n in range(whole, len(factors)):
        for i in range(len(out)):
            out[i] += factors[n] * rows[n, i]


@no_type_check
@compiled
def multiply_head(head, first, last, x, logits):
    """Write rows `first` to `last` of the head times the final states, four texts at a time."""
    whole = len(x) // 4 * 4
    for row in range(first, last):
        weights = head[row]
        for n in range(0, whole, 4):
            a, b, c, d = x[n], x[n + 1], x[n + 2], x[n + 3]
            sum_a = sum_b = sum_c = sum_d = x.dtype.type(0)
            for i in range(len(weights)):
                sum_a += weights[i] * a[i]
                sum_b += weights[i] * b[i]
                sum_c += weights[i] * c[i]
                sum_d += weights[i] * d[i]
            logits[n, row], logits[n + 1, row] = sum_a, sum_b
            logits[n + 2, row], logits[n + 3, row] = sum_c, sum_d
        for n in range(whole, len(x)):
            logits[n, row] = dot(weights, x[n])


@no_type_check
@compiled
def attend(weights, cache, head, slot, position, text, work):
    """Append a key and value to a cache, and let the query heads that share them attend."""
    heads, key_heads, size = work.scores.shape[1], work.keys.shape[2], work.keys.shape[3]
    qkv, cos, sin = work.qkv[text], weights.cos[position], weights.sin[position]
    keys, values = work.keys[cache, slot, head], work.values[cache, slot, head]
    key = qkv[(heads + head) * size : (heads + head + 1) * size]
    rotate(key, cos, sin)
    for j in range(size):
        keys[j, position] = key[j]
    first = (heads + key_heads + head) * size
    copy(qkv[first : first + size], values[position])
    shared = heads // key_heads
    for number in range(head * shared, (head + 1) * shared):
        query = qkv[number * size : (number + 1) * size]
        rotate(query, cos, sin)
        scores = work.scores[text, number, : position + 1]
        for i in range(position + 1):
            scores[i] = 0
        for j in range(size):
            query[j] *= weights.constants[ATTENTION]
        add_rows(query, keys, scores)
        softmax(scores)
        x = work.x[text, number * size : (number + 1) * size]
        for j in range(size):
            x[j] = 0
        add_rows(scores, values, x)


@no_type_check
@compiled
def run_chunk(phase, chunk, tokens, slots, positions, weights, work):
    """Do one chunk of a phase: some rows of a matrix, or one text, or a key head of one."""
    kind, layer, chunks, cache = phase[0], phase[1], phase[2], phase[3]
    texts, constants = len(tokens), weights.constants
    x = work.x[chunk % texts]
    if kind == BEGIN:
        copy(weights.embedding[tokens[chunk]], x)
    if kind in (BEGIN, AGAIN):
        for stream in range(work.streams.shape[1]):
            copy(x, work.streams[chunk, stream])
    if kind in (MIDDLE, END, LAST):
        norms = weights.attention_out_norms if kind == MIDDLE else weights.feedforward_out_norms
        if len(norms):
            normalize(x, norms[layer], constants, x)
        write_streams(weights, chunk, work)
    if kind in (BEGIN, AGAIN, END):
        following = layer + 1 if kind == END else 0
        read_streams(weights, 2 * following, chunk, work)
        normalize(x, weights.attention_norms[following], constants, x)
        quantize(x, weights.qkv, chunk, work, constants)
    elif kind == QKV:
        rows = weights.qkv.sizes[0]
        first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
        multiply(weights.qkv, layer, first, last, texts, work, work.qkv)
    elif kind == ATTEND:
        text, head = chunk // work.keys.shape[2], chunk % work.keys.shape[2]
        attend(weights, cache, head, slots[text], positions[text], text, work)
    elif kind == ATTENDED:
        if len(weights.attended_norms):
            normalize(x, weights.attended_norms[layer], constants, x)
        quantize(x, weights.o_proj, chunk, work, constants)
    elif kind == O_PROJ:
        rows = weights.o_proj.sizes[0]
        first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
        multiply(weights.o_proj, layer, first, last, texts, work, work.x)
    elif kind == MIDDLE:
        read_streams(weights, 2 * layer + 1, chunk, work)
        normalize(x, weights.feedforward_norms[layer], constants, x)
        quantize(x, weights.gate_up, chunk, work, constants)
    elif kind == GATE_UP:
        rows = weights.gate_up.sizes[0] // 2
        first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
        multiply(weights.gate_up, layer, first, last, texts, work, work.inner)
        multiply(weights.gate_up, layer, rows + first, rows + last, texts, work, work.inner)
        one = x.dtype.type(1)
        for text in range(texts):
            inner = work.inner[text]
            for i in range(first, last):
                inner[i] *= inner[rows + i] / (one + exponential(-inner[i]))
    elif kind == INNER:
        inner = work.inner[chunk, : weights.gate_up.sizes[0] // 2]
        if len(weights.inner_norms):
            normalize(inner, weights.inner_norms[layer], constants, inner)
        quantize(inner, weights.down, chunk, work, constants)
    elif kind == DOWN:
        rows = weights.down.sizes[0]
        first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
        multiply(weights.down, layer, first, last, texts, work, work.x)
    elif kind == LAST:
        streams = work.streams[chunk]
        copy(streams[0], x)
        for stream in range(1, len(streams)):
            for i in range(len(x)):
                x[i] += streams[stream, i]
        for i in range(len(x)):
            x[i] *= constants[COLLAPSE]
        normalize(x, weights.final_norm, constants, x)
    elif kind == HEAD:
        rows = len(weights.head)
        first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
        multiply_head(weights.head, first, last, work.x, work.logits)


@no_type_check
@compiled
def step(phases, counters, tokens, slots, positions, weights, work):
    """Run the phases: kind, block, number of chunks, and place in the cache of each. Every thread
    calls this with the same arguments; `counters` are zeros, and new for each pass."""
    for phase in range(len(phases)):
        chunks = phases[phase, 2]
        taken, done = COUNTERS * phase, COUNTERS * phase + COUNTERS // 2
        chunk = add_atomic(counters, taken, 1)
        while chunk < chunks:
            run_chunk(phases[phase], chunk, tokens, slots, positions, weights, work)
            add_atomic(counters, done, 1)
            chunk = add_atomic(counters, taken, 1)
        while read_atomic(counters, done) < chunks:
            pass
