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
DIVERGENCE = 0.01
"""Largest accepted divergence, in nats a token, for forms that round scales to f16: perplexity may
grow by 1 %. The largest logit error is no measure for them. An activation between two integers goes
the other way at the least cause, and what that moves grows with depth: in twelve layers of random
weights logits move by 2 % of the largest, as they do when scales change by a millionth, while the
divergence stays below 0.0001."""


@dataclass(frozen=True)
class Agreement:
    """Hold how far the predictions of a written file are from the model's."""

    tokens: int
    error: float
    """Largest error of the logits against the model, relative to the largest logit."""
    beside_form: float
    """The same against the part of the model that the form can hold; equals `error` if the form can
    hold all of it."""
    same: float
    """Share of tokens with the same likeliest next one."""
    divergence: float
    """Mean Kullback-Leibler divergence of the file's predictions from the model's, in nats."""

    def __str__(self) -> str:
        text = f"largest logit error {self.error:.1e} on {self.tokens} tokens"
        if self.beside_form != self.error:
            text += (
                f" ({self.beside_form:.1e} beside what the form itself costs), likeliest token the "
                f"same for {self.same:.1%}, divergence {self.divergence:.1e} nats"
            )
        return text


@torch.no_grad()
def check(
    written: NanoChat,
    model: NanoChat,
    tokens: Int[Tensor, "1 seq"],
    expected: NanoChat | None = None,
    divergence: float = DIVERGENCE,
) -> Agreement:
    """Compare a model that was written and read back with the original.

    If the form cannot hold all of the model, pass what the file should hold exactly as
    `expected`; the model itself is then compared by the divergence. Raises ValueError beyond a
    tolerance.
    """
    error = logit_error(written, model, tokens)
    beside_form = error if expected is None else logit_error(written, expected, tokens)
    theirs, ours = (m(tokens).double().log_softmax(-1) for m in (written, model))
    agreement = Agreement(
        tokens.shape[1],
        error,
        beside_form,
        (theirs.argmax(-1) == ours.argmax(-1)).double().mean().item(),
        (ours.exp() * (ours - theirs)).sum(-1).mean().item(),
    )
    if not beside_form <= TOLERANCE:  # true for NaN
        raise ValueError(f"the file is not the model: {agreement}, {TOLERANCE:g} is allowed")
    if expected is not None and not agreement.divergence <= divergence:
        raise ValueError(
            f"this form is too coarse for the model: {agreement}, {divergence:g} is allowed: raise "
            "--tolerance, or choose ostinato-nanochat, which holds it exactly"
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
