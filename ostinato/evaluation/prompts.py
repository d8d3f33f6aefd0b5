"""Score a language model on prompts whose completions a program can judge: pass@k."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ostinato.data.prompts import Prompt, PromptTask
from ostinato.data.text.words import AnyTokenizer
from ostinato.inference.rollout import Rollout, roll_out
from ostinato.models.nanochat import NanoChat

TRIES = (1, 4, 16)
"""The k of the pass@k that are reported."""


def pass_at(k: int, samples: int, right: int) -> float:
    """Return the chance that one of k samples is right, drawn from `samples` of which `right` are.

    Its mean is the chance itself for k new samples (Chen et al. 2021, arXiv 2107.03374).
    """
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


@dataclass(frozen=True)
class Judged:
    """Hold completions of prompts of one length, and what they earn."""

    places: list[int]
    """Places of the prompts among those that were given."""
    prompts: Tensor
    rollout: Rollout
    rewards: Float[Tensor, "prompts samples"]
    texts: list[str]
    """Completions, sample by sample."""


class Sampler:
    """Draw completions of prompts and judge them.

    The random numbers of a prompt are a function of a key and of its place, whichever process draws
    it and whatever else is in the batch.
    """

    def __init__(
        self, model: NanoChat, task: PromptTask, tokenizer: AnyTokenizer, max_new_tokens: int
    ):
        self.model, self.task, self.tokenizer = model, task, tokenizer
        self.max_new_tokens = max_new_tokens

    def length(self, prompt: Prompt) -> int:
        """Return the number of a prompt's tokens."""
        return len(self.tokenizer.encode(prompt.text))

    def draw(
        self, prompts: list[Prompt], places: list[int], samples: int, key: tuple[int, ...]
    ) -> Iterator[Judged]:
        """Yield completions of the prompts with these places, those of one length together."""
        device = self.model.embed_tokens.weight.device
        groups = defaultdict(list)
        tokens = [self.tokenizer.encode(prompt.text) for prompt in prompts]
        for index, encoded in enumerate(tokens):
            groups[len(encoded)].append(index)
        for length, members in groups.items():
            new = min(self.max_new_tokens, self.model.config.seq_len - length + 1)
            assert new > 0
            draws = [
                np.random.default_rng([*key, places[index]]).random((samples, new))
                for index in members
            ]
            rollout = roll_out(
                self.model,
                torch.tensor([tokens[index] for index in members], device=device),
                torch.from_numpy(np.stack(draws)),
                self.tokenizer.end_tokens,
            )
            texts = self.texts(rollout)
            rewards = self.judge([prompts[index] for index in members], rollout, texts)
            encoded = torch.tensor([tokens[index] for index in members], device=device)
            yield Judged([places[index] for index in members], encoded, rollout, rewards, texts)

    def texts(self, rollout: Rollout) -> list[str]:
        """Return the text of each completion."""
        lengths = rollout.written.sum(-1).flatten().tolist()
        rows = rollout.tokens.flatten(0, 1).tolist()
        return [
            self.tokenizer.decode(row[:length]) for row, length in zip(rows, lengths, strict=True)
        ]

    def judge(
        self, prompts: list[Prompt], rollout: Rollout, texts: list[str]
    ) -> Float[Tensor, "prompts samples"]:
        """Return the rewards, 1 or 0; a completion that was cut off by the limit earns 0."""
        count, samples = rollout.finished.shape
        asked = [prompt for prompt in prompts for _ in range(samples)]
        ended = rollout.finished.flatten().tolist()
        parts = [self.task.ended(text, over) for text, over in zip(texts, ended, strict=True)]
        rewards = torch.zeros(count * samples)
        whole = [place for place, part in enumerate(parts) if part is not None]
        right = self.task.are_right([(asked[place], parts[place] or "") for place in whole])
        rewards[whole] = torch.tensor(right, dtype=torch.float32)
        return rewards.unflatten(0, (count, samples)).to(rollout.entropy.device)


def evaluate(
    sampler: Sampler,
    prompts: list[Prompt],
    samples: int,
    at_a_time: int,
    key: tuple[int, ...],
    *,
    rank: int = 0,
    world_size: int = 1,
    sum_over_ranks: Callable[[Tensor], Tensor] = lambda tensor: tensor,
) -> dict[str, Any]:
    """Return pass@k, mean length, and the share of prompts with no and with all samples right."""
    start = time.monotonic()
    mine = list(range(len(prompts)))[rank::world_size]
    tries = [k for k in TRIES if k <= samples]
    sums = torch.zeros(len(tries) + 3, dtype=torch.float64)
    for first in range(0, len(mine), at_a_time):
        places = mine[first : first + at_a_time]
        for judged in sampler.draw([prompts[place] for place in places], places, samples, key):
            right = judged.rewards.sum(1).int().tolist()
            for k, name in enumerate(tries):
                sums[k] += sum(pass_at(name, samples, count) for count in right)
            sums[-3] += right.count(0)
            sums[-2] += right.count(samples)
            sums[-1] += float(judged.rollout.written.sum()) / samples
    shares = (sum_over_ranks(sums) / len(prompts)).tolist()
    return {
        **{f"pass@{k}": share for k, share in zip(tries, shares, strict=False)},
        "none_right": shares[-3],
        "all_right": shares[-2],
        "length": shares[-1],
        "prompts": len(prompts),
        "samples": samples,
        "seconds": time.monotonic() - start,
    }
