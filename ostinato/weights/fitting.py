"""Put tensors that were read from a file into a model, if every one of them fits."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from ostinato.models import RecursiveModel
from ostinato.weights.official import TABLE, without_derived
from ostinato.weights.save import Model

PuzzleEmbeddings = Literal["keep", "mean"]
"""Use of a file's puzzle rows: "keep" them, or start all rows from their "mean"."""


DAMAGED = "is damaged (its SHA-256 does not match): restore it from a copy"


@dataclass(frozen=True)
class Pretrained:
    """Hold weights as found, and what is known about their model."""

    source: str
    model: str
    """Key of `MODELS`."""
    settings: dict[str, Any] | None
    """Configuration of the model, perhaps incomplete; None if no file has it."""
    tensors: dict[str, Tensor]
    """Tensors under our names."""
    notes: dict[str, Any]
    """Notes that `save_weights` was told to keep."""
    tokenizer: str = ""
    """Content of the `tokenizer.json` beside the weights."""
    chat_template: str = ""
    """Template of conversations of a model that was trained on them."""
    damage: str = ""
    """Parts that do not match the hashes in the file, in words; empty: none."""


def load_pretrained(
    model: Model, found: Pretrained, puzzle_embeddings: PuzzleEmbeddings = "keep"
) -> None:
    """Load all weights that were found into `model`, whatever its own settings are.

    Raises ValueError if a tensor is missing, extra, mis-shaped or not finite, or if the file is
    damaged.
    """
    load_weights(model, tensors_for(model, found, puzzle_embeddings), found.source)
    if found.damage:
        raise ValueError(f"{found.source} {found.damage}")


def tensors_for(
    model: Model, found: Pretrained, puzzle_embeddings: PuzzleEmbeddings
) -> dict[str, Tensor]:
    """Return the tensors that were found, with as many puzzle rows as `model` has.

    Raises ValueError, with the two remedies, if the numbers of rows differ and "mean" was not
    asked for.
    """
    if puzzle_embeddings not in get_args(PuzzleEmbeddings):
        raise ValueError(f"puzzle_embeddings is {puzzle_embeddings!r}: choose keep or mean")
    tensors = found.tensors
    if puzzle_embeddings == "mean":
        table = tensors.get(TABLE)
        if table is None or table.ndim != 2 or not isinstance(model, RecursiveModel):
            raise ValueError(f"{found.source} has no {TABLE} to take the mean of: keep them")
        rows = model.config.num_puzzle_identifiers
        tensors = tensors | {TABLE: table.mean(0, keepdim=True).expand(rows, -1)}
    elif isinstance(model, RecursiveModel) and model.puzzle_emb is not None:
        table, rows = tensors.get(TABLE), model.config.num_puzzle_identifiers
        if table is not None and table.ndim and len(table) != rows:
            raise ValueError(
                f"{found.source}: {TABLE} has {len(table)} rows, the model needs {rows}: start "
                "every row from their mean with puzzle_embeddings mean, or set "
                f"num_puzzle_identifiers to {len(table)}"
            )
    return tensors


def load_weights(model: Model, tensors: dict[str, Tensor], source: str) -> None:
    """Copy `tensors` into `model`; ValueError names a tensor that does not fit or is not finite."""
    model.load_state_dict(fitting(model, tensors, source))
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise ValueError(f"{source}: {name} is not finite: get the file again, or train anew")


def fitting(model: Model, tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the tensors that `model` loads; ValueError names one that does not fit.

    The model may be on the meta device.
    """
    tensors = without_derived(model, tensors, source)
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
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            raise ValueError(
                f"{source}: {name} is {tensor.dtype}, the model has {wanted[name].dtype}"
            )
    return tensors
