"""The distribution of exits of a looped model (Ouro, arXiv 2510.25741, section 3)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def log_exit_probabilities(
    logits: Float[Tensor, "passes *batch"],
) -> Float[Tensor, "passes *batch"]:
    """Return log p_t, with p_t = λ_t Π_{s<t} (1 - λ_s) and λ = σ(logits); the last takes the rest.

    The logit of the last pass is not used. Computed in fp32 at least.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nothing = torch.zeros_like(logits[:1])
    stayed = F.logsigmoid(-logits[:-1]).cumsum(0)
    return torch.cat([nothing, stayed]) + torch.cat([F.logsigmoid(logits[:-1]), nothing])


def exit_depths(shares: Float[Tensor, "passes *batch"], threshold: float) -> Int[Tensor, "*batch"]:
    """Return the pass, counted from 0, after which p_1 + … + p_t reaches `threshold`."""
    return (shares.cumsum(0)[:-1] < threshold).cumprod(0).sum(0)
