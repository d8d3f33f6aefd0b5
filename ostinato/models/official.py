"""The names and settings of the originals' checkpoints, translated both ways."""

from dataclasses import fields
from typing import Any

from torch import Tensor

from ostinato.models import MODELS
from ostinato.models.recursive import RecursiveConfig

PREFIXES = ("_orig_mod.", "module.", "model.", "inner.")
"""What `torch.compile`, DDP, the loss head and the ACT wrapper put in front of a name."""

RENAMED = {
    "embedding_weight": "weight",
}
"""Last part of an original name → ours, where they differ."""

NOT_OURS = {"batch_size", "H_layers", "loss_type", "halt_exploration_prob"}
"""Settings that belong to training here, or that the original keeps but ignores."""


def from_official_name(name: str) -> str:
    """`_orig_mod.model.inner.embed_tokens.embedding_weight` → `embed_tokens.weight`."""
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    *path, last = name.split(".")
    return ".".join([*path, RENAMED.get(last, last)])


def from_official_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under our names."""
    return {from_official_name(name): tensor for name, tensor in tensors.items()}


def from_official_config(model: str, settings: dict[str, Any]) -> RecursiveConfig:
    """The configuration of `model` ("trm" or "hrm") from an original `arch` section.

    Raises ValueError naming a setting that is neither known nor meant for training.
    """
    config_class = MODELS[model][1]
    known = {field.name for field in fields(config_class)}
    unknown = set(settings) - known - NOT_OURS
    if unknown:
        raise ValueError(f"unknown {model} setting {', '.join(sorted(unknown))}")
    return config_class(**{name: value for name, value in settings.items() if name in known})
