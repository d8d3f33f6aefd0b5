"""A checkpoint as the originals' `pretrain.py` saves it, for their code and everybody else's."""

from pathlib import Path
from typing import Any

import torch
import yaml

from ostinato.files import atomic, make_folder, write_text
from ostinato.models import RecursiveModel
from ostinato.weights.load import describe
from ostinato.weights.official import to_official_file, to_official_weights

LOSS_HEAD = "losses@ACTLossHead"


def write_official(
    model: RecursiveModel,
    folder: Path,
    step: int | None = None,
    training: dict[str, Any] | None = None,
    loss_type: str = "stablemax_cross_entropy",
    halt_exploration_prob: float = 0.1,
) -> Path:
    """Write `step_N` (without a step: `checkpoint`) and `all_config.yaml`; returns the former.

    The weights are those of `model`, with its puzzle rows; `ostinato.load` gives an equal model
    back. `training` holds settings of the first level under the originals' names; theirs are the
    defaults for what their code asks of every model, the loss and the exploration.
    Raises ValueError if the originals have no such model.
    """
    name = describe(model)["model"]
    arch = {
        "loss": {"name": LOSS_HEAD, "loss_type": loss_type},
        "halt_exploration_prob": halt_exploration_prob,
    }
    content = to_official_file(name, model.config, training or {}, arch)
    weights = to_official_weights(model)
    make_folder(folder)
    path = folder / ("checkpoint" if step is None else f"step_{step}")
    with atomic(path) as file:
        try:
            torch.save({name: weight.cpu().contiguous() for name, weight in weights.items()}, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # such as a full disk
                raise error.__context__ from error
            raise
    write_text(folder / "all_config.yaml", yaml.safe_dump(content))
    return path
