"""Hold a conversation with a language model.

A model that was tuned on conversations reads them in its template, ChatML. A base model has only
learnt to continue texts, so it is given a text of the form

    User: …
    Assistant: …
    User:

which it continues behind "Assistant:", up to the line where it would speak for the user.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from ostinato.data.text.template import CHATML, Message, prompt_tokens
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.inference.decoder import Way
from ostinato.inference.generate import Piece, check_prompt, generate
from ostinato.inference.sampling import Sampling
from ostinato.models.nanochat import NanoChat

NAMES = {"user": "User:", "assistant": "Assistant:"}
STOP = tuple(f"\n{name}" for name in NAMES.values())
ANSWER_TOKENS = 64
"""Tokens reserved for an answer; at most half of the context."""

Prompt = Callable[[BytePairTokenizer, Sequence[Message]], list[int]]


def prompt_of(model: NanoChat) -> Prompt:
    """Return the function that turns messages into the tokens behind which `model` answers.

    Raises ValueError if the model has a template of its own.
    """
    if model.chat_template not in ("", CHATML):
        raise ValueError(
            "the model's template is not the ChatML that ostinato train nanochat-chat writes: use "
            "the program that the model is for, or remove tokenizer_config.json to continue texts"
        )
    return prompt_tokens if model.chat_template else plain_tokens


def plain_tokens(tokenizer: BytePairTokenizer, messages: Sequence[Message]) -> list[int]:
    """Return the tokens of messages as a text, which ends where the answer begins."""
    if any(message.role == "system" for message in messages):
        raise ValueError("the model only continues texts and takes no system message: tune it")
    said = (f"{NAMES[m.role]} {m.content.strip()}\n" for m in messages)
    return tokenizer.encode("".join(said) + NAMES["assistant"])


class Dialogue:
    """Hold the messages so far, and forget the oldest turns when the context is full."""

    def __init__(
        self,
        model: NanoChat,
        tokenizer: BytePairTokenizer,
        sampling: Sampling,
        max_tokens: int | None = None,
        product: Way | Literal["auto"] = "auto",
    ):
        self.model, self.tokenizer = model.packed(), tokenizer
        self.prompt = prompt_of(model)
        self.stop = () if model.chat_template else STOP
        self.sampling, self.max_tokens = sampling, max_tokens
        self.product: Way | Literal["auto"] = product
        self.messages: list[Message] = []
        self.asked = 0

    def reset(self, system: str = "") -> None:
        """Forget all turns, and begin anew with a system message unless that is empty.

        Raises ValueError if the model takes none.
        """
        messages = [Message("system", system)] if system else []
        self.prompt(self.tokenizer, messages)
        self.messages = messages

    def ask(self, question: str) -> Iterator[Piece]:
        """Yield the answer piece by piece; what has been said of it joins the dialogue.

        The seed of an answer is `sampling.seed` plus the number of questions before it. Raises
        ValueError for an empty question and for one that does not fit in the context alone.
        """
        if not question.strip():
            raise ValueError("the question is empty: write some text, or /reset")
        messages = [*self.messages, Message("user", question.strip())]
        tokens, kept = fitting(self.model, self.tokenizer, messages, self.prompt)
        sampling = replace(self.sampling, seed=self.sampling.seed + self.asked)
        pieces = generate(
            self.model, tokens, self.tokenizer, sampling, self.max_tokens, self.stop, self.product
        )
        self.asked += 1
        return self._answer(kept, pieces)

    def _answer(self, messages: Sequence[Message], pieces: Iterator[Piece]) -> Iterator[Piece]:
        answer = ""
        try:
            for piece in pieces:
                answer += piece.text
                yield piece
        finally:  # the reader may have stopped it
            self.messages = [*messages, Message("assistant", answer.strip())]


def fitting(
    model: NanoChat,
    tokenizer: BytePairTokenizer,
    messages: Sequence[Message],
    prompt: Prompt = plain_tokens,
) -> tuple[list[int], list[Message]]:
    """Return the tokens of the last turns that leave room for an answer, and their messages.

    A system message stays in front. Raises ValueError if the last turn alone leaves no room.
    """
    room = model.config.seq_len - min(ANSWER_TOKENS, model.config.seq_len // 2)
    first = int(messages[0].role == "system")
    tokens: list[int] = []
    for start in range(first, len(messages), 2):
        kept = [*messages[:first], *messages[start:]]
        tokens = prompt(tokenizer, kept)
        if len(tokens) <= room:
            check_prompt(model, tokens)
            return tokens, kept
    raise ValueError(
        f"the question has {len(tokens)} tokens, but the model reads {model.config.seq_len} and "
        f"{room} of these are for the question: shorten it"
    )
