"""The truncated normal initialiser of JAX, which TRM and HRM use for every weight."""

import math

import torch
from torch import Tensor


def truncated_normal_(
    tensor: Tensor,
    std: float = 1.0,
    lower: float = -2.0,
    upper: float = 2.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Fill `tensor` from a normal truncated to [lower, upper], with std `std` after truncation.

    `torch.nn.init.trunc_normal_` takes the std before truncation, so its samples are narrower
    (0.88 of the given std at two sigmas). `lower` and `upper` are in units of the underlying sigma.
    With `std=0` the tensor becomes zero. Raises ValueError if `lower` is not below `upper`.

    Source: `jax.nn.initializers.truncated_normal`; variance of the truncated normal distribution.
    """
    if not lower < upper:
        raise ValueError(f"truncated_normal_: lower ({lower}) must be below upper ({upper})")
    if std == 0:
        return tensor.zero_()
    if tensor.is_meta:  # nothing to fill; drawing would import torch's compiler, for a second
        return tensor

    lower_cdf, upper_cdf = math.erf(lower / math.sqrt(2)), math.erf(upper / math.sqrt(2))
    mass = (upper_cdf - lower_cdf) / 2
    lower_density = math.exp(-0.5 * lower**2) / math.sqrt(2 * math.pi)
    upper_density = math.exp(-0.5 * upper**2) / math.sqrt(2 * math.pi)
    variance = (
        1
        - (upper * upper_density - lower * lower_density) / mass
        - ((upper_density - lower_density) / mass) ** 2
    )
    sigma = std / math.sqrt(variance)

    with torch.no_grad():
        # erfinv has no low-precision kernel, and bfloat16 uniforms would reach the ends ±1
        sample = torch.empty_like(tensor, dtype=torch.float32)
        sample.uniform_(lower_cdf, upper_cdf, generator=generator)
        sample.erfinv_().mul_(math.sqrt(2) * sigma).clamp_(lower * sigma, upper * sigma)
        return tensor.copy_(sample)
