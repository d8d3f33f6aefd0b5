"""Turn rewards into the gradient of a policy: MaxRL, or REINFORCE with the mean as its baseline.

p is the chance that a sample for a prompt is right, N the number of samples, r their rewards, 0 or
1. MaxRL (arXiv 2602.02710) maximises E[log p], where log p = -Σ_k (1-p)^k / k; ordinary policy
gradient has the first term alone. Both estimate the gradient by Σ_i A_i ∇ log π(y_i) / N:

    reinforce    A_i = r_i - r̄            its mean is (N-1)/N · ∇p
    maxrl        A_i = (r_i - r̄) / r̄      its mean is ∇ of -Σ_{k<N} (1-p)^k / k

and A = 0 if no sample is right. There is no clipping, no division by the standard deviation and no
reference policy: a batch of samples is used for one update, by the weights that drew it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ostinato.layers.causal_attention import KeyValueCache
from ostinato.models.nanochat import NanoChat
from ostinato.training.config import Estimator


def advantages(
    rewards: Float[Tensor, "prompts samples"], estimator: Estimator
) -> Float[Tensor, "prompts samples"]:
    """Return A for each sample: 0 where all samples of a prompt are right, or all wrong."""
    mean = rewards.mean(1, keepdim=True)
    if estimator == "reinforce":
        return rewards - mean
    assert estimator == "maxrl"
    return torch.where(mean > 0, (rewards - mean) / mean, 0)


@dataclass(frozen=True)
class Weighted:
    """Hold completions of prompts of one length, and the weight of each in the loss."""

    prompts: Int[Tensor, "prompts length"]
    completions: Int[Tensor, "prompts samples new"]
    """Tokens, with anything behind the end of a completion."""
    written: Bool[Tensor, "prompts samples new"]
    """True for the tokens of a completion, its end token included."""
    weights: Float[Tensor, "prompts samples"]

    def without_idle_prompts(self) -> "Weighted":
        """Drop the prompts whose completions all have weight 0: they have no gradient."""
        kept = (self.weights != 0).any(1)
        return Weighted(
            self.prompts[kept], self.completions[kept], self.written[kept], self.weights[kept]
        )


class PromptCache(KeyValueCache):
    """Hold keys and values of prompts with their gradient, for all that follows them.

    Nothing is written in place, which a backward pass would not survive.
    """

    owners: Int[Tensor, " rows"]
    """The prompt of each row that follows."""

    def __init__(self) -> None:
        self.length = 0

    def extend(
        self,
        keys: Float[Tensor, "batch kv_heads new head_dim"],
        values: Float[Tensor, "batch kv_heads new head_dim"],
    ) -> tuple[
        Float[Tensor, "batch kv_heads length head_dim"],
        Float[Tensor, "batch kv_heads length head_dim"],
    ]:
        """Keep the first positions; put those of its prompt before each row of all others."""
        if not self.length:
            self.keys, self.values, self.length = keys, values, keys.shape[2]
            return keys, values
        before = self.keys[self.owners], self.values[self.owners]
        return torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)


class Policy(nn.Module):
    """Compute the loss of weighted completions; each prompt is read once for all its completions.

    It is what DDP wraps, so that an update is one forward and one backward.
    """

    def __init__(self, model: NanoChat):
        super().__init__()
        self.model = model

    def forward(self, groups: list[Weighted]) -> Float[Tensor, ""]:
        """Return -Σ weight · log π(completion | prompt)."""
        # All weights take part on every rank, whatever it has drawn
        loss = torch.stack([0 * p.sum() for p in self.model.parameters()]).sum()
        for group in groups:
            if len(group.prompts):
                loss = loss - (group.weights * self.log_chances(group)).sum()
        return loss

    def log_chances(self, group: Weighted) -> Float[Tensor, "prompts samples"]:
        """Return log π of each completion, a sum over its tokens."""
        count, samples, _ = group.completions.shape
        tokens, written = group.completions.flatten(0, 1), group.written.flatten(0, 1)
        cache = [PromptCache() for _ in self.model.new_cache(1, 1)]
        first = self.model(group.prompts, [*cache])[:, -1:]
        found, order = [], by_length(written.sum(-1))
        for rows in order:
            new = int(written[rows].sum(-1).max())
            chosen, owners = tokens[rows, :new], rows // samples
            logits = first[owners]
            if new > 1:
                for layer in cache:
                    layer.owners = owners
                logits = torch.cat([logits, self.model(chosen[:, :-1], [*cache])], 1)
            log_chances = F.cross_entropy(logits.float().mT, chosen, reduction="none").neg()
            found.append((log_chances * written[rows, :new]).sum(-1))
        return torch.cat(found)[torch.cat(order).argsort()].unflatten(0, (count, samples))


def by_length(lengths: Int[Tensor, " rows"]) -> list[Int[Tensor, " some"]]:
    """Return the rows in parts, so that less than half of a part is padding behind their ends."""
    scales = lengths.float().log2().ceil()
    return [(scales == scale).nonzero().squeeze(1) for scale in scales.unique()]
