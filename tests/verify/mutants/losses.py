"""Wrong implementations that rows of "Loss" notice."""

from tests.verify.mutate import Mutant

MUTANTS = [
    Mutant(
        "softmax for stablemax",
        "training.losses:token_losses",
        {"stablemax(logits).log()": "F.log_softmax(logits, dim=-1)"},
        "Token loss",
    ),
    Mutant(
        "stablemax without clamping in fp32",
        "training.losses:stablemax",
        {"1 / (1 - x.clamp(max=0))": "1 / (1 - x + 1e-30)"},
        "Gradient of stablemax",
    ),
    Mutant(
        "stablemax of the absolute value",
        "training.losses:stablemax",
        {"1 / (1 - x.clamp(max=0))": "1 - x.clamp(max=0)"},
        "Stablemax",
    ),
    Mutant(
        "mean over all tokens of the batch",
        "training.losses:act_loss",
        {"valid_count.clamp(min=1)).sum()": "valid_count.sum() * len(labels)).sum()"},
        "Token loss",
    ),
    Mutant(
        "ignored labels not ignored",
        "training.losses:token_losses",
        {"torch.where(valid, loss, 0)": "loss"},
        "Token loss",
    ),
    Mutant(
        "loss on halted slots only",
        "training.losses:act_loss",
        {
            "    loss = lm_loss + q_weight * q_halt_loss": (
                "    lm_loss = (slots.halted * losses.sum(-1) / valid_count.clamp(min=1)).sum()\n"
                "    loss = lm_loss + q_weight * q_halt_loss"
            )
        },
        "Loss over all slots",
    ),
    Mutant(
        "q losses with weight 1",
        "training.losses:act_loss",
        {"q_weight: float = 0.5": "q_weight: float = 1.0"},
        "Loss over all slots",
    ),
    Mutant(
        "right only if every cell is, ignored ones too",
        "training.losses:right_answers",
        {"right.sum(-1) == count": "right.all(-1)"},
        "Target of q_halt",
    ),
    Mutant(
        "q_continue's loss as a mean",
        "training.losses:act_loss",
        {'target_q_continue, reduction="sum"': 'target_q_continue, reduction="mean"'},
        "Loss of q_continue",
    ),
    Mutant(
        "accuracies of all slots",
        "training.losses:act_loss",
        {"halted = slots.halted & (valid_count > 0)": "halted = valid_count > 0"},
        "Logged accuracies",
    ),
    Mutant(
        "accuracies of halted slots as means over all",
        "training.puzzles:mean_metrics",
        {"value / halted": "value / examples"},
        "Logged accuracies",
    ),
]
