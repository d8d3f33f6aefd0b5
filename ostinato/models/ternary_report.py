"""What the ternary weights of a nanochat look like, matrix by matrix."""

from dataclasses import dataclass

from ostinato.layers import PackedTernaryLinear, TernaryLinear
from ostinato.models.nanochat import NanoChat


@dataclass(frozen=True)
class TernaryReading:
    """One matrix, as inference uses it."""

    matrix: str
    """Such as "blocks.3.attention.q_proj"."""
    rows: int
    columns: int
    zeros: float
    """Share of the weights that are 0; near 1/3 for a normal distribution."""
    smallest_scale: float
    mean_scale: float
    largest_scale: float


def ternary_report(model: NanoChat) -> list[TernaryReading]:
    """Every ternary matrix in order; none for the full-precision twin."""
    readings = []
    for name, module in model.named_modules():
        if isinstance(module, TernaryLinear | PackedTernaryLinear):
            codes, scales = module.ternary()
            readings.append(
                TernaryReading(
                    matrix=name,
                    rows=codes.shape[0],
                    columns=codes.shape[1],
                    zeros=(codes == 0).float().mean().item(),
                    smallest_scale=scales.min().item(),
                    mean_scale=scales.mean().item(),
                    largest_scale=scales.max().item(),
                )
            )
    return readings
