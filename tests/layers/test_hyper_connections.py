"""Connections against their formulas written as loops, and the properties they promise."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ostinato.layers import HyperConnection
from ostinato.layers.hyper_connections import Mode, collapse, divergence, gain

MODES: tuple[Mode, ...] = ("static", "dynamic", "legacy")
DIM = 6


def connection(n: int, mode: Mode, index: int = 0) -> HyperConnection:
    made = HyperConnection(DIM, n, mode, index)
    made.reset_parameters()
    return made.double()


def randomized(made: HyperConnection, seed: int, size: float = 1.0) -> HyperConnection:
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            noise = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
            parameter.copy_(size * noise)
    return made


def streams(n: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, n, DIM, generator=rng, dtype=torch.float64)


def branch(x: Tensor) -> Tensor:
    return torch.tanh(x) * torch.arange(1, DIM + 1)


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("mode", MODES)
def test_is_the_formula(n: int, mode: Mode):
    made = randomized(connection(n, mode), seed=1)
    s = streams(n)
    got = made(s, branch)
    for b, t in itertools.product(range(2), range(3)):
        flat = s[b, t].flatten()
        pre, post, mix = made.pre.bias, made.post.bias, made.permutations.bias
        if mode == "dynamic":
            assert made.norm is not None
            normed = flat / (flat.square().mean() + made.norm.eps).sqrt() * made.norm.weight
            parts = (made.pre, made.post, made.permutations)
            pre, post, mix = (p.bias + p.gain * (p.map @ normed) for p in parts)  # pyright: ignore
        h_pre = 1 / (1 + (-pre).exp())
        h_post = (n if mode == "legacy" else 2) / (1 + (-post).exp())
        weights = mix.exp() / mix.exp().sum()
        matrix = torch.zeros(n, n, dtype=torch.float64)
        for weight, order in zip(weights, itertools.permutations(range(n)), strict=True):
            for row, column in enumerate(order):
                matrix[row, column] += weight
        y = branch(sum(h_pre[i] * s[b, t, i] for i in range(n)))  # pyright: ignore
        for new in range(n):
            if mode == "dynamic":
                wanted = sum(matrix[old, new] * s[b, t, old] for old in range(n)) + h_post[new] * y
            else:
                wanted = sum(matrix[k, new] * (s[b, t, k] + h_post[k] * y) for k in range(n))
            torch.testing.assert_close(got[b, t, new], wanted)


@given(
    n=st.sampled_from([2, 4]),
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 10_000),
    size=st.sampled_from([0.1, 1.0, 10.0, 100.0]),
)
def test_mixing_is_doubly_stochastic(n: int, mode: Mode, seed: int, size: float):
    made = randomized(connection(n, mode), seed, size).float()
    mixing = made.mixing(streams(n, seed).float())
    assert mixing.matrix.min() >= 0
    for axis in (-1, -2):
        assert (mixing.matrix.sum(axis) - 1).abs().max() <= 1e-6
    assert (mixing.pre.min() >= 0) and (mixing.post.min() >= 0)


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("mode", MODES)
@given(seed=st.integers(0, 1000))
def test_nothing_grows_through_24_layers(n: int, mode: Mode, seed: int):
    product = torch.eye(n)
    for layer in range(24):
        made = randomized(connection(n, mode), 100 * seed + layer, 3.0).float()
        product = product @ made.mixing(streams(n, seed).float()).matrix
    assert gain(product) <= 1 + 1e-5


def run(mode: Mode, n: int, depth: int) -> tuple[list[HyperConnection], Tensor, Tensor]:
    """Start values, copies of one stream, `depth` sub-layers."""
    layers = [connection(n, mode, index) for index in range(depth)]
    s = streams(1).expand(-1, -1, n, -1)
    for layer in layers:
        s = layer(s, branch)
    return layers, s, collapse(s, mode)


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_streams_part_at_the_start_values(n: int, mode: Mode):
    # An odd depth: after an even one, two streams have been written to alike
    assert divergence(run(mode, n, depth=3)[1]) > 0.05


@pytest.mark.parametrize(
    ("mode", "n", "identity"),
    [
        ("static", 2, 0.95),
        ("static", 4, 0.95),
        ("dynamic", 2, 1 / (1 + math.exp(-8))),
        ("dynamic", 4, 1 / (1 + 23 * math.exp(-8))),
        ("legacy", 2, 0.5),
        ("legacy", 4, 1 / (1 + 23 * math.exp(-10))),
    ],
)
def test_weights_of_the_permutations_at_the_start(mode: Mode, n: int, identity: float):
    """Check `legacy` with two streams: it mixes them in equal parts, where the identity copies."""
    weights = connection(n, mode).mixing(streams(n)).permutations.reshape(-1, math.factorial(n))
    rest = (1 - identity) / (weights.shape[1] - 1)
    wanted = torch.tensor([identity] + [rest] * (weights.shape[1] - 1)).expand(len(weights), -1)
    torch.testing.assert_close(weights, wanted.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("n", [2, 4])
def test_legacy_start_is_inert(n: int):
    layers, s, out = run("legacy", n, depth=4)
    assert divergence(s) < 1e-7
    (out * torch.randn(out.shape, dtype=torch.float64)).sum().backward()
    for layer in layers:
        assert layer.permutations.bias.grad is not None
        assert layer.permutations.bias.grad.abs().max() < 1e-12
    # Neither the mixing nor the order of the update has any effect
    for layer in layers:
        torch.nn.init.normal_(layer.permutations.bias)
    again = streams(1).expand(-1, -1, n, -1)
    for layer in layers:
        again = layer(again, branch)
    torch.testing.assert_close(again, s, rtol=1e-12, atol=1e-12)


def test_collapse_is_sum_or_mean():
    s = streams(4)
    assert torch.equal(collapse(s, "static"), s.sum(2))
    assert torch.equal(collapse(s, "dynamic"), s.sum(2))
    assert torch.equal(collapse(s, "legacy"), s.mean(2))


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("index", [0, 1, 7])
def test_reading_and_writing_at_the_start(n: int, index: int):
    """Check the starts that no recording holds; those of `dynamic` are recorded."""
    legacy, static = (
        connection(n, mode, index).mixing(streams(n)) for mode in ("legacy", "static")
    )
    equal = torch.full((n,), 0.5, dtype=torch.float64).sigmoid()
    torch.testing.assert_close(legacy.pre, equal)
    torch.testing.assert_close(legacy.post, n * equal)

    bias = torch.tensor([1.0 if stream == index % n else -1.0 for stream in range(n)])
    torch.testing.assert_close(static.pre, bias.double().sigmoid())
    torch.testing.assert_close(static.post, 2 * bias.double().sigmoid())
