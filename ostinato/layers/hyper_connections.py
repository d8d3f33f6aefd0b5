"""Several residual streams instead of one: hyper-connections on a manifold, in the lite form.

s_1 … s_n   the streams, which start as copies of the embedding     [batch, seq, n, dim]
x, y        input and output of a sub-layer                         x = Σ h_pre[i] · s_i
h_pre       how much of each stream the sub-layer reads             [n], above 0
h_post      how much of its output each stream takes in             [n], above 0
H           how the streams are mixed: a weighted mean of the n! permutations, in lexicographic
            order, so that rows and columns sum to one and nothing can grow or fade from layer to
            layer, without the Sinkhorn iterations of the full method

new stream t = Σ_s H[s, t] · stream s, with P_k[i, perm_k[i]] = 1, as in the code of the paper.

| mode      | update                | h_pre, h_post                            | collapse |
|-----------|-----------------------|------------------------------------------|----------|
| `static`  | H · (s + h_post · y)  | σ(bias), 2 σ(bias)                       | sum      |
| `dynamic` | H · s + h_post · y    | the same, bias + gain · map(norm(s)):    | sum      |
|           |                       | these, and H, depend on the token        |          |
| `legacy`  | H · (s + h_post · y)  | σ(bias), n σ(bias)                       | mean     |

`static` and `dynamic` start with unequal streams: the k-th sub-layer reads and writes mainly stream
k mod n. `legacy` starts with equal streams, which then stay equal for ever. It exists to show that,
and to load models trained that way.

Sources: mHC (arXiv 2512.24880), mHC-lite (arXiv 2601.05732), whose form is `dynamic`.
"""

import math
from collections.abc import Callable
from itertools import permutations
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ostinato.layers.norm import RMSNorm

Mode = Literal["static", "dynamic", "legacy"]

DYNAMIC_GAIN = 0.01
DYNAMIC_OTHER_BIAS = -8.0
"""Initial bias of every permutation but the identity, whose bias is 0 (code of the paper)."""
STATIC_IDENTITY = 0.95
"""Initial weight of the identity. At 1/2 the streams are equal after one layer; at 0.999 the
softmax has no gradient left."""
LEGACY_BIAS = 0.5
LEGACY_IDENTITY_LOGIT = {2: 0.0, 4: 10.0}


class Mixing(NamedTuple):
    """Hold the weights of a connection; no leading axes if they are the same for every token."""

    pre: Float[Tensor, "*batch streams"]
    post: Float[Tensor, "*batch streams"]
    permutations: Float[Tensor, "*batch permutations"]
    """Weights of the permutations: non-negative, sum 1. For two streams, the first is α."""
    matrix: Float[Tensor, "*batch streams streams"]
    """H."""


class Residual(nn.Module):
    """Apply the plain residual connection of a single stream: s + y."""

    def forward(
        self,
        streams: Float[Tensor, "batch seq 1 dim"],
        branch: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "batch seq 1 dim"]:
        """Add the output of `branch`, the sub-layer with its norm, to the stream."""
        return streams + branch(streams.squeeze(-2)).unsqueeze(-2)


