"""Is the file that was written the model? It is read back, and both are run on the same text."""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ostinato.layers import PackedTernaryLinear
from ostinato.models.nanochat import NanoChat

TOLERANCE = 1e-4
"""Of logits, relative to the largest: what rounding in fp32 may do."""
LOOSE_TOLERANCE = 0.02
"""The same where the form rounds scales to f16: int8 activations that lie between two integers
then go the other way, which moves a logit much further than the rounding itself."""


@dataclass(frozen=True)
class Agreement:
    """Largest differences of logits, relative to the largest logit."""

    tokens: int
    error: float
    """Of the file and the model."""
    beside_form: float
    """Of the file and what its form can hold of the model; `error` if that is all of it."""

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
    """Compare what was written, and read back, with the model.

    `expected` is what the file should hold exactly if its form cannot hold all of the model, to
    which `LOOSE_TOLERANCE` is allowed then. Raises ValueError beyond a tolerance.
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
    """Largest difference of logits, relative to the largest."""
    wanted = other(tokens).float()
    return ((one(tokens).float() - wanted).abs().max() / wanted.abs().max()).item()


def with_half_scales(model: NanoChat) -> NanoChat:
    """The packed model with its scales rounded to f16."""
    rounded = copy.deepcopy(model.packed())
    for module in ternary_layers(rounded):
        module.scales = module.scales.half().to(module.scales.dtype)
    return rounded


def without_activation_rounding(model: NanoChat) -> NanoChat:
    """The packed model with activations as they are, so that small causes have small effects."""
    smooth = copy.deepcopy(model.packed())
    for module in ternary_layers(smooth):
        module.quantize_activations = False
    return smooth


def ternary_layers(model: NanoChat) -> list[PackedTernaryLinear]:
    """Those of a packed model."""
    return [module for module in model.modules() if isinstance(module, PackedTernaryLinear)]
