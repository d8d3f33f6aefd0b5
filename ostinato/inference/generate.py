"""`generate()`: the one way to run a language model. Commands, server and tests loop over it.

for piece in generate(model, "Once upon a time"):
    print(piece, end="", flush=True)
"""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ostinato.data.text.tokenizer import TOKENIZER_FILE, BytePairTokenizer
from ostinato.models.nanochat import NanoChat
from ostinato.numbers import Seed, check_numbers

LEAST_DIVISOR = 1e-6
"""Logits divided by less than this may overflow."""


@runtime_checkable
class Tokenizer(Protocol):
    """What generation needs of a tokenizer."""

    end_tokens: frozenset[int]
    """Tokens that end a text, such as the separator of documents."""

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, with whatever the model expects in front of one."""
        ...

    def token_bytes(self, token: int, previous: int) -> bytes:
        """The bytes that a token stands for: perhaps a part of a character, perhaps none.

        `previous` is the token before it: some drop the space at the beginning of a text.
        """
        ...


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The defaults draw from the model's own distribution."""

    temperature: float = 1.0
    """Divides the logits; 0: always the most likely token."""
    top_k: int = 0
    """Draw from this many most likely tokens; 0: from all."""
    top_p: float = 1.0
    """Draw from the most likely tokens that together reach this probability; 1: from all."""
    min_p: float = 0.0
    """Draw from tokens at least this probable, relative to the most likely one; 0: from all."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that have occurred, in the prompt too, get less likely; 1: no change."""
    seed: Seed = 0
    """Of the random numbers: the same seed gives the same text."""

    def __post_init__(self):
        check_numbers(self)
        if not (self.temperature == 0 or self.temperature >= LEAST_DIVISOR):
            raise ValueError(
                f"temperature must be 0 or more, and if not 0 at least {LEAST_DIVISOR:g}, "
                f"not {self.temperature}"
            )
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (all) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be between 0 and 1, not {self.min_p}")
        if not LEAST_DIVISOR <= self.repetition_penalty <= 1 / LEAST_DIVISOR:
            raise ValueError(
                f"repetition_penalty must be {LEAST_DIVISOR:g} to {1 / LEAST_DIVISOR:g}, "
                f"not {self.repetition_penalty}"
            )


Finish = Literal["", "end", "stop", "length"]


@dataclass(frozen=True)
class Piece:
    """What one more token added to the text."""

    text: str
    """Empty while a character is incomplete, or where a stop string may have begun."""
    token: int
    logprob: float
    """Logarithm of the probability the model gave to the token, before any sampling setting."""
    finish: Finish = ""
    """On the last piece, why it is the last: a token that ends texts, a stop string, or length."""

    def __str__(self) -> str:
        return self.text


def generate(
    model: NanoChat,
    prompt: str | Sequence[int],
    tokenizer: Tokenizer | None = None,
    sampling: Sampling = Sampling(),
    max_tokens: int | None = None,
    stop: Sequence[str] = (),
) -> Iterator[Piece]:
    """Continue a text, one piece a token, until it ends by itself or as the arguments say.

    `tokenizer` defaults to the one that the model was loaded with.
    `max_tokens` defaults to, and is bounded by, what fits in the model's context. Text from a stop
    string on is not given out. The texts of all pieces, joined, are valid: bytes that form no
    UTF-8 character come as �. The prompt itself is not part of them.
    Raises ValueError at once for an empty or too long prompt and for settings out of range.
    """
    tokenizer = tokenizer or tokenizer_of(model)
    tokens = tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
    check_prompt(model, tokens)
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
    if "" in stop:
        raise ValueError("a stop string must not be empty")
    room = model.config.seq_len - len(tokens) + 1  # the last token need not be read again
    return pieces(model, tokens, tokenizer, sampling, min(max_tokens or room, room), stop)


def tokenizer_of(model: NanoChat) -> BytePairTokenizer:
    """The tokenizer that a model was loaded with. Raises ValueError if it has none, or a wrong one.

    A wrong one is of another size than the model's vocabulary.
    """
    if not model.tokenizer_json:
        raise ValueError(
            f"the model has no {TOKENIZER_FILE} beside its weights: copy there the one of its run"
        )
    tokenizer = BytePairTokenizer.of_json(model.tokenizer_json)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}:"
            f" use the {TOKENIZER_FILE} that the model was trained with"
        )
    return tokenizer