class HyperConnection(nn.Module):
    """Connect `num_streams` residual streams around sub-layer number `index` of a model."""

    permutation_matrices: Float[Tensor, "permutations streams streams"]

    def __init__(self, dim: int, num_streams: int, mode: Mode, index: int, eps: float = 1e-6):
        super().__init__()
        self.num_streams, self.mode, self.index = num_streams, mode, index
        orders = list(permutations(range(num_streams)))
        rows = [[[float(s == t) for t in range(num_streams)] for s in order] for order in orders]
        self.register_buffer("permutation_matrices", torch.tensor(rows), persistent=False)
        inputs = num_streams * dim if mode == "dynamic" else 0
        self.norm = RMSNorm(inputs, eps) if inputs else None
        self.pre = Logits(num_streams, inputs)
        self.post = Logits(num_streams, inputs)
        self.permutations = Logits(len(orders), inputs)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the initial values of the mode. None is random."""
        for logits in (self.pre, self.post, self.permutations):
            logits.reset_parameters()
        if self.norm is not None:
            self.norm.reset_parameters()
        others = len(self.permutations.bias) - 1
        if self.mode == "legacy":
            self.pre.bias.fill_(LEGACY_BIAS)
            self.post.bias.fill_(LEGACY_BIAS)
            self.permutations.bias[0] = LEGACY_IDENTITY_LOGIT[self.num_streams]
            return
        for logits in (self.pre, self.post):
            logits.bias.fill_(-1.0)
            logits.bias[self.index % self.num_streams] = 1.0
        if self.mode == "dynamic":
            self.permutations.bias[1:] = DYNAMIC_OTHER_BIAS
        else:
            odds = STATIC_IDENTITY / (1 - STATIC_IDENTITY)
            self.permutations.bias[0] = math.log(odds * others)

    def mixing(self, streams: Float[Tensor, "batch seq streams dim"]) -> Mixing:
        """Return the weights for these streams, in fp32 at least."""
        normed = None
        if self.norm is not None:
            normed = self.norm(widened(streams).flatten(-2))
        post_range = self.num_streams if self.mode == "legacy" else 2
        weights = self.permutations(normed).softmax(-1)
        return Mixing(
            pre=self.pre(normed).sigmoid(),
            post=post_range * self.post(normed).sigmoid(),
            permutations=weights,
            matrix=torch.tensordot(weights, self.permutation_matrices, dims=1),
        )

    def forward(
        self,
        streams: Float[Tensor, "batch seq streams dim"],
        branch: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "batch seq streams dim"]:
        """Return the streams after the sub-layer `branch` (with its norm), in fp32 at least."""
        pre, post, _, matrix = self.mixing(streams)
        wide = widened(streams)
        y = branch((pre[..., None] * wide).sum(-2).to(streams.dtype))
        taken_in = post[..., None] * widened(y).unsqueeze(-2)
        if self.mode == "dynamic":
            wide = matrix.mT @ wide + taken_in
        else:
            wide = matrix.mT @ (wide + taken_in)
        return wide.to(streams.dtype)


class Logits(nn.Module):
    """Compute bias, or bias + gain · map(x) if there are inputs; map starts as zero."""

    bias: Float[Tensor, " outputs"]
    gain: Float[Tensor, ""] | None
    map: Float[Tensor, "outputs inputs"] | None

    def __init__(self, num_outputs: int, num_inputs: int):
        super().__init__()
        self.bias = nn.Parameter(torch.empty(num_outputs))
        self.gain = nn.Parameter(torch.empty(())) if num_inputs else None
        self.map = nn.Parameter(torch.empty(num_outputs, num_inputs)) if num_inputs else None

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.bias)
        if self.gain is not None and self.map is not None:
            nn.init.constant_(self.gain, DYNAMIC_GAIN)
            nn.init.zeros_(self.map)

    def forward(self, x: Float[Tensor, "*batch inputs"] | None) -> Float[Tensor, "*batch outputs"]:
        if self.gain is None or self.map is None or x is None:
            return self.bias
        return self.bias + self.gain * F.linear(x, self.map)


def widened(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return `x` in fp32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def collapse(
    streams: Float[Tensor, "batch seq streams dim"], mode: Mode
) -> Float[Tensor, "batch seq dim"]:
    """Reduce the streams to one after the last sub-layer: their sum, or mean with `legacy`."""
    return streams.mean(-2) if mode == "legacy" else streams.sum(-2)


def divergence(streams: Float[Tensor, "batch seq streams dim"]) -> float:
    """Return the share of the streams' norm that deviates from their mean; 0 if all are equal."""
    wide = widened(streams)
    apart = wide - wide.mean(-2, keepdim=True)
    return (apart.norm() / wide.norm().clamp_min(1e-30)).item()


def gain(matrix: Float[Tensor, "*batch streams streams"]) -> float:
    """Return the most that mixing with `matrix` can amplify: its largest row or column sum."""
    return max(matrix.abs().sum(axis).max().item() for axis in (-1, -2))
