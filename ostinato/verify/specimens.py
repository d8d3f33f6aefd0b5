"""Make small models in float64 for the fidelity report that use every path."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ostinato.data.batches import Batch
from ostinato.layers import RotaryEmbedding
from ostinato.models import HRM, TRM, HRMConfig, RecursiveModel, State, TRMConfig
from ostinato.verify import reference

SIZES: dict[str, Any] = {
    "vocab_size": 7,
    "seq_len": 12,
    "hidden_size": 16,
    "num_heads": 2,
    "puzzle_emb_ndim": 40,
    "num_puzzle_identifiers": 5,
    "halt_max_steps": 4,
    "forward_dtype": "float64",
}

CONFIGS: dict[str, TRMConfig | HRMConfig] = {
    "TRM": TRMConfig(**SIZES, H_cycles=3, L_cycles=2, L_layers=2, puzzle_emb_len=4),
    "TRM-MLP": TRMConfig(
        **SIZES,
        H_cycles=2,
        L_cycles=3,
        L_layers=1,
        puzzle_emb_len=3,
        pos_encodings="none",
        mlp_t=True,
    ),
    "HRM": HRMConfig(**SIZES, H_cycles=2, L_cycles=3, H_layers=1, L_layers=2),
}
"""Name in the report → settings."""

MODELS = tuple(CONFIGS)
BATCH = 6


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw normally distributed numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def specimen(name: str, **settings: Any) -> RecursiveModel:
    """Make a model with random q head and puzzle rows, which are zero in a new one."""
    config = replace(CONFIGS[name], **settings)
    generator = torch.Generator().manual_seed(1)
    model_class = TRM if isinstance(config, TRMConfig) else HRM
    model = model_class(config, generator)  # pyright: ignore[reportArgumentType]
    if config.forward_dtype == "float64":
        model.double()
    with torch.no_grad():
        model.q_head.weight.normal_(generator=generator)
        nn.init.zeros_(model.q_head.bias)  # pyright: ignore[reportArgumentType]
        if model.puzzle_emb is not None:
            model.puzzle_emb.weights.normal_(std=0.25, generator=generator)
    if model.rotary is not None and config.forward_dtype == "float64":
        exact_tables(model.rotary, config.rope_theta)
    return model


def exact_tables(rotary: RotaryEmbedding, theta: float) -> None:
    """Replace tables that are kept in fp32, and measured by themselves, by exact ones."""
    length, size = rotary.cos.shape
    unit = torch.zeros(1, length, 1, size, dtype=torch.float64)
    unit[..., : size // 2] = 1
    cos, sin = reference.rotate(unit, theta)[0, :, 0].chunk(2, dim=-1)
    rotary.cos, rotary.sin = cos.repeat(1, 2), sin.repeat(1, 2)


def weights(model: RecursiveModel) -> reference.Weights:
    """Copy the weights for the reference, with gradients where the model has them."""
    trained = dict(model.named_parameters())
    return {
        name: tensor.detach().clone().requires_grad_(name in trained)
        for name, tensor in model.state_dict().items()
    }


def batch(model: RecursiveModel, seed: int = 2) -> Batch:
    """Draw random puzzles: some ids repeat, some labels are ignored, one row has no label."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    shape = (BATCH, config.seq_len)
    inputs = torch.randint(config.vocab_size, shape, generator=generator, dtype=torch.int32)
    labels = torch.randint(config.vocab_size, shape, generator=generator, dtype=torch.int32)
    labels[torch.rand(shape, generator=generator) < 0.3] = -100
    labels[-1] = -100
    ids = torch.tensor([1, 3, 1, 0, 4, 3], dtype=torch.int32)
    return Batch(inputs, labels, ids)


def some_state(model: RecursiveModel, seed: int = 3) -> State:
    """Draw a state in the middle of thinking."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    shape = (2, BATCH, config.prefix_len + config.seq_len, config.hidden_size)
    z = torch.randn(shape, generator=generator, dtype=torch.float64)
    return State(*reference.rms_norm(z, 1e-5).to(config.dtype))


def rows_of(model: RecursiveModel, ids: Tensor) -> Tensor | None:
    """Return the puzzle rows of a batch, for the reference."""
    return None if model.puzzle_emb is None else model.puzzle_emb.weights[ids.long()].clone()
