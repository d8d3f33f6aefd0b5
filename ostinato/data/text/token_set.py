"""Store the tokens of a split in one row on disk, and read windows of them.

A data set folder holds `tokenizer.json`, `text.json` and, for each split, `SPLIT.tokens` (little
endian uint16, or uint32 for large vocabularies), `SPLIT.documents.npy` (where documents begin) and
`SPLIT.names.txt`. The row is

    separator document separator document … separator

so every token but the first can be predicted, including the end of each document.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Int64, Integer
from msgspec import Meta
from torch import Tensor

from ostinato.data.metadata import write_array
from ostinato.data.text.tokenizer import TOKENIZER_FILE, BytePairTokenizer
from ostinato.decoding import read_json, read_npy, rises
from ostinato.files import atomic, write_text

SPLITS = ("train", "validation", "test")
FACTS_FILE = "text.json"
IGNORE_LABEL = -100
"""Label of a position that is not scored (cross-entropy's default in torch)."""
Windows = tuple[Int64[Tensor, "batch _"], Int64[Tensor, "batch seq"]]
"""Windows of tokens, and the label of each position."""

Count = Annotated[int, Meta(ge=1, lt=2**62)]


@dataclass(frozen=True)
class SplitFacts:
    """Hold the entry of a split in `text.json`."""

    tokens: Count
    bytes: Count
    sha256: str


@dataclass(frozen=True)
class Facts:
    """Hold the part of `text.json` that is used."""

    splits: dict[str, SplitFacts]
    dtype: Literal["<u2", "<u4"]
    scored_behind: str = ""
    """Sign behind which a token is scored, as in questions and answers; empty: all tokens are."""
    tokenizer_sha256: str = ""
    """SHA-256 of `tokenizer.json`; empty in older data sets."""
    conversations: bool = False
    """True if the documents are conversations."""


def read_facts(folder: Path, split: str) -> Facts:
    """Read `text.json`; ValueError if it is damaged or has no such split."""
    lacking = f"{folder} holds no {split} split of texts: build it anew"
    facts: Facts = read_json(folder / FACTS_FILE, Facts, lacking)
    if split not in facts.splits:
        raise ValueError(lacking)
    return facts


@dataclass(frozen=True, eq=False)
class TokenSet:
    """Hold a split: all tokens in one row, memory-mapped from disk."""

    tokens: Integer[np.ndarray, " tokens"]
    documents: Int64[np.ndarray, " documents"]
    """Start of each document, behind its separator."""
    tokenizer: BytePairTokenizer
    num_bytes: int
    """Number of bytes of all documents."""
    fingerprint: str
    """SHA-256 of tokens and documents."""

    @classmethod
    def load(cls, folder: Path, split: str) -> "TokenSet":
        """Load a split of the data set in `folder`.

        Tokens, documents and tokenizer are hashed. Raises ValueError if there is no such split, or
        if it has changed since it was written.
        """
        anew = f"remove {folder} to build it anew"
        facts = read_facts(folder, split)
        kept, path = facts.splits[split], folder / f"{split}.tokens"
        expected = kept.tokens * np.dtype(facts.dtype).itemsize
        if not path.is_file() or path.stat().st_size != expected:
            raise ValueError(f"{path} is missing or damaged: {anew}")
        begins = folder / f"{split}.documents.npy"
        documents = read_npy(begins, "i", 1, anew).astype(np.int64)
        if not rises(np.array([0, *documents, kept.tokens]), kept.tokens):
            raise ValueError(f"{begins} is damaged: {anew}")
        tokenizer = BytePairTokenizer.load(folder / TOKENIZER_FILE)
        tokens = np.memmap(path, facts.dtype, mode="r")
        if tokens.max() >= tokenizer.vocab_size:
            raise ValueError(f"{path} has the unknown token {tokens.max()}: {anew}")
        texts = cls(
            tokens=tokens,
            documents=documents,
            tokenizer=tokenizer,
            num_bytes=kept.bytes,
            fingerprint=kept.sha256,
        )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        digest.update(texts.documents.tobytes())
        tokenizer = hashlib.sha256((folder / TOKENIZER_FILE).read_bytes()).hexdigest()
        is_theirs = facts.tokenizer_sha256 in ("", tokenizer)
        if digest.hexdigest() != texts.fingerprint or not is_theirs:
            raise ValueError(f"the {split} texts in {folder} have changed: {anew}")
        return texts

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def num_scored(self) -> int:
        """Count the tokens that are predicted: all but the first."""
        return len(self) - 1

    @property
    def scored_bytes(self) -> int:
        """Count the bytes of text that are predicted."""
        return self.num_bytes

    def check_length(self, length: int) -> None:
        """Raise ValueError if there are too few tokens for windows of `length`."""
        WindowOrder(len(self), length, seed=0)

    def texts(self) -> Iterator[bytes]:
        """Yield the documents, byte for byte."""
        ends = [*self.documents[1:], len(self.tokens)]
        for begin, end in zip(self.documents, ends, strict=True):
            tokens = self.tokens[begin : end - 1].tolist()
            yield b"".join(self.tokenizer.token_bytes(token) for token in tokens)

    def bytes_of_tokens(self) -> Int64[Tensor, " vocab"]:
        """Return the number of bytes of text of each token; 0 for the separator."""
        tokens = range(self.tokenizer.vocab_size)
        return torch.tensor([len(self.tokenizer.token_bytes(token)) for token in tokens])

    def windows(
        self, starts: Int64[np.ndarray, " batch"], length: int
    ) -> Int64[Tensor, "batch length"]:
        """Return `length` tokens from each start on."""
        places = starts[:, None] + np.arange(length)
        return torch.from_numpy(self.tokens[places].astype(np.int64))

    def batches(self, length: int, size: int, seed: int = 0, start: int = 0) -> Iterator[Windows]:
        """Yield batches of `size` windows of `length` + 1 tokens, from window `start` on."""
        for starts in WindowOrder(len(self), length, seed).batches(size, start):
            windows = self.windows(starts, length + 1)
            yield windows, windows[:, 1:]

    def evaluation(
        self, length: int, context: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Windows]:
        """Yield inputs and labels of this rank's windows, padded to `length` with ignored labels.

        Every token but the first is a label once; `context` tokens of each window are read again.
        """
        stride = length - context
        firsts = np.arange(0, len(self) - 1, stride)[rank::world_size]
        for chosen in np.split(firsts, range(batch_size, len(firsts), batch_size)):
            inputs = torch.zeros(len(chosen), length, dtype=torch.long)
            labels = torch.full_like(inputs, IGNORE_LABEL)
            for row, first in enumerate(chosen.tolist()):
                begin, end = max(0, first - context), min(first + stride, len(self) - 1)
                window = torch.from_numpy(self.tokens[begin : end + 1].astype(np.int64))
                inputs[row, : end - begin] = window[:-1]
                labels[row, first - begin : end - begin] = window[first - begin + 1 :]
            yield inputs, labels


def write_split(
    folder: Path,
    split: str,
    tokenizer: BytePairTokenizer,
    texts: Iterable[list[int]],
    names: Sequence[str],
    num_bytes: int,
) -> dict[str, Any]:
    """Write the files of a split, given its documents' tokens; return its entry for `text.json`."""
    digest, begins, count = hashlib.sha256(), [], 0
    with atomic(folder / f"{split}.tokens") as file:

        def write(tokens: Iterable[int]) -> None:
            nonlocal count
            data = np.fromiter(tokens, token_dtype(tokenizer.vocab_size))
            file.write(data.tobytes())
            digest.update(data.tobytes())
            count += len(data)

        write([tokenizer.separator])
        for tokens in texts:
            begins.append(count)
            write([*tokens, tokenizer.separator])
    documents = np.array(begins, np.int64)
    write_array(folder / f"{split}.documents.npy", documents)
    write_text(folder / f"{split}.names.txt", "".join(f"{name}\n" for name in names))
    digest.update(documents.tobytes())
    return {
        "documents": len(names),
        "tokens": count,
        "bytes": num_bytes,
        "sha256": digest.hexdigest(),
    }


def token_dtype(vocab_size: int) -> np.dtype:
    """Return the smallest dtype that holds all tokens."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


@dataclass(frozen=True)
class WindowOrder:
    """Order the training windows of `length` + 1 tokens, as a function of a seed.

    An epoch begins at a random one of the first `length` tokens and cuts the row from there into
    windows; the last token of a window is the first of the next. It visits them in random order,
    and epochs follow each other without a gap. Window number n depends on nothing else.
    """

    num_tokens: int
    length: int
    seed: int

    def __post_init__(self):
        if self.per_epoch < 1:
            raise ValueError(
                f"{self.num_tokens} training tokens are too few for windows of {self.length}: give "
                "more text, or lower seq_len"
            )

    @property
    def per_epoch(self) -> int:
        """Count the windows of an epoch."""
        return (self.num_tokens - 1) // self.length - 1

    def epoch(self, number: int) -> Int64[np.ndarray, " windows"]:
        """Return the starts of the windows of an epoch, in training order."""
        key = np.array([self.seed, number], np.uint64)
        rng = np.random.Generator(np.random.Philox(key=key))
        return rng.integers(self.length) + self.length * rng.permutation(self.per_epoch)

    def batches(self, size: int, start: int = 0) -> Iterator[Int64[np.ndarray, " batch"]]:
        """Yield the starts of `size` windows at a time, from window `start` on, without end."""
        number, place = divmod(start, self.per_epoch)
        waiting = self.epoch(number)[place:]
        while True:
            while len(waiting) < size:
                number += 1
                waiting = np.concatenate([waiting, self.epoch(number)])
            yield waiting[:size]
            waiting = waiting[size:]
