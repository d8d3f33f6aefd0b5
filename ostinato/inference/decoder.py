"""Continue texts token by token, from a cache with a place for each text.

There are three ways to multiply with ternary weights. All are exact: the sums of integers are, and
they are scaled as in training.

| way     | needs           | how                                                              |
|---------|-----------------|------------------------------------------------------------------|
| `numba` | extra `fast`    | a whole pass in compiled code, two bits a weight                 |
|         |                 | (`ostinato.kernels.step`), 24 bits one of a large head; on the   |
|         |                 | CPU, float32 or float64, with int8 activations                   |
| `float` | PyTorch         | matrices of floats, codes times scales: four bytes a weight      |
| `int8`  | PyTorch         | products of int8 for up to four texts, one byte a weight         |
"""

import importlib.util
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ostinato.inference.compiled import compiled_model, ternary_layers
from ostinato.inference.exits import EarlyExit
from ostinato.layers import KeyValueCache, PackedTernaryLinear, RaggedCache
from ostinato.layers.ternary import Product
from ostinato.models.nanochat import NanoChat

if TYPE_CHECKING:
    from ostinato.kernels.kept import Kept

Way = Literal["numba", "float", "int8"]
WAYS: tuple[Way, ...] = get_args(Way)
MEASUREMENTS = 5


class Decoder:
    """Hold the cache of up to `slots` texts, and continue any of them at a time.

    `read` appends several tokens to a text, `step` one to each of some texts. `lengths` says how
    long each is; `clear` and `copy` end and share texts.
    """

    def __init__(
        self,
        model: NanoChat,
        slots: int = 1,
        capacity: int | None = None,
        product: Way | Literal["auto"] = "auto",
        exit_threshold: float = 1.0,
    ):
        """Make empty places for texts of up to `capacity` tokens (default: the model's context).

        With an `exit_threshold` below 1, the only text leaves loops early, and is not run by
        `numba`. "auto" takes `numba` if it can be used, else what is faster here for a matrix of
        the model. Raises ValueError if the way cannot be used.
        """
        self.model = model = model.packed()
        config = model.config
        assert exit_threshold == 1 or slots == 1
        early = exit_threshold < 1
        if early and product == "numba":
            raise ValueError(
                "numba takes all passes: leave out product, or set exit_threshold to 1"
            )
        self.way: Way = choose_way(model, "float" if early and product == "auto" else product)
        self.capacity = capacity or config.seq_len
        layers = len(model.new_cache(capacity=1))
        shape = (layers, slots, config.kv_heads, self.capacity, config.head_dim)
        device = model.embed_tokens.weight.device
        self.values = torch.zeros(shape, dtype=config.dtype, device=device)
        self.keys = torch.zeros_like(self.values)
        self.lengths = np.zeros(slots, np.int64)
        self.early = EarlyExit(model, self.caches(0), exit_threshold) if early else None
        self.compiled = compiled_model(model) if self.way == "numba" else None
        self.passes: dict[tuple[int, int], tuple[np.ndarray, Kept]] = {}
        for layer in ternary_layers(model):
            layer.product = "float" if self.way == "float" else "int8"

    @torch.no_grad()
    def read(self, tokens: Sequence[int], slot: int = 0) -> Float[Tensor, " vocab"]:
        """Append tokens to a text; return the logits of the next one."""
        new = torch.tensor([list(tokens)], device=self.keys.device)
        logits = self.early(new) if self.early else self.model(new, self.caches(slot))[0, -1]
        self.lengths[slot] += len(tokens)
        return logits

    def caches(self, slot: int) -> list[KeyValueCache]:
        """Return the cache of a text, as the model takes it."""
        length = int(self.lengths[slot])
        return [
            KeyValueCache.holding(keys[slot, None], values[slot, None], length)
            for keys, values in zip(self.keys, self.values, strict=True)
        ]

    def step(self, tokens: Sequence[int], slots: Sequence[int]) -> Float[Tensor, "texts vocab"]:
        """Append a token to each of some texts; return the logits of each next one.

        Raises ValueError if a text has no room for it.
        """
        where = np.array(slots)
        lengths = self.lengths[where]
        if lengths.max() >= self.capacity:
            raise ValueError(f"a text has no room left: its cache holds {self.capacity} tokens")
        if self.compiled is None and len(slots) == 1:
            return self.read(tokens, slots[0])[None]
        run = self.step_together if self.compiled is None else self.compiled_step
        logits = run(np.array(tokens), where, lengths)
        self.lengths[where] = lengths + 1
        return logits

    @torch.no_grad()
    def step_together(
        self, tokens: np.ndarray, slots: np.ndarray, lengths: np.ndarray
    ) -> Float[Tensor, "texts vocab"]:
        device = self.keys.device
        places, ends = torch.from_numpy(slots).to(device), torch.from_numpy(lengths).to(device)
        caches = [
            RaggedCache(keys, values, places, ends)
            for keys, values in zip(self.keys, self.values, strict=True)
        ]
        return self.model(torch.from_numpy(tokens).to(device)[:, None], caches)[:, -1]

    def clear(self, slot: int) -> None:
        """Forget a text."""
        self.lengths[slot] = 0

    def copy(self, source: int, target: int) -> None:
        """Make a text the same as another."""
        length = self.lengths[target] = self.lengths[source]
        self.keys[:, target, :, :length] = self.keys[:, source, :, :length]
        self.values[:, target, :, :length] = self.values[:, source, :, :length]

    def compiled_step(
        self, tokens: np.ndarray, slots: np.ndarray, lengths: np.ndarray
    ) -> Float[Tensor, "texts vocab"]:
        from ostinato.kernels import step as kernel

        assert self.compiled is not None
        texts = len(tokens)
        threads = self.compiled.threads(texts)
        if (texts, threads) not in self.passes:
            work = self.compiled.work(texts, self.keys.numpy(), self.values.numpy())
            self.passes[texts, threads] = self.compiled.phases(texts, threads), work
        phases, work = self.passes[texts, threads]
        counters = np.zeros(kernel.COUNTERS * len(phases), np.int64)
        arguments = (phases, counters, tokens, slots, lengths, self.compiled.kept, work)
        self.compiled.run(arguments, threads)
        return torch.from_numpy(work.value.logits.copy())


