"""The losses of a looped language model (Ouro, arXiv 2510.25741, sections 3.2 and 3.3).

L_t    cross-entropy of the next token after pass t
λ_t    the gate's chance to leave after pass t;  p_t = λ_t Π_{s<t} (1 - λ_s)

Stage I trains everything:     Σ_t p_t L_t - β H(p)
Stage II trains the gate:      binary cross-entropy of 1 - λ_t and w_t, for t = 2 … T, with
                               w_t = σ(50 (I_t - 0.005)) and I_t = max(0, L_{t-1} - L_t)
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ostinato.data.text.token_set import IGNORE_LABEL
from ostinato.layers import log_exit_probabilities
from ostinato.models import NanoChat
from ostinato.training.cross_entropy import cross_entropies

SLOPE, LEAST_IMPROVEMENT = 50.0, 0.005
"""An improvement of the loss above the least, in nats, is worth another pass."""


class Passes(NamedTuple):
    """Hold the outputs after every pass."""

    logits: Float[Tensor, "passes batch seq vocab"]
    exits: Float[Tensor, "passes batch seq"]
    """Logits of the exit gate."""


class EveryPass(nn.Module):
    """Run a looped model, and return the outputs after every pass: DDP needs them of a forward."""

    def __init__(self, model: NanoChat):
        super().__init__()
        self.model = model

    def forward(self, tokens: Int[Tensor, "batch seq"], gate_only: bool = False) -> Passes:
        """Return the outputs; with `gate_only`, only the gate gets a gradient."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not gate_only):
            states = torch.stack(list(self.model.states(tokens)))
            logits = torch.stack([self.model.read_out(state) for state in states])
        return Passes(logits, torch.stack([self.model.exit_logits(state) for state in states]))


def token_losses(
    logits: Float[Tensor, "passes batch seq vocab"],
    labels: Int[Tensor, "batch seq"],
    label_smoothing: float = 0.0,
) -> Float[Tensor, "passes batch seq"]:
    """Return L_t of every token, in fp32 at least; 0 where the label is IGNORE_LABEL."""
    every = labels.expand(len(logits), *labels.shape)
    if not label_smoothing:
        return cross_entropies(logits.flatten(0, 2), every.flatten()).view(every.shape)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = F.cross_entropy(
        wide.flatten(0, 2), every.flatten(), reduction="none", label_smoothing=label_smoothing
    )
    return losses.view(every.shape)


def stage_one(
    losses: Float[Tensor, "passes *tokens"],
    exits: Float[Tensor, "passes *tokens"],
    entropy_weight: float,
) -> Float[Tensor, ""]:
    """Return the sum over tokens of Σ_t p_t L_t - β H(p)."""
    log_p = log_exit_probabilities(exits)
    return (log_p.exp() * (losses + entropy_weight * log_p)).sum()


def stage_two(
    losses: Float[Tensor, "passes *tokens"], exits: Float[Tensor, "passes *tokens"]
) -> Float[Tensor, ""]:
    """Return the gate's loss: a sum over tokens, the mean over passes from the second one on."""
    improvement = (losses[:-1] - losses[1:]).clamp(min=0).detach()
    stay = (SLOPE * (improvement - LEAST_IMPROVEMENT)).sigmoid()
    found = F.binary_cross_entropy_with_logits(-exits[1:].to(stay.dtype), stay, reduction="none")
    return found.mean(0).sum()


def looped_loss(
    passes: Passes,
    inputs: Int[Tensor, "batch seq"],
    labels: Int[Tensor, "batch seq"],
    entropy_weight: float,
    label_smoothing: float,
    gate_only: bool,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Return the loss, a sum over labelled positions in nats, and metrics, which are sums too.

    Cross-entropy and copies are those of the last pass.
    """
    counted = labels != IGNORE_LABEL
    exits = passes.exits[:, counted]
    plain = token_losses(passes.logits, labels)[:, counted]
    if gate_only:
        loss = stage_two(plain, exits)
    else:
        losses = plain
        if label_smoothing:
            losses = token_losses(passes.logits, labels, label_smoothing)[:, counted]
        loss = stage_one(losses, exits, entropy_weight)
    log_p = log_exit_probabilities(exits.detach())
    numbers = torch.arange(1, len(log_p) + 1, device=log_p.device, dtype=log_p.dtype)
    return loss, {
        "loss": loss.detach(),
        "cross_entropy": plain[-1].detach().sum(),
        "copied": (counted & (passes.logits[-1].argmax(-1) == inputs)).sum(),
        "tokens": counted.sum(),
        "exit_pass": (numbers @ log_p.exp()).sum(),
        "exit_entropy": -(log_p.exp() * log_p).sum(),
    }
