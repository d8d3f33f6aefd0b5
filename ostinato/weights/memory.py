"""Estimate the memory that a model needs before it is built."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from ostinato.models import MODELS, NanoChat, NanoChatConfig, RecursiveConfig, RecursiveModel

LAYERS = ("L_layers", "H_layers", "num_layers")
"""Settings that give a number of layers."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""File in which Linux gives the memory limit of a container, in bytes or as "max"."""


def layers_of(config: RecursiveConfig | NanoChatConfig) -> dict[str, int]:
    """Return the numbers of layers, by setting."""
    return {name: getattr(config, name) for name in LAYERS if hasattr(config, name)}


def check_layers(config: RecursiveConfig | NanoChatConfig, num_tensors: int, source: str) -> None:
    """Raise ValueError if the layers are more than the tensors in `source`, each of which has one.

    Even without memory, a model of a million layers would take minutes to make.
    """
    for name, number in layers_of(config).items():
        if number > num_tensors:
            raise ValueError(
                f"{source} holds {num_tensors} tensors, too few for {name} {number}: get it again"
            )


def without_memory(config: RecursiveConfig | NanoChatConfig) -> RecursiveModel | NanoChat:
    """Return the model of `config` on the meta device: names and shapes, but no numbers."""
    kind = next(cls for cls, settings in MODELS.values() if type(config) is settings)
    with torch.device("meta"):
        return kind(config)


def model_bytes(config: RecursiveConfig | NanoChatConfig) -> tuple[int, int]:
    """Return the bytes of the parameters and of the buffers of a model.

    Only one layer of each kind is measured, so a million layers take no longer than two.
    """

    def count(**layers: int) -> tuple[int, int]:
        model = without_memory(replace(config, **layers))
        return sum(p.nbytes for p in model.parameters()), sum(b.nbytes for b in model.buffers())

    layers = layers_of(config)
    once = dict.fromkeys(layers, 1)
    first = parameters, buffers = count(**once)
    for name, number in layers.items():
        more = count(**once | {name: 2})
        parameters += (number - 1) * (more[0] - first[0])
        buffers += (number - 1) * (more[1] - first[1])
    return parameters, buffers


def memory_of(device: torch.device) -> int:
    """Return the bytes of memory that a device has, free or not."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else "max"
    return min(physical, int(limit)) if limit.isdigit() else physical


def check_memory(need: int, device: torch.device, remedy: str) -> None:
    """Raise ValueError if `need` bytes are more than `device` has."""
    if need > (there := memory_of(device)):
        raise ValueError(
            f"at least {need / 1e9:,.1f} GB of memory are needed, {device} has "
            f"{there / 1e9:,.1f} GB: {remedy}"
        )
