"""The ternary layer against its definition written out, and packed against unpacked."""

from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from ostinato.layers.ternary import (
    FEW_ROWS,
    TernaryLinear,
    quantize_activations,
    round_half_away,
    ternarize,
)


def layer(
    group_size: int,
    seed: int = 0,
    inputs: int = 48,
    outputs: int = 10,
    activation_group_size: int = 0,
) -> TernaryLinear:
    rng = torch.Generator().manual_seed(seed)
    made = TernaryLinear(inputs, outputs, group_size, activation_group_size=activation_group_size)
    torch.nn.init.normal_(made.weight, std=0.02, generator=rng)
    # Rows and groups of different sizes, so that a scale in the wrong place shows
    with torch.no_grad():
        made.weight *= torch.rand(outputs, 1, generator=rng) + 0.5
        made.weight *= torch.rand(1, inputs, generator=rng) + 0.5
    return made


@given(st.floats(-300, 300, width=32))
def test_rounds_halves_away_from_zero(x: float):
    wanted = Decimal(x).quantize(Decimal(1), rounding=ROUND_HALF_UP)  # of magnitudes, in decimal
    assert round_half_away(torch.tensor([x])).item() == float(wanted)


@pytest.mark.parametrize(("x", "wanted"), [(0.5, 1), (-2.5, -3), (0.49999997, 0), (1.5, 2)])
def test_rounds_the_hard_cases(x: float, wanted: float):
    assert round_half_away(torch.tensor([x])).item() == wanted


@pytest.mark.parametrize("group_size", [8, 16, 48, 0])
def test_ternarize_is_the_absolute_mean_of_each_group(group_size: int):
    weight = layer(group_size).weight.detach()
    codes, scales = ternarize(weight, group_size)
    for row in range(len(weight)):
        for column in range(weight.shape[1]):
            if group_size:
                first = column // group_size * group_size
                scale = weight[row, first : first + group_size].abs().mean()
                assert torch.isclose(scales[row, column // group_size], scale)
            else:
                scale = weight.abs().mean()
                assert torch.isclose(scales[0, 0], scale)
            nearest = float(np.clip(np.round((weight[row, column] / scale).item()), -1, 1))
            assert codes[row, column].item() == nearest
    assert torch.equal(ternarize(weight, group_size).weight().sign(), codes.to(torch.float32))


def test_both_quantisers_round_halves_away_from_zero():
    """Their scales are exactly 1 here."""
    weight = torch.tensor([[0.5, -0.5, 2.5, -0.5, 1.0, 1.0, 1.0, 1.0]])
    codes, scales = ternarize(weight, 8)
    assert scales.item() == 1 and codes.tolist() == [[1, -1, 1, -1, 1, 1, 1, 1]]
    integers, scales = quantize_activations(torch.tensor([[127.0, 0.5, -0.5, 2.5, -4.5]]))
    assert scales.item() == 1 and integers.tolist() == [[127, 1, -1, 3, -5]]


@pytest.mark.parametrize(("size", "kept"), [(1e-7, 1e-7), (1e-9, 1e-8)])
def test_a_scale_is_at_least_that_of_the_definition(size: float, kept: float):
    x = torch.full((1, 8), size)
    assert ternarize(x, 8).scales.item() == pytest.approx(kept)
    assert quantize_activations(x).scales.item() == pytest.approx(kept / 127)


def test_an_empty_group_is_harmless():
    codes, scales = ternarize(torch.zeros(2, 8), 4)
    assert codes.abs().max() == 0
    assert scales.min() > 0
    assert torch.isfinite(quantize_activations(torch.zeros(3, 8)).integers).all()


@given(st.integers(0, 1000))
def test_activations_are_near_and_reach_the_ends(seed: int):
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(seed))
    integers, scale = quantize_activations(x)
    assert (integers.abs().amax(-1) == 127).all()
    assert torch.equal(integers, integers.trunc())
    assert ((integers * scale - x).abs() <= scale * (0.5 + 1e-5)).all()


@given(st.integers(0, 1000), st.sampled_from([2, 8, 16]))
def test_groups_of_activations_are_quantised_by_themselves(seed: int, size: int):
    x = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(seed))
    grouped = quantize_activations(x, size)
    assert grouped.scales.shape == (3, 5, 16 // size)
    for first in range(0, 16, size):
        part = slice(first, first + size)
        alone = quantize_activations(x[..., part])
        assert torch.equal(grouped.integers[..., part], alone.integers)
        assert torch.equal(grouped.values()[..., part], alone.values())


@pytest.mark.parametrize(("group_size", "activations"), [(8, 0), (0, 0), (8, 16), (0, 4)])
def test_gradients_go_straight_through(group_size: int, activations: int):
    ternary = layer(group_size, activation_group_size=activations)
    x = torch.randn(6, 48, requires_grad=True)
    out = ternary(x)
    cotangent = torch.randn_like(out)
    out.backward(cotangent)
    read = quantize_activations(x.detach(), activations).values()
    used = ternary.ternary().weight()
    assert torch.equal(out, F.linear(read, used))
    assert x.grad is not None and ternary.weight.grad is not None
    torch.testing.assert_close(x.grad, cotangent @ used)
    torch.testing.assert_close(ternary.weight.grad, cotangent.T @ read)


@pytest.mark.parametrize(
    ("group_size", "activations"), [(8, 0), (48, 0), (0, 0), (8, 24), (24, 16), (48, 6), (0, 12)]
)
@pytest.mark.parametrize("quantize", [True, False])
def test_packed_is_the_same_layer(group_size: int, activations: int, quantize: bool):
    ternary = layer(group_size, activation_group_size=activations)
    ternary.quantize_activations = quantize
    packed = ternary.pack()
    many = torch.randn(2, FEW_ROWS, 48)
    assert torch.equal(packed(many), ternary(many))
    few = many[:1, :2]
    wanted = ternary(few)
    assert (packed(few) - wanted).abs().max() <= 1e-6 * wanted.abs().max()


@pytest.mark.parametrize(
    ("group_size", "activations"), [(8, 0), (48, 0), (0, 0), (8, 24), (24, 16), (0, 12)]
)
def test_the_product_of_integers_is_exact(group_size: int, activations: int):
    packed = layer(group_size, activation_group_size=activations).pack().double()
    x = torch.randn(3, 48, dtype=torch.float64)
    codes, scales = packed.ternary()
    integers, activation_scales = quantize_activations(x, activations)
    weights = codes.numpy().astype(np.float64) * scales.numpy().repeat(48 // scales.shape[1], 1)
    read = integers.numpy() * activation_scales.numpy().repeat(48 // activation_scales.shape[1], 1)
    wanted = read @ weights.T
    np.testing.assert_allclose(packed.integer_product(x).numpy(), wanted, rtol=1e-12, atol=1e-14)


def test_groups_must_fill_the_inputs():
    with pytest.raises(ValueError, match="do not fill groups of 32"):
        TernaryLinear(48, 8, 32)
    with pytest.raises(ValueError, match="do not fill groups of 32"):
        TernaryLinear(48, 8, 16, activation_group_size=32)
