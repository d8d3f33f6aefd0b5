"""Compute what lies between the ternary matrices: norms, streams, attention and the head."""

import math
from typing import no_type_check

import numba
import numpy as np
from numba.extending import overload

from ostinato.kernels.kept import value_of
from ostinato.kernels.products import ATTENTION, EPS, POST_RANGE
from ostinato.kernels.scalars import power_of_two
from ostinato.kernels.vectors import (
    add_product,
    compiled,
    inlined,
    load_integers,
    load_numbers,
    no_floats,
    totals_of,
)

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
        return (c1 + x * (c1 + x * tail)) * power_of_two(whole)  # pyright: ignore[reportCallIssue]

    return implementation


@no_type_check
@compiled
def copy(source, out):
    """Copy numbers: an assignment of slices would take numba seconds to compile."""
    for i in range(len(source)):
        out[i] = source[i]


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
def read_streams(kept_weights, connection, text, kept_work):
    """Compute `HyperConnection.mixing`, and return the streams weighted by h_pre, as `work.x`."""
    weights, work = value_of(kept_weights), value_of(kept_work)
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
def write_streams(kept_weights, text, kept_work):
    """Mix the streams, and let them take in the output of a sub-layer, which is `work.x`."""
    weights, work = value_of(kept_weights), value_of(kept_work)
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
def gate(x, y):
    """Replace x by silu(x) · y."""
    one = x.dtype.type(1)
    for i in range(len(x)):
        x[i] *= y[i] / (one + exponential(-x[i]))


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
def multiply_rows(rows, x, out):
    """Write the product of each row with x, four rows at a time."""
    whole = len(rows) // 4 * 4
    for n in range(0, whole, 4):
        a, b, c, d = rows[n], rows[n + 1], rows[n + 2], rows[n + 3]
        sum_a = sum_b = sum_c = sum_d = x.dtype.type(0)
        for i in range(len(x)):
            sum_a += a[i] * x[i]
            sum_b += b[i] * x[i]
            sum_c += c[i] * x[i]
            sum_d += d[i] * x[i]
        out[n], out[n + 1], out[n + 2], out[n + 3] = sum_a, sum_b, sum_c, sum_d
    for n in range(whole, len(rows)):
        out[n] = dot(rows[n], x)


@no_type_check
@compiled
def attend(kept_weights, cache, head, slot, position, text, kept_work):
    """Append a key and value to a cache, and let the query heads that share them attend."""
    weights, work = value_of(kept_weights), value_of(kept_work)
    heads, key_heads, size = work.scores.shape[1], work.keys.shape[2], work.keys.shape[4]
    qkv, cos, sin = work.qkv[text], weights.cos[position], weights.sin[position]
    keys = work.keys[cache, slot, head, : position + 1]
    values = work.values[cache, slot, head, : position + 1]
    copy(qkv[(heads + head) * size : (heads + head + 1) * size], keys[position])
    rotate(keys[position], cos, sin)
    first = (heads + key_heads + head) * size
    copy(qkv[first : first + size], values[position])
    shared = heads // key_heads
    for number in range(head * shared, (head + 1) * shared):
        query = qkv[number * size : (number + 1) * size]
        rotate(query, cos, sin)
        for j in range(size):
            query[j] *= weights.constants[ATTENTION]
        scores = work.scores[text, number, : position + 1]
        multiply_rows(keys, query, scores)
        softmax(scores)
        x = work.x[text, number * size : (number + 1) * size]
        for j in range(size):
            x[j] = 0
        add_rows(scores, values, x)


@no_type_check
@inlined
def write(halves, scale, out):
    """Write four sums, of which there are halves, times a scale."""
    out[0], out[1] = (halves[0] + halves[4]) * scale, (halves[1] + halves[5]) * scale
    out[2], out[3] = (halves[2] + halves[6]) * scale, (halves[3] + halves[7]) * scale


