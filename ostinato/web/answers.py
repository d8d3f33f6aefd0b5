"""The forms of OpenAI's API: how answers are written (`openai.py` has what a request may say)."""

import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from ostinato.inference.batch import Writing
from ostinato.inference.generate import Piece, Tokenizer

FINISH = {"end": "stop", "stop": "stop", "length": "length"}
"""Reason to stop: ours → OpenAI's."""


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

    def __init__(self, model: str, tokenizer: Tokenizer, wants_tokens: bool, echo: bool):
        super().__init__(model, tokenizer, wants_tokens)
        self.echo = echo

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
