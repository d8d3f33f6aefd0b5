"""Linear layers with weights -1, 0, 1 and int8 activations (BitNet b1.58, arXiv 2402.17764).

`ternarize` and `quantize_activations` are the only definition of the arithmetic. Training keeps
fp32 weights and quantises them at every call (`TernaryLinear`). Inference (`PackedTernaryLinear`)
and export use the integers and scales that the same two functions return.
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST_SCALE = 1e-8
ACTIVATION_LEVELS = 127
Product = Literal["float", "int8"]
"""Way to multiply with a packed matrix: with floats that are made once, or with its codes."""
FEW_ROWS = 4
"""Up to this many tokens, an integer product is faster than unpacking the weights."""


def round_half_away(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Round to the nearest integer, halves away from zero (`torch.round` rounds halves to even)."""
    whole = x.trunc()
    return whole + (2 * (x - whole)).trunc()


class Ternary(NamedTuple):
    """Hold a quantised weight matrix: `codes` times the scale of their group."""

    codes: Int8[Tensor, "out_features in_features"]
    """-1, 0 or 1."""
    scales: Float[Tensor, "rows groups"]
    """One per group of consecutive inputs in each row; shape [1, 1] is one for the whole matrix."""

    def weight(self) -> Float[Tensor, "out_features in_features"]:
        """Return codes · scales, in the dtype of the scales."""
        groups = self.codes.unflatten(1, (self.scales.shape[1], -1))
        return (groups * self.scales[..., None]).flatten(1)


def ternarize(weight: Float[Tensor, "out_features in_features"], group_size: int) -> Ternary:
    """Quantise each group of `group_size` inputs by its absolute mean; 0 means the whole matrix.

    scale = max(mean |w|, 1e-8), code = clip(round(w / scale), -1, 1) (paper, section 2, eq. 1–3).
    """
    if group_size:
        groups = weight.unflatten(1, (-1, group_size))
        scales = groups.abs().mean(-1)
    else:
        groups = weight[:, None]
        scales = weight.abs().mean().view(1, 1)
    scales = scales.clamp_min(SMALLEST_SCALE)
    codes = round_half_away(groups / scales[..., None]).clamp(-1, 1)
    return Ternary(codes.flatten(1).to(torch.int8), scales)


class Activations(NamedTuple):
    """Hold quantised activations: `integers`, in a floating dtype, times their group's scale."""

    integers: Float[Tensor, "*batch dim"]
    scales: Float[Tensor, "*batch groups"]
    """One per group of consecutive inputs of a token."""

    def values(self) -> Float[Tensor, "*batch dim"]:
        """Return integers · scales."""
        groups = self.integers.unflatten(-1, (self.scales.shape[-1], -1))
        return (groups * self.scales[..., None]).flatten(-2)


def quantize_activations(x: Float[Tensor, "*batch dim"], group_size: int = 0) -> Activations:
    """Quantise to -127 … 127 by the largest magnitude of each group, in fp32 at least.

    With `group_size=0` a token is one group. llama.cpp uses groups of 32, or of 256 with ternary
    blocks.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    groups = wide.unflatten(-1, (-1, group_size or x.shape[-1]))
    largest = groups.abs().amax(-1, keepdim=True).clamp_min(SMALLEST_SCALE)
    scales = largest / ACTIVATION_LEVELS
    integers = round_half_away(groups / scales).clamp(-ACTIVATION_LEVELS, ACTIVATION_LEVELS)
    return Activations(integers.flatten(-2), scales.squeeze(-1))


def straight_through(
    quantized: Float[Tensor, "*shape"], x: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Return exactly `quantized`, with the gradient of `x`."""
    return quantized.detach() + (x - x.detach())


def linear_with_activations(
    x: Float[Tensor, "*batch in_features"],
    weight: Float[Tensor, "out_features in_features"],
    quantize: bool,
    group_size: int,
) -> Float[Tensor, "*batch out_features"]:
    """Compute `x @ weight.T` in the dtype of `x`, after quantising `x` if asked."""
    if quantize:
        quantized = quantize_activations(x, group_size).values().to(x.dtype)
        x = straight_through(quantized, x) if torch.is_grad_enabled() else quantized
    return F.linear(x, weight.to(x.dtype))