@no_type_check
@compiled
def multiply_packed_head(head, first, last, x, logits):
    """Do the same as `multiply_head` with a head of 24-bit integers."""
    codes, width, like = head.codes, x.shape[1], x[0, 0]
    whole = len(x) // 4 * 4
    for row in range(first, last if whole else first, 2):
        other = min(row + 1, last - 1)
        at, other_at = 3 * width * row, 3 * width * other
        for n in range(0, whole, 4):
            a = b = c = d = other_a = other_b = other_c = other_d = no_floats(like)
            for i in range(0, width, 16):
                weights = load_integers(codes, at + 3 * i, like)
                others = load_integers(codes, other_at + 3 * i, like)
                given = load_numbers(x[n], i)
                a, other_a = add_product(a, weights, given), add_product(other_a, others, given)
                given = load_numbers(x[n + 1], i)
                b, other_b = add_product(b, weights, given), add_product(other_b, others, given)
                given = load_numbers(x[n + 2], i)
                c, other_c = add_product(c, weights, given), add_product(other_c, others, given)
                given = load_numbers(x[n + 3], i)
                d, other_d = add_product(d, weights, given), add_product(other_d, others, given)
            write(totals_of(a, b, c, d), head.scales[row], logits[n : n + 4, row])
            totals = totals_of(other_a, other_b, other_c, other_d)
            write(totals, head.scales[other], logits[n : n + 4, other])
    for n in range(whole, len(x)):
        for row in range(first, last, 4):
            row_b, row_c = min(row + 1, last - 1), min(row + 2, last - 1)
            row_d = min(row + 3, last - 1)
            at_a, at_b = 3 * width * row, 3 * width * row_b
            at_c, at_d = 3 * width * row_c, 3 * width * row_d
            a = b = c = d = no_floats(like)
            for i in range(0, width, 16):
                given = load_numbers(x[n], i)
                a = add_product(a, load_integers(codes, at_a + 3 * i, like), given)
                b = add_product(b, load_integers(codes, at_b + 3 * i, like), given)
                c = add_product(c, load_integers(codes, at_c + 3 * i, like), given)
                d = add_product(d, load_integers(codes, at_d + 3 * i, like), given)
            found = totals_of(a, b, c, d)
            out, scales = logits[n], head.scales
            out[row_d] = (found[3] + found[7]) * scales[row_d]
            out[row_c] = (found[2] + found[6]) * scales[row_c]
            out[row_b] = (found[1] + found[5]) * scales[row_b]
            out[row] = (found[0] + found[4]) * scales[row]


@no_type_check
@compiled
def multiply_rows_by_four(row, other, x, out, other_out):
    """Write the products of two rows with each of four vectors."""
    a, b, c, d = x[0], x[1], x[2], x[3]
    sum_a = sum_b = sum_c = sum_d = other_a = other_b = other_c = other_d = x.dtype.type(0)
    for i in range(len(row)):
        sum_a += row[i] * a[i]
        sum_b += row[i] * b[i]
        sum_c += row[i] * c[i]
        sum_d += row[i] * d[i]
        other_a += other[i] * a[i]
        other_b += other[i] * b[i]
        other_c += other[i] * c[i]
        other_d += other[i] * d[i]
    out[0], out[1], out[2], out[3] = sum_a, sum_b, sum_c, sum_d
    other_out[0], other_out[1], other_out[2], other_out[3] = other_a, other_b, other_c, other_d


@no_type_check
@compiled
def multiply_head(head, first, last, x, logits):
    """Write rows `first` to `last` of the head times the final states, four texts at a time."""
    whole = len(x) // 4 * 4
    for row in range(first, last if whole else first, 2):
        other = min(row + 1, last - 1)
        for n in range(0, whole, 4):
            outs = logits[n : n + 4, row], logits[n : n + 4, other]
            multiply_rows_by_four(head[row], head[other], x[n : n + 4], *outs)
    for n in range(whole, len(x)):
        multiply_rows(head[first:last], x[n], logits[n, first:last])
