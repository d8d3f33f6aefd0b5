"""Sums, differences and products of whole numbers."""

import numpy as np

from ostinato.data.prompts.task import Prompt, PromptTask

OPERATIONS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


class ArithmeticTask(PromptTask):
    """Answer `17+25=` by `42`: numbers of up to so many digits."""

    def __init__(self, digits: int):
        self.digits = digits

    def draw(self, count: int, rng: np.random.Generator) -> list[Prompt]:
        numbers = 10**self.digits
        total = min(count, len(OPERATIONS) * numbers**2)
        found: dict[str, Prompt] = {}
        while len(found) < total:
            a, b = rng.integers(numbers, size=2).tolist()
            sign = list(OPERATIONS)[rng.integers(len(OPERATIONS))]
            text = f"{a}{sign}{b}="
            found[text] = Prompt(text, str(OPERATIONS[sign](a, b)))
        return list(found.values())

    def is_right(self, prompt: Prompt, completion: str) -> bool:
        return completion == prompt.answer
