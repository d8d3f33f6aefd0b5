"""Score the answers that a language model writes in conversations it has not seen."""

from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from ostinato.data.text import ConversationSet
from ostinato.data.text.tokenizer import TURN_END, TURN_START
from ostinato.inference.generate import generate
from ostinato.inference.sampling import Sampling
from ostinato.models.nanochat import NanoChat

GREEDY = Sampling(temperature=0.0)
SPARE = 16
"""Tokens that an answer may be longer than the expected one before it is cut off."""


@dataclass(frozen=True)
class AnswerScores:
    """Hold shares of the last answers of some conversations, written greedily."""

    conversations: int
    exact: float
    """Share that is the expected answer, character by character."""
    normalised: float
    """Share that is so without case, punctuation and spaces between words."""
    ended: float
    """Share in which the model ended its turn."""
    clean: float
    """Share without the start of another turn, as a token or as text."""

    def to_json(self) -> dict[str, Any]:
        """Return all scores as JSON."""
        return {f"answers_{name}": value for name, value in asdict(self).items()}


def score_answers(model: NanoChat, texts: ConversationSet, most: int = 100) -> AnswerScores:
    """Let the model write the last answer of the first `most` conversations that it has room for.

    Each is written behind the turns before it as they are in `texts`.
    """
    packed, tokenizer = model.packed(), texts.tokenizer
    counts, rows = [0, 0, 0, 0], list(islice(texts.exchanges(), most))
    for prompt, wanted in rows:
        pieces = list(generate(packed, prompt, tokenizer, GREEDY, len(wanted) + SPARE))
        answer, expected = "".join(piece.text for piece in pieces), tokenizer.decode(wanted)
        marked = any(piece.token == tokenizer.turn_start for piece in pieces)
        marked = marked or TURN_START in answer or TURN_END in answer
        counts[0] += answer == expected
        counts[1] += normalised(answer) == normalised(expected)
        counts[2] += pieces[-1].token == tokenizer.turn_end
        counts[3] += not marked
    exact, alike, ended, clean = (count / len(rows) for count in counts)
    return AnswerScores(len(rows), exact, alike, ended, clean)


def normalised(text: str) -> str:
    """Return the words of a text without case and punctuation."""
    kept = (c if c.isalnum() else " " for c in text.casefold())
    return " ".join("".join(kept).split())
