"""Muon with a choice of the dtype of its iteration: bfloat16 is very slow on many CPUs."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ostinato.models.dtypes import choose_dtype
from ostinato.training.config import LoopConfig


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with Nesterov momentum, orthogonalising in `dtype`.

        m ← lerp(m, g, 1 - μ);  o ← newton_schulz(lerp(g, m, μ))
        θ ← θ(1 - lr·wd) - lr·scale·o

    With bfloat16 it gives the same bits as `torch.optim.Muon`, which knows no other dtype.

    Source: https://kellerjordan.github.io/posts/muon/
    """

    def __init__(self, params: Iterable[nn.Parameter], dtype: torch.dtype, **settings: Any):
        super().__init__(params, **settings)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        assert closure is None
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                if not self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p.grad)
                m = self.state[p]["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(m, group["momentum"]).to(self.dtype)
                if p.shape[0] > p.shape[1]:
                    update = newton_schulz(update.T, group).T
                else:
                    update = newton_schulz(update, group)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * scale(p.shape, group["adjust_lr_fn"]))


def newton_schulz(
    x: Float[Tensor, "least most"], settings: dict[str, Any]
) -> Float[Tensor, "least most"]:
    """Return about UVᵀ of x = USVᵀ, with singular values near 1: x ← ax + (bxxᵀ + c(xxᵀ)²)x."""
    a, b, c = settings["ns_coefficients"]
    x = x / x.norm().clamp(min=settings["eps"])  # the largest singular value is 1 at most
    for _ in range(settings["ns_steps"]):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def scale(shape: torch.Size, rule: str) -> float:
    """Return the size of a step of unit learning rate: see `muon_scale` in `LoopConfig`."""
    rows, columns = shape
    if rule == "original":
        return math.sqrt(max(1, rows / columns))
    assert rule == "match_rms_adamw"
    return 0.2 * math.sqrt(max(rows, columns))


def make_muon(matrices: list[nn.Parameter], config: LoopConfig) -> Muon:
    """Return Muon with the settings of a run; an "auto" dtype is the device's."""
    return Muon(
        matrices,
        getattr(torch, choose_dtype(config.muon_dtype, matrices[0].device)),
        lr=config.muon_lr,
        momentum=config.muon_momentum,
        weight_decay=config.muon_weight_decay,
        ns_steps=config.muon_ns_steps,
        adjust_lr_fn=config.muon_scale,
    )
