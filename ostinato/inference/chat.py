"""Hold a dialogue with a language model that has only learnt to continue texts.

No model here is trained on dialogues. So the dialogue is a text of the form

    User: …
    Assistant: …
    User:

which the model continues behind "Assistant:", up to the line where it would speak for the user.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ostinato.inference.generate import Piece, Sampling, Tokenizer, check_prompt, generate
from ostinato.models.nanochat import NanoChat

USER, ASSISTANT = "User:", "Assistant:"
STOP = (f"\n{USER}", f"\n{ASSISTANT}")
ANSWER_TOKENS = 64
"""Tokens reserved for an answer; at most half of the context."""


@dataclass(frozen=True)
class Turn:
    """Hold a question and, once there is one, its answer."""

    question: str
    answer: str | None = None

    def text(self) -> str:
        """Return the turn as the model reads it; without an answer, it ends where that begins."""
        answer = "" if self.answer is None else f" {self.answer}\n"
        return f"{USER} {self.question}\n{ASSISTANT}{answer}"


class Dialogue:
    """Hold the turns so far, and forget the oldest when they no longer fit in the context."""

    def __init__(
        self,
        model: NanoChat,
        tokenizer: Tokenizer,
        sampling: Sampling,
        max_tokens: int | None = None,
    ):
        self.model, self.tokenizer = model.packed(), tokenizer
        self.sampling, self.max_tokens = sampling, max_tokens
        self.turns: list[Turn] = []
        self.asked = 0

    def reset(self) -> None:
        """Forget all turns."""
        self.turns = []

    def ask(self, question: str) -> Iterator[Piece]:
        """Yield the answer piece by piece; when complete, it joins the dialogue.

        The seed of an answer is `sampling.seed` plus the number of questions before it. Raises
        ValueError for an empty question and for one that does not fit in the context alone.
        """
        if not question.strip():
            raise ValueError("the question is empty: write some text, or /reset")
        turn = Turn(question.strip())
        tokens, kept = fitting(self.model, self.tokenizer, [*self.turns, turn])
        sampling = replace(self.sampling, seed=self.sampling.seed + self.asked)
        pieces = generate(self.model, tokens, self.tokenizer, sampling, self.max_tokens, STOP)
        self.asked += 1
        return self._answer(kept, pieces)

    def _answer(self, turns: Sequence[Turn], pieces: Iterator[Piece]) -> Iterator[Piece]:
        answer = ""
        for piece in pieces:
            answer += piece.text
            yield piece
        self.turns = [*turns[:-1], replace(turns[-1], answer=answer.strip())]


def fitting(
    model: NanoChat, tokenizer: Tokenizer, turns: Sequence[Turn]
) -> tuple[list[int], list[Turn]]:
    """Return the tokens of the last turns that leave room for an answer, and those turns.

    Raises ValueError if the last turn alone leaves no room.
    """
    room = model.config.seq_len - min(ANSWER_TOKENS, model.config.seq_len // 2)
    tokens: list[int] = []
    for start in range(len(turns)):
        kept = list(turns[start:])
        tokens = tokenizer.encode("".join(turn.text() for turn in kept))
        if len(tokens) <= room:
            check_prompt(model, tokens)
            return tokens, kept
    raise ValueError(
        f"the question has {len(tokens)} tokens, but the model reads {model.config.seq_len} and "
        f"{room} of these are for the question: shorten it"
    )
