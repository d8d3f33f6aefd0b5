"""Looped language models (Ouro): passes, exit probabilities and the losses of both stages."""

import torch
from torch import Tensor

from ostinato.layers import log_exit_probabilities
from ostinato.models import NanoChat, NanoChatConfig
from ostinato.training.loops import EveryPass, Passes, stage_one, stage_two, token_losses
from ostinato.verify import reference_text
from ostinato.verify.check import apart, check
from ostinato.verify.specimens import exact_tables

TITLE = "Loops"
CONFIG = NanoChatConfig(
    vocab_size=11,
    seq_len=9,
    hidden_size=8,
    num_layers=2,
    num_heads=2,
    num_streams=1,
    ternary=False,
    group_size=0,
    sandwich_norm=True,
    tied_head=False,
    num_loops=4,
    forward_dtype="float64",
)


def passes() -> tuple[Passes, list[Tensor], list[Tensor], Tensor]:
    """Return our passes, the reference's logits and exits, and the tokens that they read."""
    generator = torch.Generator().manual_seed(0)
    model = NanoChat(CONFIG).double()
    exact_tables(model.rotary, CONFIG.rope_theta)
    weights = {}
    for name, weight in model.named_parameters():
        weight.data = torch.randn(weight.shape, generator=generator, dtype=torch.float64) / 2
        weights[name] = weight.detach()
    tokens = torch.randint(CONFIG.vocab_size, (3, CONFIG.seq_len + 1), generator=generator)
    with torch.no_grad():
        ours = EveryPass(model)(tokens[:, :-1])
    return ours, *reference_text.logits(weights, CONFIG, tokens[:, :-1]), tokens


@check("Looped blocks", "003", "the same blocks T times, the final norm after each pass", 1e-9)
def blocks() -> float:
    """Logits and exit logits of every pass, random weights, against float64."""
    ours, logits, exits, _ = passes()
    return max(apart(ours.logits, torch.stack(logits)), apart(ours.exits, torch.stack(exits)))


@check("Exit probabilities", "003", "p_t = λ_t Π (1 - λ_s), the last pass takes the rest", 1e-12)
def exits() -> float:
    """Random gates, token by token, against float64."""
    ours, _, _, _ = passes()
    return apart(log_exit_probabilities(ours.exits).exp(), reference_text.exit_shares(ours.exits))


@check("Stage I loss", "003", "Σ p_t L_t - β H(p), β 0.1", 1e-9)
def first_stage() -> float:
    """Summed over random texts, against float64."""
    ours, _, _, tokens = passes()
    losses = token_losses(ours.logits, tokens[:, 1:])
    expected = reference_text.stage_one(ours.logits, ours.exits, tokens[:, 1:], 0.1)
    return apart(stage_one(losses, ours.exits, 0.1), expected)


@check("Stage II loss", "003", "cross-entropy of 1 - λ_t and σ(50 (I_t - 0.005)), t from 2", 1e-9)
def second_stage() -> float:
    """Summed over random texts, against float64."""
    ours, _, _, tokens = passes()
    losses = token_losses(ours.logits, tokens[:, 1:])
    expected = reference_text.stage_two(ours.logits, ours.exits, tokens[:, 1:])
    return apart(stage_two(losses, ours.exits), expected)
