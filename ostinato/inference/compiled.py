"""Lay out a packed model for `ostinato.kernels.step`, and run it on several threads."""

import logging
from queue import SimpleQueue
from threading import Thread, Timer
from typing import TYPE_CHECKING, Any
from weakref import finalize

import numpy as np
import torch

from ostinato.layers import PackedTernaryLinear
from ostinato.models.nanochat import NanoChat

if TYPE_CHECKING:
    from ostinato.kernels.kept import Kept

SMALL_PASS = 10_000_000
"""Multiplications of a pass that is not worth a second thread."""
CHUNKS = 4
"""Chunks of a matrix for each thread."""
NOTICE_SECONDS = 1.0
NOTICE = "the decoder is being compiled: half a minute, once on this machine"
log = logging.getLogger(__name__)


class CompiledModel:
    """Hold the weights of a model for `ostinato.kernels.step`, and the threads that run it."""

    def __init__(self, model: NanoChat):
        from ostinato.inference.packing import pack_weights
        from ostinato.kernels.kept import Kept

        self.config = config = model.config
        self.weights = pack_weights(model)
        self.kept = Kept(self.weights)
        matrices = sum(layer.codes.numel() for layer in ternary_layers(model))
        self.multiplications = config.num_loops * matrices + self.weights.head.size
        self.passes: SimpleQueue[tuple | None] = SimpleQueue()
        self.started = 0
        self.has_run = False
        self.state = state_of(model)

    def __deepcopy__(self, memo: Any) -> None:
        """Let a copy of the model make its own: its weights may be changed."""
        return None

    @property
    def matrix_bytes(self) -> int:
        """Return the bytes of the ternary matrices, scales included."""
        weights = self.weights
        matrices = (weights.qkv, weights.o_proj, weights.gate_up, weights.down)
        return sum(matrix.codes.nbytes + matrix.scales.nbytes for matrix in matrices)

    def threads(self, texts: int) -> int:
        """Return how many threads shall share a pass."""
        small = texts * self.multiplications < SMALL_PASS
        return 1 if small else torch.get_num_threads()

    def run(self, arguments: tuple, threads: int) -> None:
        """Run a pass; it is logged if the first has to be compiled."""
        from ostinato.kernels.step import step

        if not self.has_run:
            notice = Timer(NOTICE_SECONDS, log.warning, [NOTICE])
            notice.daemon = True
            notice.start()
            try:
                step(*arguments)
            finally:
                notice.cancel()
            self.has_run = True
            return
        while self.started < threads - 1:
            self.started += 1
            Thread(target=take_part, args=(self.passes,), daemon=True).start()
            finalize(self, self.passes.put, None)
        # Threads that come too late find nothing left to do, and nobody waits for them
        for _ in range(threads - 1):
            self.passes.put(arguments)
        step(*arguments)

    def phases(self, texts: int, threads: int) -> np.ndarray:
        """Return the phases of a pass: kind, block, number of chunks, and place in the cache."""
        from ostinato.kernels import step as kernel

        config = self.config
        parts = 1 if threads == 1 else CHUNKS * threads
        block = [
            (kernel.QKV, parts),
            (kernel.ATTEND, texts * config.kv_heads),
            (kernel.ATTENDED, texts),
            (kernel.O_PROJ, parts),
            (kernel.MIDDLE, texts),
            (kernel.GATE_UP, parts),
            (kernel.INNER, texts),
            (kernel.DOWN, parts),
            (kernel.END, texts),
        ]
        found = []
        for loop in range(config.num_loops):
            first = loop * config.num_layers
            found.append((kernel.AGAIN if loop else kernel.BEGIN, 0, texts, 0))
            for n in range(config.num_layers):
                found += [(kind, n, chunks, first + n) for kind, chunks in block]
            found[-1] = (kernel.LAST, *found[-1][1:])
        return np.array([*found, (kernel.HEAD, 0, parts, 0)])

    def work(self, texts: int, keys: np.ndarray, values: np.ndarray) -> "Kept":
        """Make room for the intermediate results of a pass."""
        from ostinato.kernels.kept import Kept
        from ostinato.kernels.step import Work

        config, weights = self.config, self.weights
        matrices = (weights.qkv, weights.o_proj, weights.gate_up, weights.down)
        lanes = max(len(matrix.lanes) for matrix in matrices)
        streams = config.num_streams

        def numbers(*shape: int) -> np.ndarray:
            return np.zeros((texts, *shape), weights.embedding.dtype)

        work = Work(
            keys=keys,
            values=values,
            streams=numbers(streams, config.hidden_size),
            mixed=numbers(streams, config.hidden_size),
            mixing=numbers(2 * streams + streams**2 + weights.bias.shape[1]),
            integers=np.zeros((texts, 32 * lanes), np.int8),
            negative_sums=np.zeros((texts, 8 * lanes), np.int32),
            scales=numbers(lanes),
            x=numbers(config.hidden_size),
            qkv=numbers(int(weights.qkv.sizes[0])),
            scores=numbers(config.num_heads, keys.shape[-2]),
            inner=numbers(int(weights.gate_up.sizes[0])),
            logits=numbers(config.vocab_size),
        )
        return Kept(work)


def take_part(passes: "SimpleQueue[tuple | None]") -> None:
    """Help with each pass, until there is None."""
    from ostinato.kernels.step import step

    while (arguments := passes.get()) is not None:
        step(*arguments)


def compiled_model(model: NanoChat) -> CompiledModel:
    """Return the laid out weights of a packed model; they are kept with it while it is the same."""
    known = model.compiled
    if not isinstance(known, CompiledModel) or known.state != state_of(model):
        known = model.compiled = CompiledModel(model)
    return known


def state_of(model: NanoChat) -> list[tuple[int, int]]:
    """Return what changes with any of the weights."""
    tensors = [*model.parameters(), *model.buffers()]
    return [(tensor.data_ptr(), tensor._version) for tensor in tensors]


def ternary_layers(model: NanoChat) -> list[PackedTernaryLinear]:
    """Return the ternary layers of a packed model."""
    return [module for module in model.modules() if isinstance(module, PackedTernaryLinear)]
