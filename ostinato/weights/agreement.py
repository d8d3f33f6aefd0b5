"""Check a written file: read it back, and compare its logits with the model's on the same text."""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ostinato.layers import PackedTernaryLinear
from ostinato.models.nanochat import NanoChat

TOLERANCE = 1e-4
"""Largest accepted error of the logits, relative to the largest logit: fp32 rounding only."""
LOOSE_TOLERANCE = 0.02
"""The same for forms that round scales to f16. Some int8 activations then round the other way,
which moves a logit much further than the rounding of the scales itself."""


@dataclass(frozen=True)
class Agreement:
    """Hold the largest differences of the logits, relative to the largest logit."""

    tokens: int
    error: float
    """Error of the file against the model."""
    beside_form: float
    """Error of the file against the part of the model that its form can hold; equals `error` if the
    form can hold all of it."""

    def __str__(self) -> str:
        text = f"largest logit error {self.error:.1e} on {self.tokens} tokens"
        if self.beside_form != self.error:
            text += f" ({self.beside_form:.1e} beside what the form itself costs)"
        return text


def check(
    written: NanoChat,
    model: NanoChat,
    tokens: Int[Tensor, "1 seq"],
    expected: NanoChat | None = None,
) -> Agreement:
    """Compare a model that was written and read back with the original.

    If the form cannot hold all of the model, pass what the file should hold exactly as
    `expected`; the model itself is then compared with `LOOSE_TOLERANCE`. Raises ValueError beyond
    a tolerance.
    """
    error = logit_error(written, model, tokens)
    beside_form = error if expected is None else logit_error(written, expected, tokens)
    agreement = Agreement(tokens.shape[1], error, beside_form)
    if not beside_form <= TOLERANCE:  # true for NaN
        raise ValueError(f"the file is not the model: {agreement}, {TOLERANCE:g} is allowed")
    if expected is not None and not error <= LOOSE_TOLERANCE:
        raise ValueError(
            f"this form is too coarse for the model: {agreement}, {LOOSE_TOLERANCE:g} is allowed; "
            "ostinato-nanochat holds it exactly"
        )
    return agreement


@torch.no_grad()
def logit_error(one: NanoChat, other: NanoChat, tokens: Int[Tensor, "1 seq"]) -> float:
    """Return the largest difference of the logits, relative to the largest logit."""
    wanted = other(tokens).float()
    return ((one(tokens).float() - wanted).abs().max() / wanted.abs().max()).item()


def with_half_scales(model: NanoChat) -> NanoChat:
    """Return the packed model with its scales rounded to f16."""
    rounded = copy.deepcopy(model.packed())
    for module in ternary_layers(rounded):
        module.scales = module.scales.half().to(module.scales.dtype)
    return rounded


def without_activation_rounding(model: NanoChat) -> NanoChat:
    """Return the packed model without rounding of activations, so that small causes have small
    effects."""
    smooth = copy.deepcopy(model.packed())
    for module in ternary_layers(smooth):
        module.quantize_activations = False
    return smooth


def ternary_layers(model: NanoChat) -> list[PackedTernaryLinear]:
    """Return the ternary layers of a packed model."""
    return [module for module in model.modules() if isinstance(module, PackedTernaryLinear)]