def check_prompt(model: NanoChat, tokens: Sequence[int]) -> None:
    """ValueError for a prompt that the model cannot continue."""
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
) -> Iterator[Piece]:
    """The loop of `generate`, whose arguments have been checked."""
    writer, previous = Writer(stop), tokens[-1]
    for count, (token, logprob) in enumerate(next_tokens(model, tokens, sampling), start=1):
        finish: Finish = "length" if count == max_tokens else ""
        if token in tokenizer.end_tokens:
            text, finish = writer.close(), "end"
        else:
            text = writer.write(tokenizer.token_bytes(token, previous))
            if writer.stopped:
                finish = "stop"
            elif finish:
                text += writer.close()
                finish = "stop" if writer.stopped else finish
        yield Piece(text, token, logprob, finish)
        if finish:
            return
        previous = token


def next_tokens(
    model: NanoChat, tokens: Sequence[int], sampling: Sampling
) -> Iterator[tuple[int, float]]:
    """Each next token and the logarithm of its probability, until the context is full.

    The weights are packed first, unless the model is: give a packed one to generate more than once.
    """
    model = model.packed()
    device = model.embed_tokens.weight.device
    rng = torch.Generator().manual_seed(sampling.seed)
    cache = model.new_cache(capacity=model.config.seq_len)
    new = torch.tensor([list(tokens)], device=device)
    seen = torch.zeros(model.config.vocab_size, dtype=torch.bool)
    while cache[0].length + new.shape[1] <= model.config.seq_len:
        # Entered anew for every token: a generator must not leave its caller without gradients
        with torch.no_grad():
            logits = model(new, cache)[0, -1].float().cpu()
        seen[new[0].cpu()] = True
        token = choose(logits, seen, sampling, rng)
        yield token, logits.log_softmax(-1)[token].item()
        new = torch.tensor([[token]], device=device)


def choose(
    logits: Float[Tensor, " vocab"],
    seen: Bool[Tensor, " vocab"],
    sampling: Sampling,
    rng: torch.Generator,
) -> int:
    """Pick a token; `seen` marks those that the repetition penalty is for."""
    if sampling.repetition_penalty != 1:
        penalty = sampling.repetition_penalty
        penalized = torch.where(logits > 0, logits / penalty, logits * penalty)
        logits = torch.where(seen, penalized, logits)
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities = candidates(logits / sampling.temperature, sampling)
    return int(torch.multinomial(probabilities, 1, generator=rng))


def candidates(logits: Float[Tensor, " vocab"], sampling: Sampling) -> Float[Tensor, " vocab"]:
    """Probabilities, zero for what top_k, top_p and min_p leave out. The likeliest token stays."""
    probabilities = logits.softmax(-1)
    ranked, order = probabilities.sort(descending=True, stable=True)
    keep = torch.ones_like(ranked, dtype=torch.bool)
    if sampling.top_k:
        keep[sampling.top_k :] = False
    # A token stays if those before it do not yet reach top_p
    share = ranked * keep / (ranked * keep).sum()
    keep &= share.cumsum(0) - share < sampling.top_p
    keep &= ranked >= sampling.min_p * ranked[0]
    kept = torch.zeros_like(probabilities)
    kept[order] = ranked * keep
    return kept / kept.sum()


class Writer:
    """Text from bytes that come bit by bit: whole characters, and nothing from a stop string on."""

    def __init__(self, stop: Sequence[str]):
        self.stop = tuple(stop)
        self.stopped = False
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.held = ""

    def write(self, data: bytes) -> str:
        """The text that is now certain."""
        return self._release(self.decoder.decode(data), final=False)

    def close(self) -> str:
        """The rest of the text."""
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
    """Length of the longest beginning of `string`, but not all of it, with which `text` ends."""
    return max(n for n in range(len(string)) if text.endswith(string[:n]))
