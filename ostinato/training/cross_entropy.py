"""Compute the loss of next tokens in parts, without a copy of all logits in fp32.

With a large vocabulary the logits are by far the largest tensor. Softmax, loss and gradient of a
part are computed while it is in the cache, which takes a third of the time on a CPU.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ostinato.data.text.token_set import IGNORE_LABEL

CPU_NUMBERS, NUMBERS = 2**18, 2**26
"""Logits in a part: what the cache of a CPU holds, and where launches cost more than memory."""


def parts_of(logits: Float[Tensor, "tokens vocab"]) -> Iterator[slice]:
    """Yield the rows of each part."""
    numbers = CPU_NUMBERS if logits.device.type == "cpu" else NUMBERS
    rows = max(1, numbers // logits.shape[1])
    for start in range(0, len(logits), rows):
        yield slice(start, start + rows)


def widened(logits: Tensor) -> Tensor:
    """Return them in fp32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class CrossEntropies(torch.autograd.Function):
    """See `cross_entropies`."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        targets = labels.clamp_min(0)[:, None]
        totals, chosen = [], []
        for part in parts_of(logits):
            wide = widened(logits[part])
            totals.append(wide.logsumexp(-1))
            chosen.append(wide.gather(1, targets[part])[:, 0])
        total = torch.cat(totals)
        ctx.save_for_backward(logits, labels, total)
        return torch.where(labels == IGNORE_LABEL, 0, total - torch.cat(chosen))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        logits, labels, total = ctx.saved_tensors
        gradient = torch.where(labels == IGNORE_LABEL, 0, gradient)[:, None]
        targets, found = labels.clamp_min(0)[:, None], torch.empty_like(logits)
        for part in parts_of(logits):
            chances = (widened(logits[part]) - total[part, None]).exp_()
            one = chances.new_ones(()).expand(len(chances), 1)
            found[part] = chances.scatter_add_(1, targets[part], -one).mul_(gradient[part])
        return found, None


def cross_entropies(
    logits: Float[Tensor, "tokens vocab"], labels: Int[Tensor, " tokens"]
) -> Float[Tensor, " tokens"]:
    """Return the loss of every token in nats, in fp32 at least; 0 where it is IGNORE_LABEL."""
    return CrossEntropies.apply(logits, labels)  # pyright: ignore[reportReturnType]


@torch.no_grad()
def likeliest_is(
    logits: Float[Tensor, "tokens vocab"], tokens: Int[Tensor, " tokens"]
) -> Bool[Tensor, " tokens"]:
    """Return where the likeliest token is this one."""
    found = [widened(logits[part]).max(-1).indices for part in parts_of(logits)]
    return torch.cat(found) == tokens
