"""The forms of OpenAI's API: what a request may say, and how answers are written.

Settings that would do nothing here are refused; null means everywhere that a field is not given.
Two settings that OpenAI lacks are taken: top_k and min_p.
"""

import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from ostinato.data.text.template import Message
from ostinato.inference.batch import Writing
from ostinato.inference.generate import Piece, Tokenizer
from ostinato.inference.sampling import Sampling

FINISH = {"end": "stop", "stop": "stop", "length": "length"}
"""Reason to stop: ours → OpenAI's."""
MAX_STOPS = 4
"""Stop strings of a request, as in OpenAI's API."""


def described(kinds: str) -> WrapValidator:
    """Say in one line what a field of several kinds may be; pydantic only blames the first kind."""

    def check(value: Any, validate: Any) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise PydanticCustomError("kinds", "give {kinds}", {"kinds": kinds}) from None

    return WrapValidator(check)


class Strict(BaseModel):
    """Refuse what is not known, unless it is null."""

    model_config = ConfigDict(extra="allow", strict=True, use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, None] = Field(init=False)


class StreamOptions(Strict):
    """Say what a stream tells besides texts."""

    include_usage: bool | None = None


class Asked(Strict):
    """Hold what both kinds of requests have."""

    model: str | None = None
    n: int | None = Field(None, ge=1)
    """Texts for each prompt (default: 1)."""
    temperature: float | None = Field(None, ge=0, le=2)
    """Default: 1."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Default: 1."""
    top_k: int | None = Field(None, ge=0)
    """Default: 0, which takes every token."""
    min_p: float | None = Field(None, ge=0, le=1)
    """Default: 0."""
    seed: int | None = Field(None, ge=0, lt=2**62)
    stop: Annotated[
        str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None,
        described(f"one stop string, or a list of at most {MAX_STOPS}"),
    ] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    def sampling(self, seed: int) -> Sampling:
        """Return how tokens are drawn. Raises ValueError for an impossible way."""
        names = {"temperature", "top_p", "top_k", "min_p"}
        return Sampling(**self.model_dump(include=names, exclude_none=True), seed=seed)

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    @abstractmethod
    def most_tokens(self) -> int | None:
        """Return the most tokens to write; None: as many as there is room for."""

    @property
    @abstractmethod
    def likeliest(self) -> int:
        """Return how many likeliest tokens to report for each token."""


class AskedText(Asked):
    """Hold a request to continue texts."""

    prompt: Annotated[
        str | list[str] | list[int] | list[list[int]] | None,
        described("a text, a list of texts, the tokens of a text, or a list of such lists"),
    ]
    """null: begin a text, as an empty prompt does."""
    max_tokens: int | None = Field(None, ge=1)
    """Default: 16."""
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: bool | None = None

    @property
    def most_tokens(self) -> int:
        return self.max_tokens or 16

    @property
    def likeliest(self) -> int:
        return self.logprobs or 0

    def prompts(self, tokenizer: Tokenizer) -> list[list[int]]:
        """Return the tokens of each prompt. Raises ValueError for a text that has none."""
        given: Any = "" if self.prompt is None else self.prompt
        given = [given] if isinstance(given, str) else given
        given = [given] if given and isinstance(given[0], int) else given
        return [tokenizer.encode(each) if isinstance(each, str) else each for each in given]


class TextPart(Strict):
    """Hold a part of a message; only text can be read."""

    type: Literal["text"]
    text: str


