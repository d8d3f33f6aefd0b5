"""Exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """shadow ← decay·shadow + (1 - decay)·θ after every update; the shadow starts as a copy.

    Parameters only: buffers, and with them the puzzle rows, are used as they are. That is why this
    is not `torch.optim.swa_utils.AveragedModel`, which copies every buffer at every update, the
    whole puzzle table among them.
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
        """Inside, the model has the averaged weights."""
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
