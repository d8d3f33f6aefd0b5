"""`PromptData`: the settings of a set of prompts, and its preparation on disk."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ostinato.data.build_once import build_once
from ostinato.data.prompts.arithmetic import ArithmeticTask
from ostinato.data.prompts.code import CodeTask
from ostinato.data.prompts.gym import GymTask
from ostinato.data.prompts.maze import MazeTask
from ostinato.data.prompts.task import Prompt, PromptTask
from ostinato.data.text.tokenizer import TOKENIZER_FILE
from ostinato.data.text.words import AnyTokenizer, load_tokenizer
from ostinato.decoding import decode_json, read_text
from ostinato.files import write_text
from ostinato.numbers import Count, Seed, check_numbers

BUILD = 1  # raise it whenever the same settings would give different files
GYM = "reasoning-gym:"
SPLITS = ("test", "validation", "train")


@dataclass(frozen=True)
class PromptData:
    """Describe prompts whose completions earn a reward, 1 or 0."""

    reward: str = "maze"
    """Task: `maze`; `arithmetic`; `code`, functions of Python's library with their doctests; or
    `reasoning-gym:NAME`."""
    size: int = 7
    """Side of the mazes, an odd number from 3 to 63."""
    min_length: Count = 2
    """Minimum number of moves through a maze."""
    digits: Count = 2
    """Number of digits of the numbers in arithmetic."""
    num_train: Count = 20_000
    """Number of prompts to train on; fewer if the task has fewer."""
    num_validation: Count = 200
    """Number of prompts to choose weights by."""
    num_test: Count = 500
    """Number of prompts for the final score."""
    data_seed: Seed = 0
    """Seed of the prompts and of their order."""
    unsafe_sandbox: bool = False
    """Run code on a machine whose kernel cannot shut it off from the network and from other
    processes."""

    def __post_init__(self):
        check_numbers(self)
        if self.reward not in ("maze", "arithmetic", "code") and not self.reward.startswith(GYM):
            raise ValueError(f"no task {self.reward!r}: choose maze, arithmetic, code or {GYM}NAME")

    @property
    def task(self) -> PromptTask:
        if self.reward == "maze":
            return MazeTask(self.size, self.min_length)
        if self.reward == "arithmetic":
            return ArithmeticTask(self.digits)
        if self.reward == "code":
            return CodeTask(self.unsafe_sandbox)
        return GymTask(self.reward.removeprefix(GYM))

    def prepare(self, root: Path, report: Callable[[str], None]) -> Path:
        """Build the prompts below `root`; return their folder, which later calls find again.

        Raises ValueError if the task knows too few different prompts.
        """
        facts = {**asdict(self), "build": BUILD}
        del facts["unsafe_sandbox"]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        name = self.reward.replace(":", "-")
        return build_once(Path(root) / f"prompts-{name}-{digest[:12]}", self.write, report)

    def write(self, folder: Path) -> None:
        """Write the splits and the tokenizer of a new model to a folder."""
        counts = [self.num_test, self.num_validation, self.num_train]
        rng, task = np.random.default_rng(self.data_seed), self.task
        prompts = task.draw(sum(counts), rng)
        counts[-1] = len(prompts) - sum(counts[:-1])
        if counts[-1] < 1:
            raise ValueError(
                f"{self.reward} has only {len(prompts)} different prompts: lower num_validation "
                "and num_test"
            )
        order, bounds = rng.permutation(len(prompts)), np.cumsum(counts)[:-1]
        for split, part in zip(SPLITS, np.split(order, bounds), strict=True):
            lines = [json.dumps(asdict(prompts[number])) for number in part.tolist()]
            write_text(folder / f"{split}.jsonl", "".join(f"{line}\n" for line in lines))
        task.tokenizer().save(folder / TOKENIZER_FILE)


@dataclass(frozen=True)
class PromptSet:
    """Hold the prompts of a split, in their order."""

    prompts: list[Prompt]
    tokenizer: AnyTokenizer
    """Tokenizer of a model that learns nothing else."""
    fingerprint: str
    """SHA-256 of the file."""

    @classmethod
    def load(cls, folder: Path, split: str) -> "PromptSet":
        """Load a split of the prompts in `folder`; ValueError if it is missing or damaged."""
        path, anew = folder / f"{split}.jsonl", f"remove {folder} to build it anew"
        text = read_text(path, anew)
        prompts = [
            decode_json(line, Prompt, f"line {number} of {path}", anew)
            for number, line in enumerate(text.splitlines(), start=1)
        ]
        if not prompts:
            raise ValueError(f"{path} is empty: {anew}")
        digest = hashlib.sha256(text.encode()).hexdigest()
        return cls(prompts, load_tokenizer(folder / TOKENIZER_FILE), digest)

    def __len__(self) -> int:
        return len(self.prompts)

    def batch(self, step: int, size: int, seed: int) -> list[int]:
        """Return the numbers of the prompts of update `step`, which depend on nothing else.

        Epochs follow each other without a gap; each has its own random order.
        """
        found: list[int] = []
        place = step * size
        while len(found) < size:
            epoch, start = divmod(place + len(found), len(self))
            order = np.random.default_rng([seed, epoch]).permutation(len(self))
            found += order[start : start + size - len(found)].tolist()
        return found

    def up_to(self, limit: int, size: Callable[[Prompt], int]) -> "PromptSet":
        """Return the prompts of up to `limit` tokens. Raises ValueError if there are none."""
        sizes = [size(prompt) for prompt in self.prompts]
        if min(sizes) > limit:
            raise ValueError(
                f"the shortest prompt has {min(sizes)} tokens, the model reads {limit}: take a "
                "larger --seq-len, or a task with shorter prompts"
            )
        kept = [prompt for prompt, size in zip(self.prompts, sizes, strict=True) if size <= limit]
        return replace(self, prompts=kept)