class Turn(Strict):
    """Hold a message of a conversation, as clients write it or as this server has answered."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        str | list[TextPart], described("a text, or a list of parts of the type text")
    ]

    @property
    def message(self) -> Message:
        whole = self.content
        text = whole if isinstance(whole, str) else "".join(part.text for part in whole)
        return Message("system" if self.role == "developer" else self.role, text)


class AskedAnswer(Asked):
    """Hold a request to answer in a conversation."""

    messages: list[Turn] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def likeliest(self) -> int:
        return self.top_logprobs or 0


@dataclass
class Written:
    """Hold the pieces of an answer."""

    writing: Writing
    pieces: list[Piece] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


class Form(ABC):
    """Write the answers to a request."""

    prefix: str
    object: str
    chunk: str

    def __init__(self, model: str, tokenizer: Tokenizer, wants_tokens: bool):
        self.tokenizer, self.wants_tokens = tokenizer, wants_tokens
        self.head = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, answers: list[Written]) -> dict[str, Any]:
        """Return the response to a request without a stream."""
        choices = [{"index": index, **self.choice(each)} for index, each in enumerate(answers)]
        return self.head | {"object": self.object, "choices": choices, "usage": usage(answers)}

    def event(self, *choices: dict[str, Any], **more: Any) -> str:
        """Return a server-sent event."""
        content = self.head | {"object": self.chunk, "choices": choices, **more}
        return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"

    @abstractmethod
    def first(self, writing: Writing) -> dict[str, Any] | None:
        """Return what a stream says before the first token."""

    @abstractmethod
    def delta(self, piece: Piece, start: int) -> dict[str, Any]:
        """Return what a stream says of a token, whose text begins behind `start` characters."""

    @abstractmethod
    def choice(self, answer: Written) -> dict[str, Any]:
        """Return a whole answer."""

    def end(self, pieces: Sequence[Piece], start: int = 0) -> dict[str, Any]:
        """Return the reason to stop, and what the tokens were."""
        finish = FINISH.get(pieces[-1].finish) if pieces else None
        logprobs = self.table(pieces, start) if self.wants_tokens and pieces else None
        return {"finish_reason": finish, "logprobs": logprobs}

    @abstractmethod
    def table(self, pieces: Sequence[Piece], start: int) -> dict[str, Any]:
        """Return the tokens of pieces and their log probabilities."""


class TextForm(Form):
    """Write as /v1/completions does."""

    prefix, object, chunk = "cmpl", "text_completion", "text_completion"

    def __init__(self, model: str, tokenizer: Tokenizer, asked: AskedText):
        super().__init__(model, tokenizer, asked.logprobs is not None)
        self.echo = bool(asked.echo)

    def first(self, writing: Writing) -> dict[str, Any] | None:
        return {"text": self.prompt(writing), **self.end([])} if self.echo else None

    def delta(self, piece: Piece, start: int) -> dict[str, Any]:
        return {"text": piece.text, **self.end([piece], start)}

    def choice(self, answer: Written) -> dict[str, Any]:
        prompt = self.prompt(answer.writing) if self.echo else ""
        return {"text": prompt + answer.text, **self.end(answer.pieces)}

    def prompt(self, writing: Writing) -> str:
        return text_of(self.tokenizer, writing.tokens)

    def table(self, pieces: Sequence[Piece], start: int) -> dict[str, Any]:
        lengths = [len(piece.text) for piece in pieces]
        return {
            "tokens": [text_of(self.tokenizer, [piece.token]) for piece in pieces],
            "token_logprobs": [piece.logprob for piece in pieces],
            "top_logprobs": [
                {text_of(self.tokenizer, [token]): logprob for token, logprob in piece.likeliest}
                for piece in pieces
            ],
            "text_offset": list(accumulate(lengths[:-1], initial=start)),
        }


class AnswerForm(Form):
    """Write as /v1/chat/completions does."""

    prefix, object, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, model: str, tokenizer: Tokenizer, asked: AskedAnswer):
        super().__init__(model, tokenizer, bool(asked.logprobs))

    def first(self, writing: Writing) -> dict[str, Any]:
        return {"delta": {"role": "assistant", "content": ""}, **self.end([])}

    def delta(self, piece: Piece, start: int) -> dict[str, Any]:
        return {"delta": {"content": piece.text} if piece.text else {}, **self.end([piece])}

    def choice(self, answer: Written) -> dict[str, Any]:
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        return {"message": message, **self.end(answer.pieces)}

    def table(self, pieces: Sequence[Piece], start: int) -> dict[str, Any]:
        return {
            "content": [
                self.entry(piece.token, piece.logprob)
                | {"top_logprobs": [self.entry(*each) for each in piece.likeliest]}
                for piece in pieces
            ]
        }

    def entry(self, token: int, logprob: float) -> dict[str, Any]:
        data = list(self.tokenizer.token_bytes(token, -1))
        return {"token": text_of(self.tokenizer, [token]), "logprob": logprob, "bytes": data}


def usage(answers: Sequence[Written]) -> dict[str, int]:
    """Count the tokens; a prompt counts once, however many answers it gets."""
    prompts = {id(answer.writing.tokens): len(answer.writing.tokens) for answer in answers}
    read, written = sum(prompts.values()), sum(len(answer.pieces) for answer in answers)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def text_of(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """Return the text of tokens; bytes that form no UTF-8 character become �."""
    data = b"".join(tokenizer.token_bytes(token, -1) for token in tokens)
    return data.decode("utf-8", "replace")
