"""The settings of a text data set, and its preparation on disk."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ostinato.data.build_once import build_once
from ostinato.data.text.corpora import Corpus, read_corpus
from ostinato.data.text.token_set import FACTS_FILE, token_dtype, write_split
from ostinato.data.tokenizer import MIN_VOCAB_SIZE, SEPARATOR, TOKENIZER_FILE, BytePairTokenizer

BUILD = 1  # raise it whenever the same settings would give other files
TOKENIZER_BYTES = 100_000_000
"""The tokenizer is trained on about so much text at most: more does not change its merges."""


@dataclass(frozen=True)
class TextData:
    """A corpus cut into documents, with a tokenizer trained on those for training."""

    corpus: str = "python-stdlib"
    """`python-stdlib`, the sources of the running Python's own library; `shakespeare`;
    `tinystories`, from the Hub; a text file; or a folder, of which every file is a document."""
    separator: str = SEPARATOR
    """Text between the documents of a file of one's own; empty: each file is one document."""
    num_tokens: int = 4096
    """Size of the vocabulary, at most."""
    num_validation: int = 30
    """Documents to follow the training by."""
    num_test: int = 30
    """Documents for the final score; a corpus with a test split of its own gives all of that."""
    data_seed: int = 0
    """Seed of the choice of documents and of their order."""

    def __post_init__(self):
        for name, least in (("num_validation", 1), ("num_test", 1), ("data_seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if self.num_tokens < MIN_VOCAB_SIZE:
            raise ValueError(
                f"num_tokens {self.num_tokens} is less than the {MIN_VOCAB_SIZE} of bytes"
            )

    def prepare(self, root: Path, report: Callable[[str], None]) -> Path:
        """The folder under `root` with these data, as `TokenSet` describes it.

        It is built on the first call and used again later; its name holds a hash of the settings
        and of all documents. An interrupted build leaves nothing behind that would be used.
        Raises ValueError for a missing or faulty corpus, and where there are too few documents.
        """
        corpus = read_corpus(self.corpus, self.separator, report)
        facts = {
            **asdict(self),
            "corpus": Path(self.corpus).name,
            "source": corpus.facts,
            "documents_sha256": corpus.sha256(),
            "build": BUILD,
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        folder = Path(root) / f"text-{Path(self.corpus).stem}-{digest[:12]}"
        return build_once(folder, lambda place: self._build(place, corpus, facts, report), report)

    def _build(
        self, folder: Path, corpus: Corpus, facts: dict[str, Any], report: Callable[[str], None]
    ) -> None:
        splits = self._split(corpus)
        training = splits["train"][0]
        report(f"training a tokenizer of {self.num_tokens:,} tokens on {len(training):,} documents")
        tokenizer = BytePairTokenizer.train(first_bytes(training, TOKENIZER_BYTES), self.num_tokens)
        tokenizer.save(folder / TOKENIZER_FILE)
        written = {}
        for split, (texts, names) in splits.items():
            written[split] = write_split(folder, split, tokenizer, texts, names)
            report(
                "{}: {documents:,} documents, {bytes:,} bytes, {tokens:,} tokens".format(
                    split, **written[split]
                )
            )
        dtype = token_dtype(tokenizer.vocab_size).str
        content = {**facts, "vocab_size": tokenizer.vocab_size, "dtype": dtype, "splits": written}
        (folder / FACTS_FILE).write_text(json.dumps(content, indent=2) + "\n", "utf-8")

    def _split(self, corpus: Corpus) -> dict[str, tuple[list[str], list[str]]]:
        """Texts and names by split, each document in one of them, in random order."""
        count, num_test = len(corpus.documents), 0 if corpus.test else self.num_test
        if count <= self.num_validation + num_test:
            raise ValueError(
                f"{self.corpus} has {count} documents, too few to hold out {self.num_validation} "
                f"for validation and {num_test} for test: lower these, or set the separator "
                f"between documents, which is {self.separator!r}"
            )
        order = np.random.default_rng(self.data_seed).permutation(count)
        bounds = np.cumsum([num_test, self.num_validation])
        splits, parts = {}, np.split(order, bounds)
        for split, part in zip(("test", "validation", "train"), parts, strict=True):
            chosen = part.tolist()
            texts = [corpus.documents[number] for number in chosen]
            splits[split] = texts, [corpus.names[number] for number in chosen]
        if corpus.test:
            splits["test"] = corpus.test, [str(number) for number in range(len(corpus.test))]
        return {split: splits[split] for split in ("train", "validation", "test")}


def first_bytes(texts: Iterable[str], most: int) -> Iterable[str]:
    """The first texts, until they have `most` characters."""
    for text in texts:
        yield text
        most -= len(text)
        if most <= 0:
            return
