"""A tiny version of every model, a recipe that trains it in a second, and the bits of its run.

A new model gets both by its line in `MODELS`.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from ostinato.data.sudoku import SudokuData
from ostinato.data.text import TextData
from ostinato.models import MODELS, RECURSIVE_MODELS
from ostinato.training.checkpoint import load_checkpoint
from ostinato.training.config import (
    Recipe,
    TextRecipe,
    TextTrainingConfig,
    TrainingConfig,
)
from ostinato.weights.save import Model

PUZZLES: dict[str, Any] = {
    "task": "sudoku4",
    "vocab_size": 6,
    "seq_len": 16,
    "hidden_size": 16,
    "num_heads": 2,
    "expansion": 1.0,
    "H_cycles": 2,
    "L_cycles": 1,
    "H_layers": 1,
    "L_layers": 1,
    "puzzle_emb_ndim": 16,
    "puzzle_emb_len": 1,
    "halt_max_steps": 4,
    "forward_dtype": "float32",
}
TEXTS: dict[str, Any] = {
    "vocab_size": 270,
    "seq_len": 16,
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "group_size": 16,
}
TRAINING: dict[str, Any] = {
    "total_steps": 6,
    "global_batch_size": 8,
    "lr": 1e-2,
    "warmup_steps": 3,
    "eval_every": 6,
    "eval_batch_size": 16,
    "checkpoint_every": 2,
    "log_every": 2,
    "device": "cpu",
}
WORDS = "low lower new newest größer wide wider".split()


def tiny_config(name: str = "trm", **settings: Any) -> Any:
    """The configuration of a model of `MODELS`, as small as it gets."""
    kind = MODELS[name][1]
    known = {field.name for field in fields(kind)}
    usual = PUZZLES if name in RECURSIVE_MODELS else TEXTS
    return kind(**{key: value for key, value in usual.items() if key in known} | settings)


def tiny_model(name: str = "trm", seed: int = 0, **settings: Any) -> Any:
    """A model with random puzzle rows, which are zero in a new one."""
    generator = torch.Generator().manual_seed(seed)
    model = MODELS[name][0](tiny_config(name, **settings), generator)
    if getattr(model, "puzzle_emb", None) is not None:
        model.puzzle_emb.weights.normal_(generator=generator)  # pyright: ignore
    return model


DATA = SudokuData(size=4, num_train=40, num_validation=16, num_test=8)


def tiny_recipe(name: str = "trm", corpus: Path | None = None, **training: Any) -> Any:
    """A recipe for a model of `MODELS`; one for texts writes its own into the folder `corpus`."""
    model = tiny_config(name)
    if name in RECURSIVE_MODELS:
        return Recipe("tiny", model, DATA, TrainingConfig(**TRAINING | training))
    assert corpus is not None
    corpus.mkdir(exist_ok=True)
    order = torch.randint(len(WORDS), (12, 40), generator=torch.Generator().manual_seed(0))
    for number, row in enumerate(order.tolist()):
        (corpus / f"{number}.txt").write_text(" ".join(WORDS[word] for word in row), "utf-8")
    texts = TextData(str(corpus), num_tokens=270, num_validation=2, num_test=2)
    return TextRecipe("tiny", model, texts, TextTrainingConfig(**TRAINING | training))


def final_state(path: Path) -> dict[str, object]:
    """Every leaf of a run's last checkpoint: weights, optimisers, EMA, slots, generators, best."""
    tree = load_checkpoint(sorted((path / "checkpoints").iterdir())[-1])
    leaves: dict[str, object] = {}

    def walk(node: object, name: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{name}/{key}")
        elif isinstance(node, list | tuple):
            for index, value in enumerate(node):
                walk(value, f"{name}/{index}")
        else:
            leaves[name] = node

    walk(tree, "")
    return leaves


def assert_same_bits(one: Path, other: Path) -> None:
    """Compare the last checkpoints and the weights of two runs."""
    first, second = final_state(one), final_state(other)
    assert first.keys() == second.keys()
    assert len(first) > 30
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[name]), name  # pyright: ignore[reportArgumentType]
        else:
            assert value == second[name], name
    model = "model.safetensors"
    assert (one / model).read_bytes() == (other / model).read_bytes()


def assert_same_model(one: Model, other: Model) -> None:
    assert type(one) is type(other) and one.config == other.config
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
