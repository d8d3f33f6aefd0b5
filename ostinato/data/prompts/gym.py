"""Tasks of reasoning-gym (arXiv 2505.24760), drawn by its generators and judged by its scorers."""

from importlib import import_module
from typing import Any

import numpy as np

from ostinato.data.prompts.task import Prompt, PromptTask


class GymTask(PromptTask):
    """Draw and judge questions of a data set of reasoning-gym; only the full score is right."""

    def __init__(self, name: str):
        """Raises ValueError if reasoning-gym is not installed, or has no such data set."""
        try:
            self.gym: Any = import_module("reasoning_gym")
            known = import_module("reasoning_gym.factory").DATASETS
        except ImportError:
            raise ValueError(
                "reasoning-gym is not installed: pip install 'ostinato[gym]'"
            ) from None
        if name not in known:
            raise ValueError(
                f"reasoning-gym has no task {name!r}: choose from {', '.join(sorted(known))}"
            )
        self.name = name
        self.sets: dict[tuple[int, int], Any] = {}

    def questions(self, seed: int, size: int) -> Any:
        """Return a data set, which makes question number n of a seed the same every time."""
        if (seed, size) not in self.sets:
            self.sets[seed, size] = self.gym.create_dataset(self.name, seed=seed, size=size)
        return self.sets[seed, size]

    def draw(self, count: int, rng: np.random.Generator) -> list[Prompt]:
        seed, size = int(rng.integers(2**31)), 2 * count
        found: dict[str, Prompt] = {}
        for number, entry in enumerate(self.questions(seed, size)):
            text = f"{entry['question']}\n"
            facts = {"seed": seed, "size": size, "number": number}
            found.setdefault(text, Prompt(text, str(entry["answer"] or ""), facts))
            if len(found) == count:
                break
        return list(found.values())

    def is_right(self, prompt: Prompt, completion: str) -> bool:
        entries = self.questions(prompt.facts["seed"], prompt.facts["size"])
        entry = entries[prompt.facts["number"]]
        return entries.score_answer(completion.strip(), entry) >= 1
