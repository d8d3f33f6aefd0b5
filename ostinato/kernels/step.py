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

from ostinato.kernels.vectors import (
    add_atomic,
    add_scaled,
    block_sums,
    lane_sums,
    load_codes,
    load_sums,
    no_floats,
    read_atomic,
    total_of,
)

(BEGIN, QKV, ATTEND, ATTENDED, O_PROJ, MIDDLE, GATE_UP, INNER, DOWN, END, LAST, HEAD) = range(12)
"""Kinds of phases, in the order of a pass; those from QKV to END once for each block."""
EPS, LEAST, LEVELS, ATTENTION, POST_RANGE, COLLAPSE = range(6)
"""Places of constants: the norms' epsilon, the least magnitude that is quantised, the number of
levels, the scale of attention, the range of h_post, and what the sum of streams is multiplied by."""
COUNTERS = 16
"""Counters of a phase: the first and the ninth are used, so that they share no cache line."""

compiled = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"}
)


class Matrix(NamedTuple):
    """Hold a ternary matrix of every block.

    The inputs of a row are dealt out to lanes of 32 that share a weight scale and an activation
    scale, four lanes to a block of 32 bytes: lane n of a block has bits 2n and 2n + 1.
    """

    codes: Any
    """uint8, flat: -1, 0, 1 as 0, 1, 2."""
    scales: Any
    """Numbers, flat."""
    sizes: Any
    """Rows, blocks of a row, the steps of `scales` per layer, row, block and lane, the number of
    inputs that share an activation scale, and whether the lanes of a block share all scales."""
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
    feedforward_norms: Any
    inner_norms: Any
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


class Work(NamedTuple):
    """Hold the cache, and the intermediate results of a pass, a row for each text."""

    keys: Any
    """Rotated keys: layers, slots, key heads, positions, head size."""
    values: Any
    streams: Any
    mixed: Any
    mixing: Any
    """h_pre, h_post, the mixing matrix, and the logits that they come from."""
    integers: Any
    """Quantised inputs of a matrix, flat, a stretch of lanes for each text."""
    negative_sums: Any
    scales: Any
    x: Any
    qkv: Any
    scores: Any
    inner: Any
    logits: Any


@no_type_check
@numba.njit(nogil=True, cache=True, fastmath=True)
def largest(x):
    found = abs(x[0])
    for value in x:
        found = max(found, abs(value))
    return found


