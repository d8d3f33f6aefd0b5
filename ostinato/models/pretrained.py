"""Trained weights on disk: one safetensors file that says which model it is for. No pickle."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ostinato.models import MODELS, RecursiveModel

WEIGHTS = "model.safetensors"
"""Name of the weights file in a run folder."""

_METADATA_KEY = "ostinato"


def save_weights(path: Path, model: RecursiveModel, **notes: Any) -> None:
    """Write the weights and configuration of `model` to `path`; `notes` (JSON) are kept with them."""
    name = next(name for name, (cls, _) in MODELS.items() if type(model) is cls)
    description = {"model": name, "config": asdict(model.config), "notes": notes}
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={_METADATA_KEY: json.dumps(description)})


def load(path: str | Path, device: str | torch.device = "cpu") -> RecursiveModel:
    """A trained model, ready to think, from a run folder or a weights file.

    Raises ValueError, naming the file and the remedy, if there is none, if it is damaged or foreign,
    or if a tensor is missing, extra or mis-shaped.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / WEIGHTS).exists():
            raise ValueError(
                f"{path} holds no {WEIGHTS}: give a run folder whose training has been evaluated "
                "at least once, or the file itself"
            )
        path = path / WEIGHTS
    description, tensors = read_weights(path)
    if description.get("model") not in MODELS:
        raise ValueError(f"{path}: unknown model {description.get('model')!r}; update ostinato")
    model_class, config_class = MODELS[description["model"]]
    try:
        config = config_class(**description["config"])
    except TypeError as error:
        raise ValueError(f"{path}: its configuration does not fit this version ({error})") from None
    model = model_class(config)
    load_weights(model, tensors, source=str(path))
    return model.to(device).eval()


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a weights file says of itself ("model", "config", "notes"), and its tensors."""
    if not path.exists():
        raise ValueError(f"{path} does not exist: give a run folder or a .safetensors file")
    try:
        with safe_open(path, "pt") as file:
            description = (file.metadata() or {}).get(_METADATA_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error})") from None
    if description is None:
        raise ValueError(f"{path} was not written by ostinato: it names no model")
    return json.loads(description), tensors


def load_weights(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Copy `tensors` into `model`. Every name and shape must fit: ValueError names the one that does not."""
    wanted = model.state_dict()
    for problem, names in (
        ("lacks the tensor", wanted.keys() - tensors.keys()),
        ("has a tensor the model does not know:", tensors.keys() - wanted.keys()),
    ):
        if names:
            others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise ValueError(f"{source} {problem} {min(names)}{others}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise ValueError(
                f"{source}: {name} has shape {list(tensor.shape)}, "
                f"the model needs {list(wanted[name].shape)}"
            )
    model.load_state_dict(tensors)
