"""Norm, feed-forward, attention, positions, casts and initial values."""

import math
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ostinato.layers import (
    Attention,
    Embedding,
    Linear,
    RotaryEmbedding,
    SwiGLU,
    apply_rotary,
    rms_norm,
    truncated_normal_,
)
from ostinato.layers.rotary import rotate_half
from ostinato.models import TRM, TRMConfig
from ostinato.verify import reference
from ostinato.verify.check import apart, check
from ostinato.verify.specimens import random

TITLE = "Layers"
HALF_ULP = 2.0**-8 * (1 + 1e-3)
"""Largest relative error of one rounding to bfloat16."""


def rounding_error(ours: Tensor, exact: Tensor) -> float:
    """Return the largest relative error of a result in bfloat16."""
    if ours.dtype != torch.bfloat16:
        return math.inf
    return ((ours.double() - exact).abs() / exact.abs().clamp(min=1e-3)).max().item()


def weights(layer: torch.nn.Module) -> reference.Weights:
    """Return a layer's weights for the reference."""
    return {name: weight.detach() for name, weight in layer.named_parameters()}


@check("RMSNorm", "000 001 004", "x · rsqrt(mean(x²) + 1e-5), without a weight", 1e-12)
def norm() -> float:
    """Random rows of widths 1 to 512 and of sizes 1e-4 to 1e3, against float64."""
    found = 0.0
    for width, scale in product((1, 7, 512), (1e-4, 1.0, 1e3)):
        x = scale * random(5, width)
        found = max(found, apart(rms_norm(x, 1e-5), reference.rms_norm(x, 1e-5)))
    return found


@check("RMSNorm in fp32", "000 001 004", "computed in fp32 and cast back", HALF_ULP)
def norm_precision() -> float:
    """Relative error of bf16 rows: one rounding, that of the result."""
    x = random(64, 512, dtype=torch.bfloat16)
    return rounding_error(rms_norm(x, 1e-5), reference.rms_norm(x.double(), 1e-5))


@check(
    "SwiGLU width",
    "000 001 004",
    "round(expansion · dim · 2/3), up to a multiple of 256 (512 → 1536)",
)
def feedforward_width() -> int:
    """Inner widths for dims 16 to 1024 and expansions 1 to 8 that differ."""
    wrong = 0
    for dim, expansion in product((16, 97, 288, 384, 512, 1024), (1.0, 2.5, 4.0, 8.0)):
        inner = SwiGLU(dim, expansion).down_proj.weight.shape[1]
        wrong += inner != reference.swiglu_width(dim, expansion)
    return wrong


@check("SwiGLU", "000 001 004", "down(silu(gate) · up), fused, gate first", 1e-10)
def feedforward() -> float:
    """Random weights and inputs, against float64."""
    layer = SwiGLU(12, 4.0).double()
    for weight in layer.parameters():
        weight.data = random(*weight.shape, seed=len(weight)) / 12
    x = random(3, 5, 12)
    return apart(layer(x), reference.swiglu(weights(layer), x))


@check("Rotary angles", "000 001 004", "position · 10000^(-2i/size), over all positions", 5e-5)
def rotary_angles() -> float:
    """97 positions of 64 numbers, against rotations of complex numbers in float64."""
    tables = RotaryEmbedding(64, 97)
    x = random(2, 97, 3, 64)
    return apart(apply_rotary(x, tables.cos, tables.sin), reference.rotate(x, 10_000.0))


@check("Rotary positions in fp32", "000 004", "q and k are rotated in fp32, then cast", HALF_ULP)
def rotary_precision() -> float:
    """Error of bf16 inputs relative to the rotated pair's length: one rounding."""
    tables = RotaryEmbedding(64, 97)
    x = random(2, 97, 3, 64, dtype=torch.bfloat16)
    ours = apply_rotary(x, tables.cos, tables.sin)
    exact = reference.rotate(x.double(), 10_000.0)
    length = torch.hypot(*exact.chunk(2, dim=-1)).repeat(1, 1, 1, 2)
    return math.inf if ours.dtype != x.dtype else apart(ours.double() / length, exact / length)


@check("rotate_half", "000 001", "cat(-x2, x1) of the two halves")
def half_rotation() -> float:
    """Eight numbers, written out."""
    return apart(rotate_half(torch.arange(8.0)), [-4.0, -5, -6, -7, 0, 1, 2, 3])


@check("Rotary tables", "004", "buffers that are neither trained nor saved")
def rotary_buffers() -> int:
    """Names among parameters and saved tensors."""
    tables = RotaryEmbedding(8, 16)
    return len(list(tables.parameters())) + len(tables.state_dict())


