"""Evaluate a language model on text that it has not seen, and two simple baselines."""

import lzma
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from ostinato.data.text import TokenSet
from ostinato.data.text.token_set import IGNORE_LABEL
from ostinato.layers import log_exit_probabilities
from ostinato.models.nanochat import NanoChat


@dataclass(frozen=True)
class PassScore:
    """Hold the scores of a looped model after one of its passes."""

    bits_per_byte: float
    accuracy: float
    exits: float
    """Share of the tokens that leave here: the mean of p_t."""


@dataclass(frozen=True)
class TextEvaluation:
    """Hold the scores of a model on some documents, including the end of each."""

    documents: int
    tokens: int
    """Number of tokens predicted: all, and the separator behind each document."""
    bytes: int
    """Number of bytes of the documents."""
    loss: float
    """Cross-entropy in nats per token."""
    bits_per_byte: float
    """Bits of all tokens divided by the bytes of the documents: comparable between tokenizers."""
    accuracy: float
    """Share of positions whose likeliest token is right."""
    copy_rate: float
    """Share of positions whose likeliest next token is the token just read."""
    repeat_rate: float
    """Share of positions whose true next token is the token just read."""
    seconds: float
    passes: tuple[PassScore, ...] = ()
    """Scores by pass; none for a model without loops."""

    @property
    def perplexity(self) -> float:
        """Return the exponential of the loss."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def to_json(self) -> dict[str, Any]:
        """Return all scores as JSON."""
        content = {**asdict(self), "perplexity": self.perplexity}
        if not self.passes:
            del content["passes"]
        return content


def evaluate(
    model: NanoChat,
    texts: TokenSet,
    batch_size: int,
    context: int = 0,
    *,
    rank: int = 0,
    world_size: int = 1,
    sum_over_ranks: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    progress: Callable[[int], None] = lambda done: None,
) -> TextEvaluation:
    """Score every token but the first, each once; of conversations, what the assistant says.

    The row of tokens is cut into windows of the model's length, which are read independently. A
    window sees nothing of the text before it, except for `context` tokens that are read again.
    `progress` receives the number of tokens done. Raises ValueError if windows are all context.
    """
    if not 0 <= context < model.config.seq_len:
        raise ValueError(
            f"a context of {context} tokens leaves nothing to predict in windows of "
            f"{model.config.seq_len}: give less"
        )
    device, start = model.embed_tokens.weight.device, time.monotonic()
    sums = torch.zeros(model.config.num_loops, 5, dtype=torch.float64)
    done = 0
    with torch.no_grad():
        for inputs, labels in texts.evaluation(
            model.config.seq_len, context, batch_size, rank, world_size
        ):
            sums += scores(model, inputs.to(device), labels.to(device))
            done += int((labels != IGNORE_LABEL).sum())
            progress(done)
    tokens, size = texts.num_scored, texts.scored_bytes
    by_pass = sum_over_ranks(sums.flatten()).view(sums.shape).tolist()
    passes = tuple(
        PassScore(nats / math.log(2) / size, right / tokens, exits / tokens)
        for nats, right, _, _, exits in by_pass
    )
    nats, right, copied, repeated, _ = by_pass[-1]
    return TextEvaluation(
        documents=len(texts.documents),
        tokens=tokens,
        bytes=size,
        loss=nats / tokens,
        bits_per_byte=nats / math.log(2) / size,
        accuracy=right / tokens,
        copy_rate=copied / tokens,
        repeat_rate=repeated / tokens,
        seconds=time.monotonic() - start,
        passes=passes if len(passes) > 1 else (),
    )


def scores(
    model: NanoChat, inputs: Int[Tensor, "batch seq"], labels: Int[Tensor, "batch seq"]
) -> Float[Tensor, "passes 5"]:
    """Return, for each pass, what `score` returns and the sum of p_t over labelled positions."""
    if model.exit_gate is None:
        return F.pad(score(model(inputs), inputs, labels), (0, 1))[None]
    states = list(model.states(inputs))
    log_p = log_exit_probabilities(torch.stack([model.exit_logits(state) for state in states]))
    exits = (log_p.exp() * (labels != IGNORE_LABEL)).sum((1, 2)).cpu().double()
    found = [score(model.read_out(state), inputs, labels) for state in states]
    return torch.cat([torch.stack(found), exits[:, None]], dim=1)


def score(
    logits: Float[Tensor, "batch seq vocab"],
    inputs: Int[Tensor, "batch seq"],
    labels: Int[Tensor, "batch seq"],
) -> Float[Tensor, "4"]:
    """Sum over labelled positions: nats, right, predicted the input, label is the input."""
    nats = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="sum")
    scored, predicted = labels != IGNORE_LABEL, logits.argmax(-1)
    counts = [
        (predicted == labels).sum(),
        (scored & (predicted == inputs)).sum(),
        (labels == inputs).sum(),
    ]
    return torch.cat([found.cpu().double() for found in (nats[None], torch.stack(counts))])


END = b"\0"
"""Byte put twice before a document and once behind it; text hardly ever holds it."""


def xz_bits_per_byte(documents: Iterable[bytes]) -> float:
    """Return the bits per byte of the documents in one stream, compressed as by `xz -9e`."""
    text = b"".join(documents)
    packed = lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
    return 8 * len(packed) / len(text)


class ByteTrigram:
    """Predict a byte, or the end of the document, from the two bytes before it.

    Probabilities are interpolated with those of the next shorter history, down to the uniform ones,
    with the weights of Witten and Bell 1991 (method C):

        p(c | h) = (count(h c) + T(h)·p(c | shorter h)) / (count(h) + T(h))

    where T(h) is the number of different bytes seen after h.
    """

    def __init__(self, documents: Iterable[bytes]):
        """Count all bytes of the documents."""
        self.counts = np.zeros((256 * 256, 256), np.int64)
        for document in documents:
            history, byte = trigrams(document)
            np.add.at(self.counts, (history, byte), 1)
        bigrams = self.counts.reshape(256, 256, 256).sum(0)
        unigrams = bigrams.sum(0)
        lowest = interpolate(unigrams[None], np.full((1, 256), 1 / 256))
        self.shorter = interpolate(bigrams, lowest)
        self.totals, self.kinds = self.counts.sum(-1), kinds_of(self.counts)

    def bits_per_byte(self, documents: Iterable[bytes]) -> float:
        """Score unseen documents; the end of each costs bits but does not count as a byte."""
        bits, size = 0.0, 0
        for document in documents:
            history, byte = trigrams(document)
            kinds = self.kinds[history]
            weighted = self.counts[history, byte] + kinds * self.shorter[history % 256, byte]
            bits -= float(np.log2(weighted / (self.totals[history] + kinds)).sum())
            size += len(document)
        return bits / size


def trigrams(document: bytes) -> tuple[Int64[np.ndarray, " n"], UInt8[np.ndarray, " n"]]:
    """Return the two bytes before each byte of a document (as one number), and these bytes.

    The last byte is `END`.
    """
    data = np.frombuffer(END + END + document + END, np.uint8)
    return 256 * data[:-2].astype(np.int64) + data[1:-1], data[2:]


def interpolate(
    counts: Int64[np.ndarray, "histories 256"], shorter: Float64[np.ndarray, "#histories 256"]
) -> Float64[np.ndarray, "histories 256"]:
    """Return the probabilities of all bytes behind each history."""
    kinds = kinds_of(counts)[:, None]
    return (counts + kinds * shorter) / (counts.sum(-1, keepdims=True) + kinds)


def kinds_of(counts: Int64[np.ndarray, "histories 256"]) -> Int64[np.ndarray, " histories"]:
    """Count the different bytes seen behind each history; at least 1, to back off if none is."""
    return np.maximum(1, (counts > 0).sum(-1))
