"""A linear layer that keeps fp32 master weights and computes in the dtype of its input."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ostinato.layers.initialization import truncated_normal_


class Linear(nn.Module):
    """Compute `x @ weight.T (+ bias)`, with the weight cast to the dtype of `x`; no autocast.

    The weight starts as a truncated normal with std 1/sqrt(in_features), the bias as zero.
    """

    weight: Float[Tensor, "out_features in_features"]
    bias: Float[Tensor, " out_features"] | None

    def __init__(self, in_features: int, out_features: int, bias: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        truncated_normal_(self.weight, std=self.weight.shape[1] ** -0.5, generator=generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self, x: Float[Tensor, "*batch in_features"]
    ) -> Float[Tensor, "*batch out_features"]:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)
