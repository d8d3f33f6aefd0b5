"""Root-mean-square normalisation."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def rms_norm(x: Float[Tensor, "*batch dim"], eps: float) -> Float[Tensor, "*batch dim"]:
    """Divide by the root mean square over the last axis, in fp32 at least; no learned weight.

    Source: Zhang & Sennrich 2019 (arXiv 1910.07467), without the gain, as in TRM and HRM.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


class RMSNorm(nn.Module):
    """Apply `rms_norm`, then a learned weight that starts as one."""

    weight: Float[Tensor, " dim"]

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return rms_norm(x, self.eps) * self.weight.to(x.dtype)
