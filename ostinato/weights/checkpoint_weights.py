"""Read the weights in a checkpoint of a run that has not been evaluated yet."""

import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ostinato.decoding import convert, read_json
from ostinato.files import Notice
from ostinato.models import MODELS
from ostinato.numbers import ABSENT
from ostinato.weights.files import WEIGHTS, template_beside, tokenizer_beside
from ostinato.weights.fitting import DAMAGED, Pretrained
from ostinato.weights.safetensors_file import digest

CHECKPOINT_KEY = "ostinato_checkpoint"
"""Key in the metadata of a checkpoint."""


def read_checkpoint_weights(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]
) -> Pretrained:
    """Return the weights that training would evaluate, averaged ones if there are any.

    The settings are those in the run's config.json. Raises ValueError if they cannot be read.
    """
    run = path.parent.parent
    config = read_json(run / "config.json", dict[str, Any], "give the file in its run folder")
    settings = convert(config.get("model"), dict[str, Any], str(run / "config.json"))
    name = settings.pop("class", None)
    kinds = {kind.__name__: (model, kind) for model, (_, kind) in MODELS.items()}
    if name not in kinds:
        raise ValueError(f"{run / 'config.json'}: unknown class {name!r}: update ostinato")
    model, kind = kinds[name]
    older = {f.name: f.metadata[ABSENT] for f in fields(kind) if ABSENT in f.metadata}
    found = {
        name.removeprefix(part): tensor
        for part in ("model/", "ema/")
        for name, tensor in tensors.items()
        if name.startswith(part)
    }
    is_whole = metadata.get("sha256") == digest(metadata.get("tree", ""), tensors)
    number = path.stem.rpartition("-")[2]
    if not number.isdecimal():
        raise ValueError(f"{path} is no checkpoint's name: give it back its own, step-N")
    step = int(number)
    warnings.warn(
        f"{run} has not been evaluated yet: these are the weights of its newest checkpoint, step "
        f"{step:,}",
        Notice,
        stacklevel=2,
    )
    return Pretrained(
        str(path),
        model,
        older | settings,
        found,
        notes={"step": step},
        tokenizer=tokenizer_beside(run / WEIGHTS),
        chat_template=template_beside(run / WEIGHTS),
        damage="" if is_whole else DAMAGED,
    )
