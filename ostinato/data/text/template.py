"""Turn conversations into tokens by the template ChatML, and find in tokens what is an answer.

    <|endoftext|><|im_start|>user
    What is 2 + 3?<|im_end|>
    <|im_start|>assistant
    5<|im_end|>

Roles and contents are encoded as ordinary text, so no content can produce the two special tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Integer

from ostinato.data.text.tokenizer import TURN_END, TURN_START, BytePairTokenizer

CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    f"{{{{ '{TURN_START}' + message['role'] + '\\n' + message['content'] + '{TURN_END}\\n' }}}}"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ '{TURN_START}assistant\\n' }}}}{{% endif %}}"
)
"""The template in Jinja, as transformers and llama.cpp read it."""

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Message:
    """Hold what one speaker says in one turn."""

    role: Role
    content: str


def prompt_tokens(tokenizer: BytePairTokenizer, messages: Sequence[Message]) -> list[int]:
    """Return the tokens of `messages`, up to the place where the assistant's answer begins.

    Raises ValueError if the tokenizer has no tokens for turns.
    """
    return [*conversation_tokens(tokenizer, messages), *_opening(tokenizer, "assistant")]


def conversation_tokens(tokenizer: BytePairTokenizer, messages: Sequence[Message]) -> list[int]:
    """Return the tokens of whole turns, with the separator in front.

    Raises ValueError if the tokenizer has no tokens for turns.
    """
    tokens = [tokenizer.separator]
    for message in messages:
        tokens += _opening(tokenizer, message.role)
        tokens += tokenizer.encode(message.content)[1:]
        tokens += _closing(tokenizer)
    return tokens


def answers(
    tokens: Integer[np.ndarray, " tokens"], tokenizer: BytePairTokenizer
) -> Bool[np.ndarray, " tokens"]:
    """Mark the tokens that the assistant says, the end of its turn included."""
    opening = np.array(_opening(tokenizer, "assistant"))
    places = np.arange(len(tokens))
    is_start, is_end = tokens == tokenizer.turn_start, tokens == tokenizer.turn_end
    # The last start of a turn at or before each place; -1: none
    start = np.maximum.accumulate(np.where(is_start, places, -1))
    ends_before = np.cumsum(is_end) - is_end
    own = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([tokens, np.full(len(opening), -1)]).astype(np.int64), len(opening)
    )
    speaks = (own[:-1] == opening).all(-1)
    is_open = (start >= 0) & (ends_before == ends_before[start])
    return is_open & speaks[start] & (places >= start + len(opening))


def turns(
    tokens: Integer[np.ndarray, " tokens"], tokenizer: BytePairTokenizer
) -> Iterator[tuple[int, int]]:
    """Yield where each answer begins and ends, behind the token that ends the turn."""
    marked = np.concatenate([[False], answers(tokens, tokenizer), [False]])
    bounds = np.flatnonzero(marked[1:] != marked[:-1]).tolist()
    yield from zip(bounds[::2], bounds[1::2], strict=True)


def _opening(tokenizer: BytePairTokenizer, role: str) -> list[int]:
    if tokenizer.turn_start is None:
        raise ValueError(
            f"the tokenizer has no token {TURN_START}: tune the model on conversations first, with "
            "ostinato train nanochat-chat --init-from RUN"
        )
    return [tokenizer.turn_start, *tokenizer.encode(f"{role}\n")[1:]]


def _closing(tokenizer: BytePairTokenizer) -> list[int]:
    assert tokenizer.turn_end is not None
    return [tokenizer.turn_end, *tokenizer.encode("\n")[1:]]
