"""Inspect a nanochat: its residual streams and its ternary weights.

* `stream_report` runs the model on some tokens and reads every connection of the residual streams:
  its weights, how far the streams differ behind it, and how much the mixing so far can amplify.
* `exit_report` gives the loss after each pass of a looped model, and where its tokens leave.
* `ternary_report` gives the share of zeros and the scales of every ternary matrix.
* `probe_tokens` provides real tokens to measure on when no validation data are at hand.
"""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ostinato.data.text.words import WordTokenizer
from ostinato.inference.generate import check_prompt, tokenizer_of
from ostinato.layers import (
    HyperConnection,
    PackedTernaryLinear,
    TernaryLinear,
    exit_depths,
    log_exit_probabilities,
)
from ostinato.layers.hyper_connections import Mixing, divergence, gain
from ostinato.models.nanochat import Block, NanoChat

INACTIVE_BELOW = 1e-4
"""Divergence below which streams are equal up to rounding."""


@dataclass(frozen=True)
class StreamReading:
    """Hold the state of one connection; vectors are averages over the tokens."""

    sublayer: str
    """Name of the sub-layer, such as "block 3 attention"."""
    pre: list[float]
    """h_pre of each stream."""
    post: list[float]
    """h_post of each stream."""
    permutations: list[float]
    """Weights of the permutations, in lexicographic order; for two streams, the first is α."""
    divergence: float
    """Divergence of the streams behind the connection, from 0 (all equal) to 1."""
    gain: float
    """Most that the product of the mixing matrices so far can amplify: 1 up to rounding."""


@dataclass(frozen=True)
class StreamReport:
    """Hold the readings of all connections in order; none for a model with one stream."""

    readings: list[StreamReading]

    @property
    def active(self) -> bool:
        """Tell whether the streams differ at all. If not, a single stream would do as well."""
        return any(reading.divergence > INACTIVE_BELOW for reading in self.readings)


@torch.no_grad()
def stream_report(model: NanoChat, tokens: Int[Tensor, "batch seq"]) -> StreamReport:
    """Run `model` on `tokens` and read every connection, in the first pass of a looped model.

    Raises ValueError for too long a text.
    """
    readings: list[StreamReading] = []
    streams = model.initial_streams(model.embed(tokens))
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
    """Make a reading of a connection's weights, the streams behind it and the mixing so far."""

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
class ExitReading:
    """Describe one pass of a looped model, by means over the tokens of a text."""

    number: int
    """Number of the pass, counted from 1."""
    loss: float
    """Cross-entropy of the next token after this pass, in nats."""
    exits: float
    """Probability of leaving here: the mean of p_t."""
    leaves: float
    """Share of the tokens whose exit probabilities first add up to the threshold here."""


@torch.no_grad()
def exit_report(
    model: NanoChat, tokens: Int[Tensor, "batch seq"], threshold: float
) -> list[ExitReading]:
    """Read every pass of a looped model; none for a model without loops."""
    if model.exit_gate is None:
        return []
    if tokens.shape[1] < 2:
        raise ValueError("a single token predicts nothing: give a longer text")
    states = [state[:, :-1] for state in model.states(tokens)]
    shares = log_exit_probabilities(torch.stack([model.exit_logits(x) for x in states])).exp()
    depths = exit_depths(shares, threshold)
    labels = tokens[:, 1:].flatten()
    return [
        ExitReading(
            number=number + 1,
            loss=F.cross_entropy(model.read_out(x).float().flatten(0, 1), labels).item(),
            exits=shares[number].mean().item(),
            leaves=(depths == number).float().mean().item(),
        )
        for number, x in enumerate(states)
    ]


@dataclass(frozen=True)
class TernaryReading:
    """Describe one ternary matrix as inference uses it."""

    matrix: str
    """Name of the matrix, such as "blocks.3.attention.q_proj"."""
    rows: int
    columns: int
    zeros: float
    """Share of the weights that are 0; near 1/3 for a normal distribution."""
    smallest_scale: float
    mean_scale: float
    largest_scale: float


def ternary_report(model: NanoChat) -> list[TernaryReading]:
    """Read every ternary matrix in order; a full-precision model has none."""
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
    """Return the first tokens of `text`, as many as the model reads, on its device.

    The default text is the source of Python's module textwrap, which is on every machine, or all
    words of a model of words. Raises ValueError if the model has no tokenizer, or one that does not
    fit.
    """
    tokenizer = tokenizer_of(model)
    if isinstance(tokenizer, WordTokenizer):
        text = text or " ".join(tokenizer.words)
    tokens = tokenizer.encode(text or Path(textwrap.__file__).read_text("utf-8"))
    tokens = tokens[: model.config.seq_len]
    check_prompt(model, tokens)
    return torch.tensor([tokens], device=model.embed_tokens.weight.device)
