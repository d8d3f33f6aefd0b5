"""Fit recipes to what they are given: users' own puzzles in three sizes, or trained weights."""

from collections.abc import Collection
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ostinato.data.generated import GeneratedData
from ostinato.data.own import load_kind
from ostinato.data.stored import StoredData, load_splits
from ostinato.data.table import Size, TableData
from ostinato.data.tasks import task_named
from ostinato.models import NanoChatConfig, TRMConfig
from ostinato.recipes import recipe_named
from ostinato.recipes.sudoku import DEEP_STEPS, LARGE_STEPS
from ostinato.training.config import AnyRecipe, Recipe, TextRecipe, TrainingConfig, read_recipe
from ostinato.training.run_folder import RunFolder
from ostinato.training.text import start_tokenizer
from ostinato.weights.load import make_config, read_pretrained

TINY = (
    TRMConfig(
        hidden_size=64,
        num_heads=4,
        H_cycles=1,
        L_cycles=3,
        pos_encodings="none",
        mlp_t=True,
        puzzle_emb_ndim=64,
        puzzle_emb_len=1,
        halt_max_steps=2,
        normalize_swiglu=True,
        forward_dtype="float32",
    ),
    replace(
        LARGE_STEPS,
        total_steps=3000,
        slot_turns=64,
        eval_every=500,
        checkpoint_every=500,
    ),
)
SIZES: dict[Size, tuple[TRMConfig, TrainingConfig]] = {
    "tiny": TINY,
    "small": (
        replace(
            TINY[0],
            hidden_size=192,
            num_heads=6,
            puzzle_emb_ndim=192,
            H_cycles=3,
            forward_dtype="auto",
        ),
        replace(DEEP_STEPS, total_steps=20_000, slot_turns=128),
    ),
    "full": (
        TRMConfig(mlp_t=True, pos_encodings="none"),
        TrainingConfig(total_steps=20_000),
    ),
}
"""Size → model and training; those of "tiny" are the recipe's own, before it knows the data."""
MIXED = 256
"""Most cells for which a model mixes positions by an MLP; above, it uses attention."""


def folder_of(recipe: AnyRecipe) -> Path:
    """Return the folder of a recipe's run, unless the user names another."""
    if recipe.name == "puzzle" and isinstance(recipe.data, GeneratedData):
        assert isinstance(recipe, Recipe)
        recipe = named(recipe, recipe.data)
    return Path("runs") / recipe.name


def fitted(recipe: AnyRecipe, folder: RunFolder, asked: Collection[str] = frozenset()) -> AnyRecipe:
    """Give a recipe for a user's puzzles the size asked for, and the shape of its data.

    Settings that differ from those of "tiny" come from the user, and are kept, as are those whose
    names are `asked` for. A language model that starts from trained weights gets their sizes. Other
    recipes are returned as they are.
    """
    if isinstance(recipe, TextRecipe) and recipe.training.init_from:
        return with_sizes_of_weights(recipe, folder, asked)
    if not isinstance(recipe, Recipe) or recipe.name not in ("table", "puzzle"):
        return recipe
    if recipe.name == "puzzle" and isinstance(recipe.data, GeneratedData):
        recipe = named(recipe, recipe.data)
    size, shape = "tiny", {}
    if isinstance(recipe.data, TableData | GeneratedData):
        size, task = recipe.data.size, recipe.data.task
        shape = {"task": task.name, "vocab_size": task.vocab_size, "seq_len": task.seq_len}
    elif isinstance(recipe.data, StoredData):
        metadata = load_splits(Path(recipe.data.path))["train"].metadata
        shape = {
            name: getattr(metadata, name)
            for name in ("task", "vocab_size", "seq_len", "num_puzzle_identifiers")
        }
    assert isinstance(recipe.model, TRMConfig)
    model, training = SIZES[size]
    asked = set(asked) - shape.keys()  # --task names the kind, the data its shape
    if shape["seq_len"] > MIXED and model.mlp_t:
        model = replace(model, mlp_t=False, pos_encodings="rope")
    model = replace(model, **shape)
    return replace(
        recipe,
        model=chosen(recipe.model, TINY[0], model, asked),
        training=chosen(recipe.training, TINY[1], training, asked),
    )


def with_sizes_of_weights(
    recipe: TextRecipe, folder: RunFolder, asked: Collection[str]
) -> TextRecipe:
    """Give a recipe the model of the weights it starts from, or of the run that it resumes.

    Settings that differ from the recipe's own come from the user, and are kept.
    """
    if folder.is_begun and folder.config.exists():
        model = read_recipe(folder.config).model
    else:
        found = read_pretrained(recipe.training.init_from)
        model = make_config(found.model, found.settings or {}, found.source)
        if isinstance(model, NanoChatConfig):
            size = start_tokenizer(recipe, folder).vocab_size
            model = replace(model, vocab_size=size, forward_dtype="auto")
    if not isinstance(model, NanoChatConfig):
        raise ValueError(
            f"{recipe.training.init_from} is no language model: give a run of nanochat"
        )
    usual = recipe_named(recipe.name).model
    return replace(recipe, model=chosen(recipe.model, usual, model, asked))


def named(recipe: Recipe, data: GeneratedData) -> Recipe:
    """Give data the kind of puzzle that `--task` names: a known one, or FILE.py:Class."""
    name = recipe.model.task
    if not name:
        raise ValueError(
            "no kind of puzzle: give one with --task, such as futoshiki5, or FILE.py:Class"
        )
    if ":" in name:
        kind = load_kind(name)
        name = kind(data.board or kind.sizes[0]).name
    model = replace(recipe.model, task="")
    return replace(recipe, name=name, model=model, data=replace(data, puzzle=task_named(name).name))


def chosen(given: Any, usual: Any, wanted: Any, asked: Collection[str] = frozenset()) -> Any:
    """Return `wanted` with the settings of `given` that are `asked` for or not the `usual` ones."""
    values = {field.name: getattr(given, field.name) for field in fields(given)}
    kept = {
        name: value
        for name, value in values.items()
        if name in asked or value != getattr(usual, name)
    }
    return replace(wanted, **kept)


def tiny_recipe(name: str, total_steps: int, muon_lr: float) -> Recipe:
    """Return the recipe of a kind of puzzle that draws its own, for a laptop."""
    task = task_named(name)
    model = replace(
        TINY[0],
        task=name,
        vocab_size=task.vocab_size,
        seq_len=task.seq_len,
        hidden_size=128,
        puzzle_emb_ndim=128,
        H_cycles=3,
        forward_dtype="auto",
    )
    training = replace(DEEP_STEPS, total_steps=total_steps, muon_lr=muon_lr)
    data = GeneratedData(puzzle=name, num_train=20_000, num_validation=200, num_test=1000)
    return Recipe(f"{name}-tiny", model, data, training)
