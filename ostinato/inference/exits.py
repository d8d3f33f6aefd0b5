"""Leave a looped model early: read a text token by token, and take only the passes it needs.

Every pass has a cache of its own. A pass that the newest token does not need is put off: the states
that wait for it are kept, and it reads them all at once when a later token needs it. So the logits
are those of a model that always takes all passes and then chooses one.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ostinato.models.nanochat import Cache, NanoChat


class EarlyExit:
    """Read one text in pieces; leave once the exit probabilities add up to `threshold`."""

    def __init__(self, model: NanoChat, cache: Cache, threshold: float):
        """Start with an empty cache."""
        self.model, self.cache, self.threshold = model, cache, threshold
        config = model.config
        nothing = torch.empty(
            1, 0, config.hidden_size, dtype=config.dtype, device=cache[0].keys.device
        )
        self.waiting = [nothing] * (config.num_loops - 1)
        """States behind each pass that the next pass has not read."""
        self.depth = 0
        """Number of passes that the last token took."""

    def __call__(self, tokens: Int[Tensor, "1 new"]) -> Float[Tensor, " vocab"]:
        """Append `tokens` to the text and return the logits behind the last one."""
        model, stayed = self.model, 1.0
        x = model.embed(tokens, self.cache)
        for number in range(model.config.num_loops):
            x = model.one_pass(x, model.cache_of_pass(self.cache, number))
            last, self.depth = x[:, -1:], number + 1
            if self.depth == model.config.num_loops:
                break
            x = torch.cat([self.waiting[number], x], dim=1)
            stayed *= 1 - model.exit_logits(last).cpu().double().sigmoid().item()
            if 1 - stayed >= self.threshold:
                self.waiting[number] = x
                break
            self.waiting[number] = x[:, :0]
        return model.read_out(last)[0, 0]
