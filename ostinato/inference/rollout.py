"""Draw many completions at a time, as they are and as a function of given random numbers."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ostinato.models.dtypes import widest_dtype
from ostinato.models.nanochat import Cache, NanoChat


@dataclass(frozen=True)
class Rollout:
    """Hold completions of some prompts."""

    tokens: Int[Tensor, "prompts samples new"]
    """Tokens, up to and including the end token; 0 behind it."""
    written: Bool[Tensor, "prompts samples new"]
    """True up to and including the end token."""
    finished: Bool[Tensor, "prompts samples"]
    """False where the limit came before an end token."""
    entropy: Float[Tensor, "prompts samples"]
    """Entropy of the distributions that the tokens were drawn from, summed, in nats."""


@torch.no_grad()
def roll_out(
    model: NanoChat,
    prompts: Int[Tensor, "prompts length"],
    draws: Float[Tensor, "prompts samples new"],
    end_tokens: Iterable[int],
) -> Rollout:
    """Draw completions of prompts of one length at temperature 1.

    A prompt is read once, and its cache is shared by its samples. `draws` are uniform random
    numbers in [0, 1), one for each token: they, and the weights, determine all. Completions that
    have ended leave the batch when they are half of it.
    """
    device, dtype = prompts.device, widest_dtype(prompts.device)
    count, samples, new = draws.shape
    below_one = 1 - torch.finfo(dtype).eps / 2  # a number that float32 rounds to 1 is no draw
    draws = draws.flatten(0, 1).to(dtype).clamp(max=below_one).to(device)
    ends = torch.tensor(sorted(end_tokens), device=device)
    cache = model.new_cache(count, prompts.shape[1] + new)
    logits = model(prompts, cache)[:, -1]
    rows = torch.arange(count, device=device).repeat_interleave(samples)
    logits = logits[rows]
    select(cache, rows)

    alive = torch.arange(count * samples, device=device)
    goes_on = torch.ones_like(alive, dtype=torch.bool)
    tokens = torch.zeros_like(draws, dtype=torch.long)
    written = torch.zeros_like(tokens, dtype=torch.bool)
    finished = torch.zeros_like(goes_on)
    entropy = torch.zeros_like(draws[:, 0])
    for place in range(new):
        chances = logits.to(dtype).softmax(-1)
        drawn = choose(chances, draws[alive, place])
        doubt = torch.special.entr(chances).sum(-1).to(entropy.dtype)
        entropy[alive] += doubt * goes_on
        tokens[alive, place] = drawn * goes_on
        written[alive, place] = goes_on
        finished[alive] |= goes_on & torch.isin(drawn, ends)
        goes_on = goes_on & ~torch.isin(drawn, ends)
        left = int(goes_on.sum())
        if place + 1 == new or not left:
            break
        if 2 * left <= len(alive):
            kept = goes_on.nonzero().squeeze(1)
            alive, drawn, goes_on = alive[kept], drawn[kept], goes_on[kept]
            select(cache, kept)
        logits = model(drawn[:, None], cache)[:, -1]
    shape = (count, samples)
    return Rollout(
        tokens.unflatten(0, shape),
        written.unflatten(0, shape),
        finished.unflatten(0, shape),
        entropy.unflatten(0, shape),
    )


def choose(
    chances: Float[Tensor, "rows vocab"], draws: Float[Tensor, " rows"]
) -> Int[Tensor, " rows"]:
    """Return the token in whose share of [0, 1) a draw falls; none of chance 0 is ever drawn."""
    borders = chances.cumsum(-1)
    return (borders <= (draws * borders[:, -1])[:, None]).sum(-1).clamp(max=chances.shape[1] - 1)


def select(cache: Cache, rows: Int[Tensor, " rows"]) -> None:
    """Keep these rows of a cache, in this order; a row may come several times."""
    for layer in cache:
        layer.keys, layer.values = layer.keys[rows], layer.values[rows]
