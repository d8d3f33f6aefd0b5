"""The settings of a text data set, and its preparation on disk."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ostinato.data.build_once import build_once
from ostinato.data.text.corpora import Corpus, cut_by_position, read_corpus
from ostinato.data.text.token_set import FACTS_FILE, token_dtype, write_split
from ostinato.data.text.tokenizer import (
    MIN_VOCAB_SIZE,
    SEPARATOR,
    TOKENIZER_FILE,
    BytePairTokenizer,
)
from ostinato.files import write_json
from ostinato.numbers import ABSENT, Natural, Seed, check_numbers

BUILD = 1  # raise it whenever the same settings would give different files
TOKENIZER_BYTES = 100_000_000
"""Approximate limit of the text that trains the tokenizer: more does not change its merges."""
MOST_HELD_OUT = 30
"""Default maximum of documents for validation, and for test."""


@dataclass(frozen=True)
class TextData:
    """Describe a corpus cut into documents, with a tokenizer trained on the training documents."""

    corpus: str = "python-stdlib"
    """`python-stdlib`, the sources of the running Python's library; `shakespeare`; `tinystories`,
    from the Hub; a text file; a JSONL file; or a folder in which every file is a document. A single
    document is cut by position: its end is held out."""
    separator: str = SEPARATOR
    """Text between the documents of your own files. Empty: each file is one document. Written \\n,
    \\r and \\t stand for a line feed, a carriage return and a tab."""
    text_field: str = field(default="text", metadata={ABSENT: "text"})
    """Field with the document in each line of a JSONL file."""
    num_tokens: Natural = 4096
    """Maximum size of the vocabulary."""
    num_validation: Natural = 0
    """Number of validation documents. 0: a twentieth of all, at most 30."""
    num_test: Natural = 0
    """Number of documents for the final score. 0: a twentieth of all, at most 30. A corpus with its
    own test split uses all of that."""
    data_seed: Seed = 0
    """Seed for choosing the documents and their order."""
    turn_tokens: bool = field(default=True, metadata={ABSENT: False})
    """Reserve the two tokens around turns of conversations, for tuning the model to chat."""

    def __post_init__(self):
        check_numbers(self)
        if self.num_tokens < MIN_VOCAB_SIZE:
            raise ValueError(
                f"num_tokens {self.num_tokens} is too small: the bytes and the separator need "
                f"{MIN_VOCAB_SIZE}"
            )

    def prepare(
        self,
        root: Path,
        report: Callable[[str], None],
        tokenizer: BytePairTokenizer | None = None,
        length: int = 0,
    ) -> Path:
        """Build the data set below `root`, in the format of `TokenSet`; return its folder.

        The first call builds it and later calls reuse it; its name holds a hash of the settings and
        of all documents. An interrupted build is never used. A `tokenizer` is used as it is;
        without one, one is trained. Raises ValueError for a missing or faulty corpus, and if there
        are too few documents.
        """
        corpus = read_corpus(self.corpus, unescaped(self.separator), report, self.text_field)
        if len(corpus.documents) == 1 and not (self.num_validation or self.num_test):
            corpus = cut_by_position(corpus, report)
        held_out = self._held_out(corpus)
        facts = {
            **_settings(self),
            **held_out,
            "corpus": Path(self.corpus).name,
            "source": corpus.facts,
            "documents_sha256": corpus.sha256(),
            "build": BUILD,
        }
        if tokenizer is not None:
            facts["tokenizer_sha256"] = _sha256(tokenizer.to_json())
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        folder = Path(root) / f"text-{Path(self.corpus).stem}-{digest[:12]}"
        return build_once(
            folder, lambda place: self._build(place, corpus, facts, tokenizer, report), report
        )

    def _held_out(self, corpus: Corpus) -> dict[str, int]:
        """Count the documents for validation and test. Raises ValueError if there are too few."""
        count = len(corpus.documents)
        usual = min(MOST_HELD_OUT, max(1, count // 20))
        num_test = 0 if corpus.test else self.num_test or usual
        num_validation = self.num_validation or usual
        if count <= num_validation + num_test:
            raise ValueError(
                f"{self.corpus} has too few documents, {count}, to hold out {num_validation} for "
                f"validation and {num_test} for test: ask for fewer, or set the separator between "
                f"documents, which is {self.separator!r}"
            )
        return {"num_validation": num_validation, "num_test": num_test}

    def _build(
        self,
        folder: Path,
        corpus: Corpus,
        facts: dict[str, Any],
        tokenizer: BytePairTokenizer | None,
        report: Callable[[str], None],
    ) -> None:
        splits = self._split(corpus, facts["num_validation"], facts["num_test"])
        training = splits["train"][0]
        if tokenizer is None:
            report(
                f"training a tokenizer of {self.num_tokens:,} tokens on {len(training):,} documents"
            )
            tokenizer = BytePairTokenizer.train(
                first_bytes(training, TOKENIZER_BYTES), self.num_tokens, self.turn_tokens
            )
        tokenizer.save(folder / TOKENIZER_FILE)
        written = {}
        for split, (texts, names) in splits.items():
            size = sum(len(text.encode()) for text in texts)
            tokens = tokenizer.encode_all(texts)
            written[split] = write_split(folder, split, tokenizer, tokens, names, size)
            report(
                "{}: {documents:,} documents, {bytes:,} bytes, {tokens:,} tokens".format(
                    split, **written[split]
                )
            )
        dtype = token_dtype(tokenizer.vocab_size).str
        content = {
            **facts,
            "vocab_size": tokenizer.vocab_size,
            "tokenizer_sha256": _sha256(tokenizer.to_json()),
            "dtype": dtype,
            "splits": written,
        }
        write_json(folder / FACTS_FILE, content)

    def _split(
        self, corpus: Corpus, num_validation: int, num_test: int
    ) -> dict[str, tuple[list[str], list[str]]]:
        """Return texts and names by split, each document in one split, in random order."""
        count = len(corpus.documents)
        order = np.random.default_rng(self.data_seed).permutation(count)
        if corpus.in_order:
            order = np.arange(count)[::-1]
        bounds = np.cumsum([num_test, num_validation])
        splits, parts = {}, np.split(order, bounds)
        for split, part in zip(("test", "validation", "train"), parts, strict=True):
            chosen = part.tolist()
            texts = [corpus.documents[number] for number in chosen]
            splits[split] = texts, [corpus.names[number] for number in chosen]
        if corpus.test:
            splits["test"] = corpus.test, [str(number) for number in range(len(corpus.test))]
        return {split: splits[split] for split in ("train", "validation", "test")}


def unescaped(text: str) -> str:
    """Replace written \\n, \\r and \\t by line feeds, carriage returns and tabs."""
    for written, meant in ((r"\n", "\n"), (r"\r", "\r"), (r"\t", "\t")):
        text = text.replace(written, meant)
    return text


def _settings(data: TextData) -> dict[str, Any]:
    """Return the settings that name a data set, without those that older ones lack."""
    older = {f.name: f.metadata[ABSENT] for f in fields(data) if ABSENT in f.metadata}
    return {k: v for k, v in asdict(data).items() if k not in older or v != older[k]}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def first_bytes(texts: Iterable[str], most: int) -> Iterable[str]:
    """Yield the first texts until they have `most` characters."""
    for text in texts:
        yield text
        most -= len(text)
        if most <= 0:
            return