@check("Attention", "004", "fused q, k, v; all positions; scale 1/√size; rotary on q, k", 1e-10)
def attention() -> float:
    """Random weights and inputs, with and without positions, against float64."""
    found, x = 0.0, random(2, 7, 12)
    for heads, rotated in product((1, 2, 3), (False, True)):
        layer = Attention(12, heads).double()
        for weight in layer.parameters():
            weight.data = random(*weight.shape, seed=len(weight)) / 3
        tables = RotaryEmbedding(12 // heads, 7) if rotated else None
        if tables is not None:
            unit = torch.ones(1, 7, 1, 12 // heads, dtype=torch.float64)
            unit[..., 6 // heads :] = 0
            cos, sin = reference.rotate(unit, 10_000.0)[0, :, 0].chunk(2, dim=-1)
            tables.cos, tables.sin = cos.repeat(1, 2), sin.repeat(1, 2)
        theta = 10_000.0 if rotated else None
        expected = reference.attention(weights(layer), x, heads, theta)
        found = max(found, apart(layer(x, tables), expected))
    return found


@check("Linear layers cast", "004", "fp32 weights, cast to the dtype of the input", HALF_ULP)
def linear_cast() -> float:
    """Relative error of bf16 inputs against float64 with rounded weights: one rounding."""
    layer, x = Linear(64, 8, bias=True), random(32, 64, dtype=torch.bfloat16)
    layer.weight.data, bias = random(8, 64, seed=1, dtype=torch.float32), random(8, seed=2)
    assert layer.bias is not None
    layer.bias.data = bias.float()
    rounded = layer.weight.detach().bfloat16().double()
    exact = x.double() @ rounded.T + bias.bfloat16().double()
    kept = layer.weight.dtype == torch.float32
    # Sums in fp32 lose a little where they cancel, so some of the sizes summed is allowed for
    sizes = exact.abs() + 0.01 * (x.double().abs() @ rounded.abs().T)
    error = (layer(x).double() - exact).abs() / sizes
    return error.max().item() if kept and layer(x).dtype == torch.bfloat16 else math.inf


@check("Embeddings cast", "004", "fp32 table, looked up in the forward dtype")
def embedding_cast() -> float:
    """Entries that are not the rounded ones."""
    layer, ids = Embedding(5, 8, 1.0, torch.bfloat16), torch.tensor([[4, 0], [2, 4]])
    layer.weight.data = random(5, 8, dtype=torch.float32)
    found = layer(ids)
    return math.inf if found.dtype != torch.bfloat16 else apart(found, layer.weight[ids].bfloat16())


@check("Truncated normal", "000 001 004", "±2σ cut, std corrected to the wished one", 0.02)
def truncated_normal() -> float:
    """Relative error of the std, the ends and 9 quantiles of 300,000 numbers."""
    return truncated_normal_error(-2.0, 2.0)


@check("Truncated normal, asymmetric", "004", "each density is taken at its own bound", 0.02)
def truncated_normal_asymmetric() -> float:
    """The same for cuts at -1σ, 3σ and at 0, 2σ."""
    return max(truncated_normal_error(-1.0, 3.0), truncated_normal_error(0.0, 2.0))


def truncated_normal_error(lower: float, upper: float) -> float:
    """Measure samples with std 0.5 against the distribution integrated on a grid."""
    grid = np.linspace(lower, upper, 200_001)
    density = np.exp(-(grid**2) / 2)
    density /= density.sum()
    mean = (density * grid).sum()
    sigma = 0.5 / math.sqrt((density * (grid - mean) ** 2).sum())
    levels = np.linspace(0.1, 0.9, 9)
    quantiles = sigma * np.interp(levels, density.cumsum(), grid)

    sample = torch.empty(300_000, dtype=torch.float64)
    truncated_normal_(sample, 0.5, lower, upper, torch.Generator().manual_seed(0))
    found = sample.numpy()
    return max(
        abs(found.std() / 0.5 - 1),
        abs(found.min() - sigma * lower),
        abs(found.max() - sigma * upper),
        np.abs(np.quantile(found, levels) - quantiles).max(),
    )


@check("Linear layers at the start", "000 001", "truncated normal, std 1/√fan_in", 0.02)
def linear_start() -> float:
    """Relative error of the std, and of the largest entry, of 131,072 weights."""
    layer = Linear(512, 256)
    layer.reset_parameters(torch.Generator().manual_seed(0))
    return start_error(layer.weight, 512**-0.5)


@check("Embeddings at the start", "000 001 002", "truncated normal, std 1/√dim", 0.02)
def embedding_start() -> float:
    """Relative error of the std, and of the largest entry, of tokens and learned positions."""
    config = TRMConfig(
        vocab_size=4096,
        seq_len=2048,
        hidden_size=64,
        num_heads=2,
        L_layers=1,
        pos_encodings="learned",
        puzzle_emb_ndim=0,
        puzzle_emb_len=0,
    )
    model = TRM(config, torch.Generator().manual_seed(0))
    assert model.embed_pos is not None
    tables = (model.embed_tokens.weight, model.embed_pos.weight)
    return max(start_error(table, 1 / 8) for table in tables)


def start_error(weight: Tensor, std: float) -> float:
    """Relative error of the std and of the largest entry of weights cut at two sigmas."""
    sigma = std / 0.8796256610342398  # std of a standard normal cut at ±2
    largest = weight.abs().max().item() / (2 * sigma)
    return max(abs(weight.std().item() / std - 1), abs(largest - 1))
