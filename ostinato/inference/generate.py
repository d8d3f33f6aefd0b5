"""`generate()` runs a language model. Commands, server and tests loop over it:

for piece in generate(model, "Once upon a time"):
    print(piece, end="", flush=True)
"""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ostinato.data.text.tokenizer import TOKENIZER_FILE, BytePairTokenizer
from ostinato.data.text.words import AnyTokenizer, read_tokenizer
from ostinato.inference.decoder import Decoder, Way
from ostinato.inference.sampling import Sampler, Sampling, log_softmax
from ostinato.models.nanochat import NanoChat


@runtime_checkable
class Tokenizer(Protocol):
    """Define what generation needs of a tokenizer."""

    end_tokens: frozenset[int]
    """Tokens that end a text, such as the separator of documents."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, with the start token that the model expects, if any."""
        ...

    def token_bytes(self, token: int, previous: int) -> bytes:
        """Return the bytes of a token: possibly part of a character, possibly none.

        `previous` is the token before it: some tokenizers drop the space at the start of a text.
        """
        ...


Finish = Literal["", "end", "stop", "length"]


@dataclass(frozen=True)
class Piece:
    """Hold the text that one more token adds."""

    text: str
    """New text; empty while a character is incomplete or a stop string may have begun."""
    token: int
    logprob: float
    """Log probability that the model gave to the token, before any sampling setting."""
    finish: Finish = ""
    """Reason to stop, on the last piece: a token that ends texts, a stop string, or the length."""
    likeliest: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens and their log probabilities, where they were asked for."""

    def __str__(self) -> str:
        return self.text


def generate(
    model: NanoChat,
    prompt: str | Sequence[int],
    tokenizer: Tokenizer | None = None,
    sampling: Sampling = Sampling(),
    max_tokens: int | None = None,
    stop: Sequence[str] = (),
    product: Way | Literal["auto"] = "auto",
) -> Iterator[Piece]:
    """Continue a text, one piece per token, until the model ends it or a limit is reached.

    `tokenizer` defaults to the one that the model was loaded with. `max_tokens` defaults to, and is
    bounded by, the room in the model's context. Text is cut before a stop string. The joined texts
    of all pieces are valid: bytes that form no UTF-8 character become �. They do not contain the
    prompt. `product` is the way to multiply: see `ostinato.inference.decoder`. Raises ValueError
    at once for an empty or too long prompt and for settings out of range.
    """
    tokenizer = tokenizer or tokenizer_of(model)
    tokens = tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
    check_prompt(model, tokens)
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
    if "" in stop:
        raise ValueError("a stop string must not be empty")
    if sampling.exit_threshold < 1 and model.config.num_loops == 1:
        raise ValueError("the model has no loops to leave: set exit_threshold to 1")
    room = model.config.seq_len - len(tokens) + 1  # the model need not read the last token
    return pieces(model, tokens, tokenizer, sampling, min(max_tokens or room, room), stop, product)


def tokenizer_of(model: NanoChat) -> AnyTokenizer:
    """Return the tokenizer that a model was loaded with.

    Raises ValueError if it has none, or one whose size differs from the model's vocabulary.
    """
    if not model.tokenizer_json:
        raise ValueError(
            f"the model has no {TOKENIZER_FILE} beside its weights: copy there the one of its run"
        )
    tokenizer = read_tokenizer(model.tokenizer_json)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}:"
            f" use the {TOKENIZER_FILE} that the model was trained with"
        )
    return tokenizer


def byte_tokenizer_of(model: NanoChat) -> BytePairTokenizer:
    """Return the tokenizer of a model, as `tokenizer_of`; ValueError if its tokens are words."""
    tokenizer = tokenizer_of(model)
    if not isinstance(tokenizer, BytePairTokenizer):
        raise ValueError(
            "the model's tokens are words, which neither conversations nor GGUF know: use "
            "ostinato generate, or export it as safetensors"
        )
    return tokenizer


def check_prompt(model: NanoChat, tokens: Sequence[int]) -> None:
    """Raise ValueError for a prompt that the model cannot continue."""
    config = model.config
    if not tokens:
        raise ValueError("the prompt is empty: give at least one token of text")
    if len(tokens) > config.seq_len:
        raise ValueError(
            f"the prompt has {len(tokens)} tokens, the model reads {config.seq_len}: shorten it"
        )
    if not 0 <= min(tokens) <= max(tokens) < config.vocab_size:
        raise ValueError(
            f"the prompt has the token {max(tokens, key=abs)}, the model knows 0 to "
            f"{config.vocab_size - 1}: use the tokenizer that the model was trained with"
        )


def pieces(
    model: NanoChat,
    tokens: Sequence[int],
    tokenizer: Tokenizer,
    sampling: Sampling,
    max_tokens: int,
    stop: Sequence[str],
    product: Way | Literal["auto"],
) -> Iterator[Piece]:
    """Run the loop of `generate` on checked arguments."""
    text = Continuation(tokenizer, tokens[-1], max_tokens, stop)
    for token, logprob in next_tokens(model, tokens, sampling, product):
        piece = text.add(token, logprob)
        yield piece
        if piece.finish:
            return


class Continuation:
    """Turn tokens into pieces, and find where the text ends."""

    def __init__(self, tokenizer: Tokenizer, previous: int, max_tokens: int, stop: Sequence[str]):
        """Begin behind the token `previous`."""
        self.tokenizer, self.previous, self.room = tokenizer, previous, max_tokens
        self.writer = Writer(stop)

    def add(
        self, token: int, logprob: float, likeliest: tuple[tuple[int, float], ...] = ()
    ) -> Piece:
        """Return the piece of one more token."""
        self.room -= 1
        finish: Finish = "" if self.room else "length"
        if token in self.tokenizer.end_tokens:
            text, finish = self.writer.close(), "end"
        else:
            text = self.writer.write(self.tokenizer.token_bytes(token, self.previous))
            if finish and not self.writer.stopped:
                text += self.writer.close()
            finish = "stop" if self.writer.stopped else finish
        self.previous = token
        return Piece(text, token, logprob, finish, likeliest)


def next_tokens(
    model: NanoChat,
    tokens: Sequence[int],
    sampling: Sampling,
    product: Way | Literal["auto"] = "auto",
) -> Iterator[tuple[int, float]]:
    """Yield each next token and its log probability until the context is full.

    The weights are packed first if necessary: give a packed model to generate more than once.
    """
    decoder = Decoder(model, product=product, exit_threshold=sampling.exit_threshold)
    sampler = Sampler(sampling, tokens)
    logits = decoder.read(tokens)
    while True:
        numbers = logits.float().numpy(force=True)
        token = sampler.draw(numbers)
        yield token, float(log_softmax(numbers)[token])
        if decoder.lengths[0] == model.config.seq_len:
            return
        logits = decoder.step([token], [0])[0]


class Writer:
    """Turn incoming bytes into text: only whole characters, cut before a stop string."""

    def __init__(self, stop: Sequence[str]):
        self.stop = tuple(stop)
        self.stopped = False
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.held = ""

    def write(self, data: bytes) -> str:
        """Add bytes and return the text that is now certain."""
        return self._release(self.decoder.decode(data), final=False)

    def close(self) -> str:
        """Return the rest of the text."""
        return self._release(self.decoder.decode(b"", final=True), final=True)

    def _release(self, text: str, final: bool) -> str:
        text, self.held = self.held + text, ""
        found = [at for string in self.stop if (at := text.find(string)) >= 0]
        if found:
            self.stopped = True
            return text[: min(found)]
        if final:
            return text
        held = max((overlap(text, string) for string in self.stop), default=0)
        released = len(text) - held
        self.held = text[released:]
        return text[:released]


def overlap(text: str, string: str) -> int:
    """Return the length of the longest proper prefix of `string` that `text` ends with."""
    return max(n for n in range(len(string)) if text.endswith(string[:n]))
