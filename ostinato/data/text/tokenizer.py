"""Convert text to tokens and back by byte-level BPE, trained on the corpus.

Sources: the merges are from Sennrich et al. 2016 (arXiv 1508.07909). Working on bytes, so that no
text has unknown tokens, and the cuts between words before any merge are from GPT-2.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ostinato.decoding import read_text
from ostinato.files import write_text

TOKENIZER_FILE = "tokenizer.json"
"""Name of the file in a data set and in a run folder."""
SEPARATOR = "<|endoftext|>"
"""Token between two documents. The same characters in a text are ordinary text."""
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
"""Tokens around each turn of a conversation; in a text, these characters are ordinary text too."""
MIN_VOCAB_SIZE = 257
"""Size of the smallest vocabulary: the separator and the 256 bytes."""
TEXTS_AT_ONCE = 256


class BytePairTokenizer:
    """Convert text ↔ tokens. Implements `ostinato.inference.generate.Tokenizer`."""

    def __init__(self, tokenizer: Tokenizer):
        """Wrap a byte-level BPE. Raises ValueError if it is something else."""
        settings, separator = _settings(tokenizer), tokenizer.token_to_id(SEPARATOR)
        if settings != ("BPE", "ByteLevel", False) or separator is None:
            raise ValueError(
                f"the tokenizer is no byte-level BPE with the token {SEPARATOR}: train one"
            )
        tokenizer.encode_special_tokens = True  # the separator's name in a text is ordinary text
        self.tokenizer = tokenizer
        self.separator: int = separator
        self.turn_start: int | None = tokenizer.token_to_id(TURN_START)
        self.turn_end: int | None = tokenizer.token_to_id(TURN_END)
        ends = (separator, self.turn_end)
        self.end_tokens = frozenset(token for token in ends if token is not None)
        special, vocabulary = tokenizer.get_added_tokens_decoder(), tokenizer.get_vocab()
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise ValueError("the tokens of the tokenizer are not numbered 0, 1, 2, …: restore it")
        self._bytes = [b""] * len(vocabulary)
        for name, token in vocabulary.items():
            if token not in special:
                if not BYTES.keys() >= set(name):
                    raise ValueError(f"the token {name!r} of the tokenizer is no bytes: restore it")
                self._bytes[token] = bytes(BYTES[character] for character in name)

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, turns: bool = False
    ) -> "BytePairTokenizer":
        """Learn the merges from `texts`; there may be fewer tokens if the texts are short.

        With `turns`, the two tokens around turns of conversations are reserved. The same texts give
        the same tokenizer. Raises ValueError if `vocab_size` is too small.
        """
        special = [SEPARATOR, TURN_START, TURN_END] if turns else [SEPARATOR]
        if vocab_size < 256 + len(special):
            raise ValueError(
                f"vocab_size {vocab_size} is too small: {', '.join(special)} and all bytes are "
                f"{256 + len(special)}"
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> "BytePairTokenizer":
        """Load a tokenizer that `save` wrote, or another byte-level BPE such as GPT-2's.

        Raises ValueError, naming the file, if it is missing, damaged or of another kind.
        """
        return cls.of_json(read_text(path), str(path))

    @classmethod
    def of_json(cls, text: str, source: str = "tokenizer.json") -> "BytePairTokenizer":
        """Load a tokenizer from `to_json`. Raises ValueError if the text is damaged or foreign."""
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # noqa: BLE001 the library raises nothing narrower
            raise ValueError(
                f"{source}: no tokenizer, or a damaged one ({error}): restore it"
            ) from None
        try:
            return cls(tokenizer)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None

    def with_turns(self) -> "BytePairTokenizer":
        """Return this tokenizer with the tokens around turns, which it gets last if it lacks
        them."""
        if self.turn_start is not None and self.turn_end is not None:
            return self
        extended = Tokenizer.from_str(self.to_json())
        extended.add_special_tokens([TURN_START, TURN_END])
        return type(self)(extended)

    def save(self, path: Path) -> None:
        """Write the tokenizer as JSON, in the format of the `tokenizers` library."""
        write_text(path, self.to_json())

    def to_json(self) -> str:
        """Return the tokenizer as JSON."""
        return self.tokenizer.to_str(pretty=True)

    @property
    def vocab_size(self) -> int:
        """Count the tokens, including the separator."""
        return self.tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Return the separator, which begins a document, and the tokens of `text`.

        Raises ValueError if the text has bytes that are not UTF-8.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("the text is not in UTF-8: convert it") from None
        return [self.separator, *self.tokenizer.encode(text).ids]

    def encode_all(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """Yield the tokens of each text, without separators; texts are encoded in parallel."""
        waiting = iter(texts)
        while some := list(islice(waiting, TEXTS_AT_ONCE)):
            for encoding in self.tokenizer.encode_batch_fast(some):
                yield encoding.ids

    def token_bytes(self, token: int, previous: int = -1) -> bytes:
        """Return the bytes of a token, possibly part of a character; none for special tokens."""
        return self._bytes[token]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens; bytes that form no UTF-8 character become �."""
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", "replace")


def _settings(tokenizer: Tokenizer) -> tuple[str, str, object]:
    """Return the kinds of model and pre-tokenizer, and whether a space is put before a text."""
    before = tokenizer.pre_tokenizer
    prefix = getattr(before, "add_prefix_space", None)
    return type(tokenizer.model).__name__, type(before).__name__, prefix


def _byte_names() -> dict[str, int]:
    """Return the character that stands for each byte in token names, as in GPT-2.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, are the characters
    256, 257, …
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    names = {chr(byte): byte for byte in printable}
    return names | {chr(256 + place): byte for place, byte in enumerate(others)}


BYTES = _byte_names()
"""Character in the name of a token → byte."""
