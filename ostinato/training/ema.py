"""Exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Average the parameters: shadow ← decay·shadow + (1 - decay)·θ after every update.

    The shadow starts as a copy. Buffers, and with them the puzzle rows, are not averaged but used
    as they are. `torch.optim.swa_utils.AveragedModel` is not used because it copies every buffer,
    and so the whole puzzle table, at every update.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.parameters = dict(model.named_parameters())
        self.shadow = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(
            list(self.shadow.values()), list(self.parameters.values()), 1 - self.decay
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights inside the context."""
        live = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._write(self.shadow)
        try:
            yield
        finally:
            self._write(live)

    def state_dict(self) -> dict[str, Tensor]:
        return self.shadow

    def load_state_dict(self, shadow: dict[str, Tensor]) -> None:
        assert shadow.keys() == self.shadow.keys()
        for name, tensor in shadow.items():
            self.shadow[name].copy_(tensor)

    @torch.no_grad()
    def _write(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])
