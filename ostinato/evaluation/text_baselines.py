"""What other means need for the same text: a model that counts bytes, and a compressor."""

import lzma
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float64, Int64, UInt8

END = b"\0"
"""Stands before a document, twice, and behind it; text hardly ever holds it."""


def xz_bits_per_byte(documents: Iterable[bytes]) -> float:
    """Of the documents in one stream, compressed as by `xz -9e`."""
    text = b"".join(documents)
    packed = lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
    return 8 * len(packed) / len(text)


class ByteTrigram:
    """Predicts a byte, or the end of the document, from the two bytes before it.

    Probabilities are interpolated with those of one byte less, down to the uniform ones, with
    weights after Witten and Bell 1991 (method C):

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
        """Of documents it has not seen; the end of each is paid for, but is no byte."""
        bits, size = 0.0, 0
        for document in documents:
            history, byte = trigrams(document)
            kinds = self.kinds[history]
            weighted = self.counts[history, byte] + kinds * self.shorter[history % 256, byte]
            bits -= float(np.log2(weighted / (self.totals[history] + kinds)).sum())
            size += len(document)
        return bits / size


def trigrams(document: bytes) -> tuple[Int64[np.ndarray, " n"], UInt8[np.ndarray, " n"]]:
    """Each byte of a document and its end, and the two bytes before it as one number."""
    data = np.frombuffer(END + END + document + END, np.uint8)
    return 256 * data[:-2].astype(np.int64) + data[1:-1], data[2:]


def interpolate(
    counts: Int64[np.ndarray, "histories 256"], shorter: Float64[np.ndarray, "#histories 256"]
) -> Float64[np.ndarray, "histories 256"]:
    """Probabilities of all bytes behind each history."""
    kinds = kinds_of(counts)[:, None]
    return (counts + kinds * shorter) / (counts.sum(-1, keepdims=True) + kinds)


def kinds_of(counts: Int64[np.ndarray, "histories 256"]) -> Int64[np.ndarray, " histories"]:
    """Different bytes seen behind each history; 1 where there are none, for the shorter's sake."""
    return np.maximum(1, (counts > 0).sum(-1))
