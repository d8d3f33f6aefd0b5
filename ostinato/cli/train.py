"""`ostinato train RECIPE`."""

import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ostinato.cli import Command
from ostinato.cli.arguments import named_settings, seconds

if TYPE_CHECKING:
    from ostinato.data.built import PuzzleData
    from ostinato.training.config import AnyRecipe


@dataclass(frozen=True)
class Train:
    """Train a recipe, or resume an interrupted run.

    Every setting of the recipe can be changed by a flag; without RECIPE, the recipes are listed.
    """

    run_folder: Annotated[Path | None, tyro.conf.arg(name="run", aliases=["--run-folder"])] = None
    """Write the run to this folder (default: runs/RECIPE). With torchrun use --run-folder, because
    torchrun takes --run for its own --run-path."""
    data_dir: Annotated[Path | None, tyro.conf.arg(name="data")] = None
    """Train on this data set instead of the recipe's, such as one built by the original scripts."""
    data_root: Path = Path("data")
    """Folder in which data sets are built."""
    resume: str = "auto"
    """"auto": resume if there is a checkpoint; "never": refuse a folder in use; or a checkpoint."""
    extend: bool = False
    """Allow another --total-steps when resuming, which plans the learning rate anew."""
    time_limit: str | None = None
    """Stop after so much training, e.g. 90s, 25m, 1h30m, with a checkpoint; the same command goes
    on. The last validation is included, unless it is the first of this session."""


def parse(words: list[str]) -> Command:
    """Parse the words behind `train`."""
    from ostinato.cli.arguments import read_recipe

    arguments, recipe = read_recipe(Train, words, "train")
    return lambda: run(recipe, arguments, named_settings(words))


def run(recipe: "AnyRecipe", arguments: Train, asked: Collection[str] = frozenset()) -> int:
    """Train, and print how it ended; `asked` are the names of the settings that the user gave."""
    from ostinato.recipes.prompts import started
    from ostinato.recipes.sizes import fitted, folder_of
    from ostinato.training.config import PromptRecipe
    from ostinato.training.distributed import is_first_process
    from ostinato.training.loop import CLOSED_PIPE, TrainingError
    from ostinato.training.run import run as run_recipe
    from ostinato.training.run_folder import RunFolder

    if arguments.data_dir is not None:
        recipe = replace(recipe, data=stored_data(recipe, arguments.data_dir))
    path = arguments.run_folder or folder_of(recipe)
    recipe = fitted(recipe, RunFolder(path), asked)
    if isinstance(recipe, PromptRecipe):
        recipe = started(recipe, path, asked)
    try:
        outcome = run_recipe(
            recipe,
            path,
            arguments.data_root,
            arguments.resume,
            arguments.extend,
            seconds(arguments.time_limit) if arguments.time_limit else None,
            report=lambda line: print(line, file=sys.stderr),
        )
    except TrainingError as error:
        print(f"ostinato: {error}", file=sys.stderr)
        return 1
    if not is_first_process():
        return 0
    if outcome.finished:
        say(
            f"done after {outcome.step:,} steps: {outcome.best_in_words}; "
            f"measure it with ostinato eval {path}"
        )
    else:
        say(f"stopped by {outcome.reason} at step {outcome.step:,}; the same command resumes")
    return int(outcome.reason == CLOSED_PIPE)


def say(line: str) -> None:
    """Print a line, on standard error if standard output is closed; if both are, skip it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            return print(line, file=stream, flush=True)


def stored_data(recipe: "AnyRecipe", folder: Path) -> "PuzzleData":
    """Open the data set in `folder`; refuse settings that only the recipe's own data have."""
    from ostinato.data.stored import StoredData
    from ostinato.data.table import TableData
    from ostinato.recipes import recipe_named
    from ostinato.training.config import Recipe

    if not isinstance(recipe, Recipe):
        raise ValueError(f"--data is for puzzles: give {recipe.name} a text with --corpus")
    if isinstance(recipe.data, TableData) and not any(folder.glob("*/dataset.json")):
        return replace(recipe.data, source=str(folder.resolve()))
    preset = recipe_named(recipe.name).data
    settings = {"augment": recipe.data.augment}
    for field in fields(recipe.data):
        value = getattr(recipe.data, field.name)
        if value != getattr(preset, field.name):
            settings[field.name] = value
    known = {field.name for field in fields(StoredData)}
    for name in sorted(settings.keys() - known):
        flag = "--" + name.replace("_", "-")
        raise ValueError(f"{flag} is for data that the recipe builds: leave it out with --data")
    return StoredData(str(folder.resolve()), **settings)
