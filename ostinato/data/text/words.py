"""Convert text to tokens and back where every token is a word of a short list.

The file is that of a WordLevel model of the `tokenizers` library, cut at white space, so that other
programs read it too.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec
from tokenizers import Tokenizer, models, pre_tokenizers

from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.decoding import decode_json, read_text
from ostinato.files import write_text

END = "DONE"
"""Word that ends a text."""


class WordTokenizer:
    """Convert text ↔ tokens. Implements `ostinato.inference.generate.Tokenizer`."""

    def __init__(self, words: Iterable[str]):
        """Number the words from 0. Raises ValueError if one is double, or none ends a text."""
        self.words = list(words)
        self.numbers = {word: number for number, word in enumerate(self.words)}
        if len(self.numbers) < len(self.words) or END not in self.numbers:
            raise ValueError(f"the words of a tokenizer must differ, and {END} be among them")
        self.end_tokens = frozenset([self.numbers[END]])

    @classmethod
    def of_json(cls, text: str, source: str = "tokenizer.json") -> "WordTokenizer":
        """Load a tokenizer from `to_json`. Raises ValueError if the text is damaged or foreign."""
        found: _File = decode_json(text, _File, source, "restore it")
        numbers = found.model.vocab
        if sorted(numbers.values()) != list(range(len(numbers))):
            raise ValueError(f"{source}: the words are not numbered 0, 1, 2, …: restore it")
        return cls(sorted(numbers, key=numbers.__getitem__))

    def to_json(self) -> str:
        """Return the tokenizer as JSON."""
        tokenizer = Tokenizer(models.WordLevel(self.numbers, unk_token=self.words[0]))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return tokenizer.to_str(pretty=True)

    def save(self, path: Path) -> None:
        """Write the tokenizer as JSON, in the format of the `tokenizers` library."""
        write_text(path, self.to_json())

    @property
    def vocab_size(self) -> int:
        """Count the tokens."""
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text. Raises ValueError that names an unknown word."""
        found = text.split()
        for word in found:
            if word not in self.numbers:
                raise ValueError(
                    f"the model does not know the word {word[:40]!r}: it knows "
                    f"{', '.join(self.words[:16])}"
                )
        return [self.numbers[word] for word in found]

    def token_bytes(self, token: int, previous: int = -1) -> bytes:
        """Return a word, with a space before it unless it begins the text."""
        return (" " * (previous >= 0) + self.words[token]).encode()

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens."""
        return " ".join(self.words[token] for token in tokens)


class _Model(msgspec.Struct):
    vocab: dict[str, int]


class _File(msgspec.Struct):
    model: _Model


AnyTokenizer = BytePairTokenizer | WordTokenizer


def read_tokenizer(text: str, source: str = "tokenizer.json") -> AnyTokenizer:
    """Return the tokenizer in the content of a `tokenizer.json`; ValueError if it is damaged."""
    try:
        content = decode_json(text, dict, source, "restore it")
    except ValueError as error:
        raise ValueError(f"no tokenizer, or a damaged one: {error}") from None
    model = content.get("model")
    kind = WordTokenizer if isinstance(model, dict) and model.get("type") == "WordLevel" else None
    return (kind or BytePairTokenizer).of_json(text, source)


def load_tokenizer(path: Path) -> AnyTokenizer:
    """Return the tokenizer in a file; ValueError, naming it, if it is missing or damaged."""
    return read_tokenizer(read_text(path), str(path))