@no_type_check
@compiled
def quantize(x, matrix, text, work, constants):
    """Quantise the inputs of a matrix, dealt out to its lanes, as `quantize_activations` does."""
    group, uniform = matrix.sizes[6], matrix.sizes[7] == 1
    first_lane = text * (len(work.scales) // len(work.x))
    levels = constants[LEVELS]
    previous, scale = -1, levels
    for lane in range(len(matrix.lanes)):
        start, count = matrix.lanes[lane, 0], matrix.lanes[lane, 1]
        if count and start // group != previous:
            previous = start // group
            found = largest(x[previous * group : (previous + 1) * group])
            scale = max(found, constants[LEAST]) / levels
        work.scales[first_lane + lane] = scale
        at = 32 * (first_lane + lane)
        for i in range(count):
            value = x[start + i] / scale
            whole = np.trunc(value)
            rest = value - whole
            whole += np.trunc(rest + rest)
            work.integers[at + i] = np.int8(max(min(whole, levels), -levels))
        for i in range(count, 32):
            work.integers[at + i] = 0
        sums = 8 * (first_lane + (lane // 4 if uniform else lane))
        for i in range(8):
            total = np.int32(0)
            for j in range(4):
                total -= np.int32(work.integers[at + 4 * i + j])
            if uniform and lane % 4:
                total += work.negative_sums[sums + i]
            work.negative_sums[sums + i] = total


@no_type_check
@compiled
def add_block(total, packed, weight, work, lanes, block):
    """Add the products of a block whose lanes share their scales; `lanes` are before the text."""
    start = load_sums(work.negative_sums, 8 * (lanes + block))
    sums = block_sums(start, packed, work.integers, 32 * lanes + 128 * block)
    return add_scaled(total, sums, weight * work.scales[lanes + 4 * block])


@no_type_check
@compiled
def add_lanes(total, packed, scales, at, step, work, first):
    """Add the products of a block whose lanes have scales of their own; `first` is its lane."""
    start = load_sums(work.negative_sums, 8 * first)
    sums = lane_sums(start, packed, 0, work.integers, 32 * first)
    total = add_scaled(total, sums, scales[at] * work.scales[first])
    start = load_sums(work.negative_sums, 8 * first + 8)
    sums = lane_sums(start, packed, 1, work.integers, 32 * first + 32)
    total = add_scaled(total, sums, scales[at + step] * work.scales[first + 1])
    start = load_sums(work.negative_sums, 8 * first + 16)
    sums = lane_sums(start, packed, 2, work.integers, 32 * first + 64)
    total = add_scaled(total, sums, scales[at + 2 * step] * work.scales[first + 2])
    start = load_sums(work.negative_sums, 8 * first + 24)
    sums = lane_sums(start, packed, 3, work.integers, 32 * first + 96)
    return add_scaled(total, sums, scales[at + 3 * step] * work.scales[first + 3])


@no_type_check
@compiled
def multiply(matrix, layer, first, last, texts, work, out):
    """Write rows `first` to `last` of the matrix times the quantised inputs of all texts."""
    rows, blocks, by_block = matrix.sizes[0], matrix.sizes[1], matrix.sizes[4]
    lanes = len(work.scales) // len(work.x)
    for row in range(first, last):
        codes = (layer * rows + row) * blocks * 32
        scales = layer * matrix.sizes[2] + row * matrix.sizes[3]
        text = 0
        if matrix.sizes[7] == 1:
            while text + 4 <= texts:
                a = b = c = d = no_floats(matrix.scales[0])
                for block in range(blocks):
                    packed = load_codes(matrix.codes, codes + 32 * block)
                    weight = matrix.scales[scales + by_block * block]
                    a = add_block(a, packed, weight, work, text * lanes, block)
                    b = add_block(b, packed, weight, work, (text + 1) * lanes, block)
                    c = add_block(c, packed, weight, work, (text + 2) * lanes, block)
                    d = add_block(d, packed, weight, work, (text + 3) * lanes, block)
                out[text, row], out[text + 1, row] = total_of(a), total_of(b)
                out[text + 2, row], out[text + 3, row] = total_of(c), total_of(d)
                text += 4
            while text < texts:
                a = no_floats(matrix.scales[0])
                for block in range(blocks):
                    packed = load_codes(matrix.codes, codes + 32 * block)
                    weight = matrix.scales[scales + by_block * block]
                    a = add_block(a, packed, weight, work, text * lanes, block)
                out[text, row] = total_of(a)
                text += 1
        while text < texts:
            a = no_floats(matrix.scales[0])
            for block in range(blocks):
                packed = load_codes(matrix.codes, codes + 32 * block)
                at = scales + by_block * block
                first_lane = text * lanes + 4 * block
                a = add_lanes(a, packed, matrix.scales, at, matrix.sizes[5], work, first_lane)
            out[text, row] = total_of(a)
            text += 1


@no_type_check
@compiled
def dot(a, b):
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


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
        x[:] = streams[0]
        return
    logits = mixing[2 * n + n * n :]
    logits[:] = weights.bias[connection]
    if len(weights.map):
        flat = streams.reshape(-1)
        factor = inverse_root(flat, weights.constants[EPS])
        for k in range(len(logits)):
            logits[k] += factor * dot(weights.map[connection, k], flat)
    for s in range(n):
        mixing[s] = one / (one + math.exp(-logits[s]))
        mixing[n + s] = weights.constants[POST_RANGE] / (one + math.exp(-logits[n + s]))
    choices, matrix = logits[2 * n :], mixing[2 * n : 2 * n + n * n]
    softmax(choices)
    matrix[:] = 0
    for k in range(len(choices)):
        for i in range(n * n):
            matrix[i] += weights.permutations[k, i] * choices[k]
    for i in range(len(x)):
        x[i] = mixing[0] * streams[0, i]
    for s in range(1, n):
        for i in range(len(x)):
            x[i] += mixing[s] * streams[s, i]


@no_type_check
@compiled
def softmax(x):
    top = x[0]
    for value in x:
        top = max(top, value)
    total = x.dtype.type(0)
    for i in range(len(x)):
        x[i] = math.exp(x[i] - top)
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
    streams[:] = mixed


@no_type_check
@compiled
def rotate(x, cos, sin):
    half = len(x) // 2
    for i in range(half):
        first, second = x[i], x[i + half]
        x[i] = first * cos[i] - second * sin[i]
        x[i + half] = second * cos[i] + first * sin[i]


@no_type_check
@compiled
def attend(weights, layer, head, slot, position, text, work):
    """Append a key and value to a cache, and let the query heads that share them attend."""
    _, _, key_heads, _, size = work.keys.shape
    heads = work.scores.shape[1]
    qkv, cos, sin = work.qkv[text], weights.cos[position], weights.sin[position]
    keys, values = work.keys[layer, slot, head], work.values[layer, slot, head]
    at = (heads + head) * size
    keys[position] = qkv[at : at + size]
    rotate(keys[position], cos, sin)
    at += key_heads * size
    values[position] = qkv[at : at + size]
    shared = heads // key_heads
    for number in range(head * shared, (head + 1) * shared):
        query = qkv[number * size : (number + 1) * size]
        rotate(query, cos, sin)
        scores = work.scores[text, number, : position + 1]
        for i in range(position + 1):
            scores[i] = dot(query, keys[i]) * weights.constants[ATTENTION]
        softmax(scores)
        x = work.x[text, number * size : (number + 1) * size]
        x[:] = 0
        for i in range(position + 1):
            for j in range(size):
                x[j] += scores[i] * values[i, j]


@no_type_check
@compiled
def run_chunk(kind, layer, chunk, chunks, tokens, slots, positions, weights, work):
    """Do one chunk of a phase: some rows of a matrix, or one text, or a key head of one."""
    texts, constants = len(tokens), weights.constants
    x = work.x[chunk % texts]
    if kind == BEGIN:
        for stream in range(work.streams.shape[1]):
            work.streams[chunk, stream] = weights.embedding[tokens[chunk]]
    if kind == MIDDLE or kind == END or kind == LAST:
        write_streams(weights, chunk, work)
    if kind == BEGIN or kind == END:
        following = 0 if kind == BEGIN else layer + 1
        read_streams(weights, 2 * following, chunk, work)
        normalize(x, weights.attention_norms[following], constants, x)
        quantize(x, weights.qkv, chunk, work, constants)
    elif kind == QKV:
        rows = weights.qkv.sizes[0]
        first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
        multiply(weights.qkv, layer, first, last, texts, work, work.qkv)
    elif kind == ATTEND:
        text, head = chunk // work.keys.shape[2], chunk % work.keys.shape[2]
        attend(weights, layer, head, slots[text], positions[text], text, work)
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
                inner[i] *= inner[rows + i] / (one + math.exp(-inner[i]))
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
        x[:] = streams[0]
        for stream in range(1, len(streams)):
            for i in range(len(x)):
                x[i] += streams[stream, i]
        for i in range(len(x)):
            x[i] *= constants[COLLAPSE]
        normalize(x, weights.final_norm, constants, x)
    elif kind == HEAD:
        rows = len(weights.head)
        first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
        for row in range(first, last):
            for text in range(texts):
                work.logits[text, row] = dot(weights.head[row], work.x[text])


@no_type_check
@compiled
def step(phases, counters, tokens, slots, positions, weights, work):
    """Run the phases: kind, block and number of chunks of each. Every thread calls this with the
    same arguments; `counters` are zeros, and new for each pass."""
    for phase in range(len(phases)):
        kind, layer, chunks = phases[phase, 0], phases[phase, 1], phases[phase, 2]
        taken, done = COUNTERS * phase, COUNTERS * phase + COUNTERS // 2
        chunk = add_atomic(counters, taken, 1)
        while chunk < chunks:
            run_chunk(kind, layer, chunk, chunks, tokens, slots, positions, weights, work)
            add_atomic(counters, done, 1)
            chunk = add_atomic(counters, taken, 1)
        while read_atomic(counters, done) < chunks:
            pass
