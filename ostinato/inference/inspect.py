"""What the residual streams of a nanochat do on some text, sub-layer by sub-layer."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ostinato.inference.generate import check_prompt, tokenizer_of
from ostinato.layers import HyperConnection, PackedTernaryLinear, TernaryLinear
from ostinato.layers.hyper_connections import Mixing, divergence, gain
from ostinato.models.nanochat import Block, NanoChat

INACTIVE_BELOW = 1e-4
"""Streams whose divergence stays below this are the same stream, but for rounding."""


@dataclass(frozen=True)
class StreamReading:
    """The state of one connection; vectors are averages over the tokens."""

    sublayer: str
    """Such as "block 3 attention"."""
    pre: list[float]
    """h_pre of each stream."""
    post: list[float]
    """h_post of each stream."""
    permutations: list[float]
    """Weights of the permutations, in lexicographic order; for two streams, the first is α."""
    divergence: float
    """How unlike the streams are behind it, from 0 (all the same) to 1."""
    gain: float
    """The most that the mixing matrices up to here, multiplied, can amplify: 1 but for rounding."""


@dataclass(frozen=True)
class StreamReport:
    """The readings of all connections in order; none for a model with one stream."""

    readings: list[StreamReading]

    @property
    def active(self) -> bool:
        """Whether the streams differ at all. If not, a single one would do as well."""
        return any(reading.divergence > INACTIVE_BELOW for reading in self.readings)


@torch.no_grad()
def stream_report(model: NanoChat, tokens: Int[Tensor, "batch seq"]) -> StreamReport:
    """Run `model` on `tokens` and read every connection. Raises ValueError for a text too long."""
    readings: list[StreamReading] = []
    streams = model.initial_streams(tokens)
    product: Tensor | None = None
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        names = ("attention", "feedforward")
        for name, (connection, branch) in zip(names, block.sublayers(model.rotary), strict=True):
            if not isinstance(connection, HyperConnection):
                return StreamReport([])
            mixing = connection.mixing(streams)
            streams = connection(streams, branch)
            product = mixing.matrix if product is None else product @ mixing.matrix
            readings.append(read_connection(f"block {index} {name}", mixing, streams, product))
    return StreamReport(readings)


def read_connection(
    sublayer: str,
    mixing: Mixing,
    streams: Float[Tensor, "batch seq streams dim"],
    product: Float[Tensor, "*batch streams streams"],
) -> StreamReading:
    """A reading from the weights of a connection, the streams behind it and the mixing so far."""

    def average(weights: Float[Tensor, "*batch n"]) -> list[float]:
        return weights.reshape(-1, weights.shape[-1]).mean(0).tolist()

    return StreamReading(
        sublayer=sublayer,
        pre=average(mixing.pre),
        post=average(mixing.post),
        permutations=average(mixing.permutations),
        divergence=divergence(streams),
        gain=gain(product),
    )


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


def probe_tokens(model: NanoChat, text: str = "") -> Int[Tensor, "1 seq"]:
    """The first tokens of `text`, as many as the model reads, on its device.

    Without a text, that of Python's own module textwrap, which is on every machine.
    Raises ValueError if the model has no tokenizer, or one that does not fit.
    """
    tokenizer = tokenizer_of(model)
    tokens = tokenizer.encode(text or Path(textwrap.__file__).read_text("utf-8"))
    tokens = tokens[: model.config.seq_len]
    check_prompt(model, tokens)
    return torch.tensor([tokens], device=model.embed_tokens.weight.device)
