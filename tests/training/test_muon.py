"""Muon: the bits of `torch.optim.Muon` in bfloat16, and the same mathematics in float32."""

import copy
from typing import Literal

import pytest
import torch
from torch.optim import Optimizer

from ostinato.training.optimizers import Muon

SETTINGS = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1, "ns_steps": 4}
SHAPES = [(8, 8), (6, 12), (12, 6)]
Scale = Literal["original", "match_rms_adamw"]


def start() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def update(optimizer: Optimizer, weights: list[torch.nn.Parameter], steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
def test_in_bfloat16_it_has_the_bits_of_torch_and_takes_its_state(scale: Scale):
    theirs, ours = start(), start()
    torch_muon = torch.optim.Muon(theirs, **SETTINGS, adjust_lr_fn=scale)
    update(torch_muon, theirs, range(3))
    muon = Muon(ours, torch.bfloat16, **SETTINGS, adjust_lr_fn=scale)
    update(muon, ours, range(3))
    assert all(map(torch.equal, theirs, ours))

    resumed = Muon(ours, torch.bfloat16, **SETTINGS, adjust_lr_fn=scale)
    resumed.load_state_dict(copy.deepcopy(torch_muon.state_dict()))
    update(torch_muon, theirs, range(3, 6))
    update(resumed, ours, range(3, 6))
    assert all(map(torch.equal, theirs, ours))


@pytest.mark.parametrize(("scale", "factor"), [("original", 2**0.5), ("match_rms_adamw", 0.69282)])
def test_in_float32_it_moves_the_singular_values_by_the_polynomial(scale: Scale, factor: float):
    weight = start()[2]
    before = weight.detach().double()
    update(Muon([weight], torch.float32, **SETTINGS, adjust_lr_fn=scale), [weight], range(1))
    assert weight.grad is not None
    left, values, right = torch.linalg.svd(weight.grad.double(), False)
    values = values / values.norm()
    for _ in range(4):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    expected = before * (1 - 0.02 * 0.1) - 0.02 * factor * left @ values.diag() @ right
    torch.testing.assert_close(weight.detach().double(), expected, rtol=0, atol=1e-6)
