"""Define tasks whose answers a program can check: prompts, their answers and the reward."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ostinato.data.text.tokenizer import MIN_VOCAB_SIZE, BytePairTokenizer
from ostinato.data.text.words import AnyTokenizer


@dataclass(frozen=True)
class Prompt:
    """Hold a question to a language model."""

    text: str
    answer: str = ""
    """A right completion, to learn from; empty if none is known."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Facts that the reward needs beside the text, as JSON."""


class PromptTask(ABC):
    """A kind of question, and the judge of its answers."""

    @abstractmethod
    def draw(self, count: int, rng: np.random.Generator) -> list[Prompt]:
        """Return different prompts: `count` of them, or all if there are fewer."""

    @abstractmethod
    def is_right(self, prompt: Prompt, completion: str) -> bool:
        """Judge a completion that came to its end."""

    def are_right(self, judged: list[tuple[Prompt, str]]) -> list[bool]:
        """Judge many completions."""
        return [self.is_right(prompt, completion) for prompt, completion in judged]

    def ended(self, completion: str, finished: bool) -> str | None:
        """Return the part of a completion that is judged; None if it was cut off by the limit.

        `finished` tells whether an end token came.
        """
        return completion if finished else None

    def tokenizer(self) -> AnyTokenizer:
        """Return the tokenizer of a model that learns nothing but this task: bytes."""
        return BytePairTokenizer.train([], MIN_VOCAB_SIZE)
