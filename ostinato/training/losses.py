"""Compute the loss of one supervision step, and the metrics that are logged of it."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ostinato.data.batches import IGNORE_LABEL
from ostinato.models import Output
from ostinato.training.slots import Slots

LossType = Literal["stablemax_cross_entropy", "softmax_cross_entropy"]


def stablemax(x: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch classes"]:
    """Return stablemax, s(x)/Σs with s(x) = x + 1 for x ≥ 0, else 1/(1 - x): no exponentials.

    Each branch is clamped to its own side before it is used. In fp32 the unselected 1/(1 - x) is
    otherwise infinite at x = 1, and 0·inf makes its gradient NaN; the originals use float64.

    Source: Prieto et al. 2025, "Grokking at the edge of numerical stability" (arXiv 2501.04697).
    """
    s = torch.where(x < 0, 1 / (1 - x.clamp(max=0)), x.clamp(min=0) + 1)
    return s / s.sum(-1, keepdim=True)


def token_losses(
    logits: Float[Tensor, "batch seq vocab"],
    labels: Int[Tensor, "batch seq"],
    loss_type: LossType,
    label_smoothing: float = 0.0,
) -> Float[Tensor, "batch seq"]:
    """Return -log p(label) at each position, in fp32 at least; 0 where the label is ignored."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    valid = labels != IGNORE_LABEL
    if loss_type == "softmax_cross_entropy":
        log_p = F.log_softmax(logits, dim=-1)
    else:
        log_p = stablemax(logits).log()
    target = torch.where(valid, labels, 0).long()
    loss = -log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(-1)
    return torch.where(valid, loss, 0)


def right_answers(
    logits: Float[Tensor, "batch seq vocab"], labels: Int[Tensor, "batch seq"]
) -> tuple[Bool[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return per row whether all valid tokens are right (true if none is valid), and their
    share."""
    valid = labels != IGNORE_LABEL
    right = (logits.argmax(-1) == labels) & valid
    count = valid.sum(-1)
    return right.sum(-1) == count, right.sum(-1) / count.clamp(min=1)


def act_loss(
    output: Output,
    slots: Slots,
    loss_type: LossType = "stablemax_cross_entropy",
    target_q_continue: Float[Tensor, " batch"] | None = None,
    label_smoothing: float = 0.0,
    q_weight: float = 0.5,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """Return the loss, summed over the batch: lm loss + q_weight · (q_halt loss + q_continue loss).

    `slots` are those after the step. Every slot contributes, halted or not; a sequence's token
    losses are divided by its number of valid labels, so long and short ones weigh the same.

    The metrics are sums too. Those named `halted_…` cover only the slots that halted at this step
    and have a valid label, `halted_count` of them: they describe training and are no test accuracy.
    With small batches they are far too high, because several updates have seen the same puzzle.
    """
    labels = slots.labels
    valid_count = (labels != IGNORE_LABEL).sum(-1)
    exact, accuracy = right_answers(output.logits, labels)

    losses = token_losses(output.logits, labels, loss_type, label_smoothing)
    lm_loss = (losses.sum(-1) / valid_count.clamp(min=1)).sum()
    q_halt_loss = F.binary_cross_entropy_with_logits(
        output.q_halt, exact.to(output.q_halt.dtype), reduction="sum"
    )
    loss = lm_loss + q_weight * q_halt_loss

    halted = slots.halted & (valid_count > 0)
    metrics = {
        "lm_loss": lm_loss,
        "q_halt_loss": q_halt_loss,
        "halted_count": halted.sum(),
        "halted_accuracy": torch.where(halted, accuracy, 0).sum(),
        "halted_exact_accuracy": (halted & exact).sum(),
        "halted_q_halt_accuracy": (halted & ((output.q_halt >= 0) == exact)).sum(),
        "halted_steps": torch.where(halted, slots.steps, 0).sum(),
    }
    if target_q_continue is not None:
        assert output.q_continue is not None
        q_continue_loss = F.binary_cross_entropy_with_logits(
            output.q_continue, target_q_continue, reduction="sum"
        )
        loss = loss + q_weight * q_continue_loss
        metrics["q_continue_loss"] = q_continue_loss
    return loss, {name: value.detach() for name, value in metrics.items()}