class TernaryLinear(nn.Module):
    """Train fp32 weights that are used as ternary ones, with straight-through gradients, no bias.

    `quantize_activations=False` leaves the activations as they are. Otherwise
    `activation_group_size` inputs of a token share a scale; 0 means all of them.
    """

    weight: Float[Tensor, "out_features in_features"]

    def __init__(
        self,
        in_features: int,
        out_features: int,
        group_size: int = 128,
        quantize_activations: bool = True,
        activation_group_size: int = 0,
    ):
        super().__init__()
        for size in (group_size, activation_group_size):
            if size and in_features % size:
                raise ValueError(
                    f"{in_features} inputs do not fill groups of {size}: change the width or the "
                    "group size (0: one group for all)"
                )
        self.group_size, self.quantize_activations = group_size, quantize_activations
        self.activation_group_size = activation_group_size
        self.weight = nn.Parameter(torch.empty(out_features, in_features))

    def ternary(self) -> Ternary:
        """Return the weight as integers and scales."""
        return ternarize(self.weight.detach(), self.group_size)

    def pack(self) -> "PackedTernaryLinear":
        """Return the same layer for inference."""
        return PackedTernaryLinear(
            self.ternary(), self.quantize_activations, self.activation_group_size
        )

    def forward(
        self, x: Float[Tensor, "*batch in_features"]
    ) -> Float[Tensor, "*batch out_features"]:
        weight = straight_through(self.ternary().weight(), self.weight)
        return linear_with_activations(
            x, weight, self.quantize_activations, self.activation_group_size
        )


class PackedTernaryLinear(nn.Module):
    """Run a `TernaryLinear` for inference: one byte per weight plus the scales, no gradient."""

    codes: Int8[Tensor, "out_features in_features"]
    scales: Float[Tensor, "rows groups"]
    spread: Int8[Tensor, "parts in_features"]
    """1 where an input belongs to a part, that is shares its weight scale and activation scale."""

    def __init__(self, ternary: Ternary, quantize_activations: bool, activation_group_size: int):
        super().__init__()
        self.quantize_activations = quantize_activations
        self.activation_group_size = activation_group_size
        self.product: Product = "int8"
        self.floats: Tensor | None = None
        self.register_buffer("codes", ternary.codes)
        self.register_buffer("scales", ternary.scales)
        inputs = ternary.codes.shape[1]
        part = math.gcd(inputs // ternary.scales.shape[1], activation_group_size or inputs)
        spread = torch.eye(inputs // part, dtype=torch.int8, device=ternary.codes.device)
        self.register_buffer("spread", spread.repeat_interleave(part, dim=1), persistent=False)

    def ternary(self) -> Ternary:
        """Return the integers and scales."""
        return Ternary(self.codes, self.scales)

    def forward(
        self, x: Float[Tensor, "*batch in_features"]
    ) -> Float[Tensor, "*batch out_features"]:
        rows = x.numel() // x.shape[-1]
        if self.product == "float":
            return linear_with_activations(
                x, self.float_weight(), self.quantize_activations, self.activation_group_size
            )
        if self.quantize_activations and rows <= FEW_ROWS and x.device.type == "cpu":
            return self.integer_product(x)
        return linear_with_activations(
            x, self.ternary().weight(), self.quantize_activations, self.activation_group_size
        )

    def float_weight(self) -> Float[Tensor, "out_features in_features"]:
        """Return codes · scales, and keep them for the next call."""
        if self.floats is None or self.floats.device != self.codes.device:
            self.floats = self.ternary().weight()
        return self.floats

    def integer_product(
        self, x: Float[Tensor, "*batch in_features"]
    ) -> Float[Tensor, "*batch out_features"]:
        """Compute Σ over parts of scales · Σ codes · integers; the inner sums are exact, in int32.

        The inputs of a part share both scales. Each token becomes one row per part, with the other
        parts' integers set to zero. A single int8 matrix product then gives the sums of all parts
        and reads the codes once.
        """
        parts = len(self.spread)
        integers, scales = quantize_activations(x, self.activation_group_size)
        rows = integers.to(torch.int8).flatten(0, -2)[:, None] * self.spread
        sums = torch._int_mm(rows.flatten(0, 1), self.codes.T)
        sums = sums.view(*x.shape[:-1], parts, -1)
        weight_scales = self.scales.T.repeat_interleave(parts // self.scales.shape[1], dim=0)
        scales = scales.repeat_interleave(parts // scales.shape[-1], dim=-1)
        return (sums * weight_scales * scales[..., None]).sum(-2).to(x.dtype)
