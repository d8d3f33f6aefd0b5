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


def layer(group_size: int, seed: int = 0, inputs: int = 48, outputs: int = 10) -> TernaryLinear:
    rng = torch.Generator().manual_seed(seed)
    made = TernaryLinear(inputs, outputs, group_size)
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


@pytest.mark.parametrize("group_size", [8, 0])
def test_gradients_go_straight_through(group_size: int):
    ternary = layer(group_size)
    x = torch.randn(6, 48, requires_grad=True)
    out = ternary(x)
    cotangent = torch.randn_like(out)
    out.backward(cotangent)
    integers, scale = quantize_activations(x.detach())
    used = ternary.ternary().weight()
    assert torch.equal(out, F.linear(integers * scale, used))
    assert x.grad is not None and ternary.weight.grad is not None
    torch.testing.assert_close(x.grad, cotangent @ used)
    torch.testing.assert_close(ternary.weight.grad, cotangent.T @ (integers * scale))


@pytest.mark.parametrize("group_size", [8, 48, 0])
@pytest.mark.parametrize("quantize", [True, False])
def test_packed_is_the_same_layer(group_size: int, quantize: bool):
    ternary = layer(group_size)
    ternary.quantize_activations = quantize
    packed = ternary.pack()
    many = torch.randn(2, FEW_ROWS, 48)
    assert torch.equal(packed(many), ternary(many))
    few = many[:1, :2]
    wanted = ternary(few)
    assert (packed(few) - wanted).abs().max() <= 1e-6 * wanted.abs().max()


@pytest.mark.parametrize("group_size", [8, 48, 0])
def test_the_product_of_integers_is_exact(group_size: int):
    packed = layer(group_size).pack().double()
    x = torch.randn(3, 48, dtype=torch.float64)
    integers, scale = quantize_activations(x)
    codes, scales = packed.ternary()
    groups = scales.shape[1]
    sums = np.einsum(
        "ogi,rgi->rog",
        codes.numpy().astype(np.int64).reshape(10, groups, -1),
        integers.numpy().astype(np.int64).reshape(3, groups, -1),
    )
    wanted = (sums * scales.numpy()).sum(-1) * scale.numpy()
    np.testing.assert_allclose(packed.integer_product(x).numpy(), wanted, rtol=1e-13)


def test_groups_must_fill_the_inputs():
    with pytest.raises(ValueError, match="do not fill groups of 32"):
        TernaryLinear(48, 8, 32)
