"""Count the parameters and the memory that a size of nanochat needs, on its model."""

from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ostinato.layers import RotaryEmbedding, TernaryLinear
from ostinato.models.nanochat import Block, NanoChat, NanoChatConfig, Role

FLOAT_BYTES = 4
PROBE_TOKENS = 16
"""Length of the short text on which a block is measured; the long text is twice as long."""


@dataclass(frozen=True)
class Size:
    """Hold the number of parameters and the memory, in bytes, of a configuration."""

    parameters: int
    ternary_parameters: int
    """Parameters that are ternary in use."""
    weights: int
    gradients: int
    optimizer: int
    """State of Muon (one number per weight) for the block matrices, of AdamW (two) for the rest."""
    activations: int
    """Tensors that the forward pass keeps for the backward pass, for the given batch."""
    inference: int
    """Packed model plus the cache of a text of full length."""

    @property
    def training(self) -> int:
        """Sum the memory that training holds at once, without the kernels' own workspace."""
        return self.weights + self.gradients + self.optimizer + self.activations


def size_of(config: NanoChatConfig, batch_size: int = 1) -> Size:
    """Count parameters and memory on a model with one block and a vocabulary of one token."""
    small = NanoChat(replace(config, num_layers=1, vocab_size=1))
    roles = small.parameter_roles()
    sizes: Counter[Role] = Counter()
    for name, parameter in small.named_parameters():
        times = config.num_layers if name.startswith("blocks.") else 1
        times = config.vocab_size if roles[name] in ("embedding", "head") else times
        sizes[roles[name]] += times * parameter.numel()
    total, matrices = sizes.total(), sizes["block matrix"]
    scales = sum(
        m.ternary().scales.numel() for m in small.modules() if isinstance(m, TernaryLinear)
    )
    packed = total - matrices + config.num_layers * scales
    cache = sum(layer.keys.nbytes + layer.values.nbytes for layer in small.new_cache())
    block = small.blocks[0]
    assert isinstance(block, Block)
    return Size(
        parameters=total,
        ternary_parameters=matrices if config.ternary else 0,
        weights=FLOAT_BYTES * total,
        gradients=FLOAT_BYTES * total,
        optimizer=FLOAT_BYTES * (matrices + 2 * (total - matrices)),
        activations=activation_bytes(block, config, batch_size * config.seq_len),
        inference=(
            (FLOAT_BYTES * packed + matrices if config.ternary else FLOAT_BYTES * total)
            + config.num_layers * cache
        ),
    )


def activation_bytes(block: Block, config: NanoChatConfig, num_tokens: int) -> int:
    """Return the bytes that autograd keeps of a forward pass over `num_tokens`.

    One block is measured at two lengths: it keeps a fixed part, its quantised weights, and an equal
    part for each token.
    """
    rotary = RotaryEmbedding(config.head_dim, 2 * PROBE_TOKENS, config.rope_theta)
    short, long = (
        saved_bytes(block, rotary, config, length) for length in (PROBE_TOKENS, 2 * PROBE_TOKENS)
    )
    fixed = 2 * short - long
    blocks = config.num_layers * (fixed + (long - short) * num_tokens // PROBE_TOKENS)
    # The head's output, and its logarithmic probabilities for the loss
    head = num_tokens * config.vocab_size * (config.dtype.itemsize + FLOAT_BYTES)
    return config.num_loops * (blocks + head)


def saved_bytes(block: Block, rotary: RotaryEmbedding, config: NanoChatConfig, length: int) -> int:
    """Return the bytes that autograd keeps between a block's forward and backward pass.

    Parameters are not counted.
    """
    kept: dict[int, int] = {}
    owned = {tensor.data_ptr() for tensor in [*block.parameters(), *rotary.buffers()]}
    alive: list[Tensor] = []  # keeps tensors alive, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    shape = (1, length, config.num_streams, config.hidden_size)
    streams = torch.zeros(shape, dtype=config.dtype, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # The addition stands for whatever precedes the block, whose output is the block's input
        output = block(streams + 0, rotary)
    assert output.requires_grad
    return sum(kept.values())