def choose_way(model: NanoChat, product: Way | Literal["auto"]) -> Way:
    """Return the way to multiply; ValueError if the one asked for is impossible."""
    reason = why_not_numba(model)
    if product == "numba" and reason:
        raise ValueError(f"the product numba cannot be used: {reason}")
    if product != "auto":
        return product
    if not reason:
        return "numba"
    layers = ternary_layers(model)
    return faster_product(max(layers, key=lambda layer: layer.codes.numel())) if layers else "float"


def why_not_numba(model: NanoChat) -> str:
    """Say why a packed model cannot run in compiled code; empty if it can."""
    config, weight = model.config, model.embed_tokens.weight
    layers = ternary_layers(model)
    if not layers or not config.quantize_activations:
        return "it needs ternary weights and int8 activations: choose float"
    if weight.device.type != "cpu":
        return f"it runs on the CPU, the model is on {weight.device}: choose float"
    if config.dtype not in (torch.float32, torch.float64) or weight.dtype != config.dtype:
        return (
            f"it computes in float32, the model in {config.forward_dtype}: --forward-dtype float32"
        )
    if importlib.util.find_spec("numba") is None:
        return "it needs a package: pip install 'ostinato[fast]'"
    return ""


@torch.no_grad()
def faster_product(layer: PackedTernaryLinear) -> Product:
    """Return the way that multiplies one token faster on this machine, measured in a few ms."""
    x = torch.ones(1, layer.codes.shape[1], dtype=layer.scales.dtype, device=layer.codes.device)
    kept, seconds = layer.product, dict[Product, float]()
    for product in get_args(Product):
        layer.product = product
        layer(x)
        times = []
        for _ in range(MEASUREMENTS):
            start = time.perf_counter()
            layer(x)
            times.append(time.perf_counter() - start)
        seconds[product] = min(times)
    layer.product = kept
    return min(seconds, key=seconds.__getitem__)
