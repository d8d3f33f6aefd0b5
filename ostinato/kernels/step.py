"""Run nanochat for one token of each of several texts: a whole forward pass in compiled code.

`ostinato.layers` and `ostinato.models.nanochat` define what is computed; this is the same function,
with int8 activations and two bits a weight, for texts whose earlier keys and values are cached.
Threads share a pass. It is a list of phases, each of so many chunks. A thread takes the next chunk
that nobody has taken, and waits at the end of a phase until all its chunks are done. So a thread
that comes late, or not at all, only leaves more chunks for the others.

Weights and work are handed down as `Kept`, that is as one address: their arrays, as arguments of
each call, would take longer than what some chunks do.

Numbers stay in the dtype of the model: a Python number times a float32 would be a float64.
"""

from typing import Any, NamedTuple, no_type_check

from ostinato.kernels.kept import value_of
from ostinato.kernels.layers import (
    attend,
    copy,
    gate,
    multiply_head,
    multiply_packed_head,
    normalize,
    read_streams,
    write_streams,
)
from ostinato.kernels.products import COLLAPSE, Inputs, Matrix, inputs_of, multiply, quantize
from ostinato.kernels.scalars import add_atomic, read_atomic
from ostinato.kernels.vectors import compiled

(BEGIN, QKV, ATTEND, ATTENDED, O_PROJ, MIDDLE, GATE_UP, INNER, DOWN, END, LAST, AGAIN, HEAD) = (
    range(13)
)
"""Kinds of phases, in their order. Those from QKV to END are for each block; LAST takes the place
of the last END, and AGAIN begins a further loop."""
COUNTERS = 16
"""Counters of a phase: the first and the ninth are used, so that they share no cache line."""


class PackedHead(NamedTuple):
    """Hold the head in three quarters of its memory; empty if it is not of that kind."""

    codes: Any
    """uint8, flat: integers of three bytes, and 16 bytes more."""
    scales: Any
    """For each row."""


class Weights(NamedTuple):
    """Hold all weights of a model; `…_norms` have a row per block, or none."""

    embedding: Any
    head: Any
    packed_head: PackedHead
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
    """Share of a normalised input in those logits, if the connections are dynamic; else empty."""
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
    """Values, in the same order."""
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
@compiled
def share_of(rows, chunk, chunks):
    """Return the first row of a chunk and the one behind its last; but for the end, eights."""
    eights = (rows + 7) // 8
    return min(eights * chunk // chunks * 8, rows), min(eights * (chunk + 1) // chunks * 8, rows)


@no_type_check
@compiled
def run_chunk(phase, chunk, tokens, slots, positions, kept_weights, kept_work):
    """Do one chunk of a phase: some rows of a matrix, or one text, or a key head of one."""
    weights, work = value_of(kept_weights), value_of(kept_work)
    inputs = Inputs(work.integers, work.negative_sums, work.scales)
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
        write_streams(kept_weights, chunk, kept_work)
    if kind in (BEGIN, AGAIN, END):
        following = layer + 1 if kind == END else 0
        read_streams(kept_weights, 2 * following, chunk, kept_work)
        normalize(x, weights.attention_norms[following], constants, x)
        quantize(x, weights.qkv, inputs_of(inputs, chunk), constants)
    elif kind == QKV:
        rows = weights.qkv.sizes[0]
        first, last = share_of(rows, chunk, chunks)
        multiply(weights.qkv, layer, first, last, texts, inputs, work.qkv)
    elif kind == ATTEND:
        text, head = chunk // work.keys.shape[2], chunk % work.keys.shape[2]
        attend(kept_weights, cache, head, slots[text], positions[text], text, kept_work)
    elif kind == ATTENDED:
        if len(weights.attended_norms):
            normalize(x, weights.attended_norms[layer], constants, x)
        quantize(x, weights.o_proj, inputs_of(inputs, chunk), constants)
    elif kind == O_PROJ:
        rows = weights.o_proj.sizes[0]
        first, last = share_of(rows, chunk, chunks)
        multiply(weights.o_proj, layer, first, last, texts, inputs, work.x)
    elif kind == MIDDLE:
        read_streams(kept_weights, 2 * layer + 1, chunk, kept_work)
        normalize(x, weights.feedforward_norms[layer], constants, x)
        quantize(x, weights.gate_up, inputs_of(inputs, chunk), constants)
    elif kind == GATE_UP:
        rows = weights.gate_up.sizes[0] // 2
        first, last = share_of(rows, chunk, chunks)
        multiply(weights.gate_up, layer, first, last, texts, inputs, work.inner)
        multiply(weights.gate_up, layer, rows + first, rows + last, texts, inputs, work.inner)
        for text in range(texts):
            inner = work.inner[text]
            gate(inner[first:last], inner[rows + first : rows + last])
    elif kind == INNER:
        inner = work.inner[chunk, : weights.down.sizes[5]]
        if len(weights.inner_norms):
            normalize(inner, weights.inner_norms[layer], constants, inner)
        quantize(inner, weights.down, inputs_of(inputs, chunk), constants)
    elif kind == DOWN:
        rows = weights.down.sizes[0]
        first, last = share_of(rows, chunk, chunks)
        multiply(weights.down, layer, first, last, texts, inputs, work.x)
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
        first, last = share_of(len(weights.head), chunk, chunks)
        if len(weights.packed_head.scales):
            multiply_packed_head(weights.packed_head, first, last, work.x, work.logits)
        else:
            multiply_head(weights.head, first, last, work.x, work.logits)


@no_type_check
@compiled
def step(phases, counters, tokens, slots, positions, kept_weights, kept_work):
    """Run the phases: kind, block, number of chunks, and place in the cache of each. Every thread
    calls this with the same arguments; `counters` are zeros, and new for each pass."""
    for phase in range(len(phases)):
        chunks = phases[phase, 2]
        taken, done = COUNTERS * phase, COUNTERS * phase + COUNTERS // 2
        chunk = add_atomic(counters, taken, 1)
        while chunk < chunks:
            run_chunk(phases[phase], chunk, tokens, slots, positions, kept_weights, kept_work)
            add_atomic(counters, done, 1)
            chunk = add_atomic(counters, taken, 1)
        while read_atomic(counters, done) < chunks:
            pass
