"""Turn a recipe into a finished run folder: data, device, processes, resume, training, result."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch

from ostinato.decoding import read_text
from ostinato.files import write_text
from ostinato.models.dtypes import computes_in_bfloat16
from ostinato.training import prompts, puzzles, text
from ostinato.training.checkpoint import Checkpoints, load_checkpoint
from ostinato.training.config import (
    FREE_ON_RESUME,
    AnyRecipe,
    PromptRecipe,
    Recipe,
    TextRecipe,
    read_recipe,
    with_dtypes,
)
from ostinato.training.config_file import differences, write_config
from ostinato.training.distributed import World
from ostinato.training.held_out import check_unseen
from ostinato.training.loop import Outcome
from ostinato.training.memory import check_recipe
from ostinato.training.run_folder import RunFolder
from ostinato.training.weight_state import Misfit


class Kind(Protocol):
    """The functions for training that `puzzles`, `text` and `prompts` provide for their models."""

    def prepare(
        self, recipe: Any, folder: RunFolder, root: Path, report: Callable[[str], None], /
    ) -> Path: ...
    def load_split(self, data: Path, split: str, /) -> Any: ...
    def check_fits(self, recipe: Any, train_set: Any, data: Path, /) -> None: ...
    def describe(self, recipe: Any, train_set: Any, validation_set: Any, /) -> str: ...

    @property
    def train(self) -> Callable[..., Outcome]: ...


KINDS: dict[type, Kind] = {Recipe: puzzles, TextRecipe: text, PromptRecipe: prompts}
"""The module that trains each class of recipe."""


def run(
    recipe: AnyRecipe,
    path: Path,
    data_root: Path,
    resume: str = "auto",
    extend: bool = False,
    time_limit: float | None = None,
    report: Callable[[str], None] = print,
    unseen: bool = True,
) -> Outcome:
    """Train `recipe` in the run folder `path`, with data sets built below `data_root`.

    `resume` is "auto" (go on if the folder holds a checkpoint), "never" (refuse a folder that is in
    use) or the path of a checkpoint. `extend` allows another `total_steps` than the run began with,
    and plans the learning rate anew. `time_limit` is in seconds. `unseen` refuses weights to start
    from that were trained on what is held out here.

    Raises ValueError, with the remedy, for what the user can put right; `TrainingError` if the loss
    is no longer finite.
    """
    kind = KINDS[type(recipe)]
    with World.join() as world:
        device = world.device(pick_device(recipe.training.device))
        world.check_same("settings", lambda: (recipe, device.type))
        check_recipe(recipe, device, world.size)
        say = report if world.is_main else ignore
        folder = RunFolder(path)
        with folder.lock() if world.is_main else nullcontext():
            data = world.ask_main("data", lambda: kind.prepare(recipe, folder, data_root, say))
            train_set = kind.load_split(data, "train")
            validation_set = kind.load_split(data, "validation")
            kind.check_fits(recipe, train_set, data)
            world.check_same("training data", lambda: train_set.fingerprint)
            found = world.ask_main(
                "checkpoint", lambda: find_checkpoint(recipe, folder, resume, extend, say)
            )
            if found is None and unseen:
                world.ask_main(
                    "start",
                    lambda: check_unseen(recipe, data, train_set, data_root, kind.load_split, say),
                )
            checkpoint = None if found is None else load_checkpoint(found)
            if checkpoint is not None and checkpoint["data"] != train_set.fingerprint:
                raise ValueError(
                    f"the training data in {data} is not what {path} was trained on: "
                    "restore it, or train in a new folder"
                )
            step = 0 if checkpoint is None else checkpoint["step"]
            before = read_recipe(folder.config) if folder.config.exists() else recipe
            recipe = world.ask_main(
                "dtypes", lambda: with_dtypes(recipe, device, None if found is None else before)
            )
            if world.is_main:
                write_config(folder.config, recipe)
                folder.record_environment(device, step, data, train_set.fingerprint)
                names = data / folder.identifiers.name
                if names.exists():
                    write_text(folder.identifiers, read_text(names))
            if found is not None:
                say(f"resuming from {found} at step {step}")
                warn_of_resume(recipe, step, before, say)
            warn_of_slow_dtypes(recipe, device, say)
            processes = f" × {world.size} processes" if world.size > 1 else ""
            say(
                f"{recipe.name}: {kind.describe(recipe, train_set, validation_set)} in "
                f"{recipe.model.forward_dtype} on {device}{processes}"
            )
            try:
                return kind.train(
                    recipe, folder, train_set, validation_set, device, world, checkpoint, time_limit
                )
            except Misfit as error:
                raise ValueError(
                    f"{found} does not fit these settings ({error}): give those that it was made "
                    "with, or another checkpoint"
                ) from None


def warn_of_resume(
    recipe: AnyRecipe, step: int, before: AnyRecipe, say: Callable[[str], None]
) -> None:
    """Warn if there is nothing left to do, or if a rate that had fallen is raised again."""
    if step >= recipe.training.total_steps:
        say(f"the run has all of its {step:,} steps: --extend with more --total-steps goes on")
    elif step:
        was, rate = before.training.schedule(step), recipe.training.schedule(step + 1)
        if rate > 1.5 * was:
            say(
                f"warning: the learning rate, which had come down to {was:.2g} of its height, "
                f"goes up again to {rate:.2g}: scores get worse before they get better"
            )


def warn_of_slow_dtypes(
    recipe: AnyRecipe, device: torch.device, say: Callable[[str], None]
) -> None:
    """Warn if the run computes in a dtype that `device` has no instructions for."""
    flags = {"--forward-dtype": recipe.model.forward_dtype}
    if recipe.training.optimizer == "muon" or isinstance(recipe, TextRecipe):
        flags["--muon-dtype"] = recipe.training.muon_dtype
    slow = [f"{flag} bfloat16" for flag, dtype in flags.items() if dtype == "bfloat16"]
    if slow and not computes_in_bfloat16(device):
        say(
            f"warning: the run has {' and '.join(slow)}, in which this CPU is very slow: "
            "go on elsewhere, or start a new run without them"
        )


def ignore(line: str) -> None:
    """Discard a line of a report."""


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" takes the best there is. ValueError if it is
    absent."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if device.type not in present:
        raise ValueError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:0, … or mps")
    if not present[device.type]:
        raise ValueError(f"there is no {name} device on this machine: use --device cpu")
    return device


def find_checkpoint(
    recipe: AnyRecipe, folder: RunFolder, resume: str, extend: bool, say: Callable[[str], None]
) -> Path | None:
    """Return the checkpoint to resume from, or None for a fresh start; refuse a changed recipe."""
    if resume == "never":
        if folder.config.exists():
            raise ValueError(
                f"{folder.path} holds a run already: use --resume auto to go on with it, "
                "or --run with another folder"
            )
        return None
    checkpoints = Checkpoints(folder.checkpoints, recipe.training.keep_checkpoints)
    chosen = checkpoints.latest(warn=say) if resume == "auto" else Path(resume)
    if chosen is None:
        if checkpoints.paths():
            raise ValueError(f"no checkpoint in {folder.checkpoints} is readable: start a new run")
        if folder.model.exists():
            raise ValueError(
                f"{folder.path} holds trained weights, but no checkpoint to go on from: use --run "
                "with another folder"
            )
        return None
    if folder.config.exists():
        refuse_changes(recipe, read_recipe(folder.config), extend, folder.path)
    return chosen


class Changed(ValueError):
    """A run would go on with another setting than it was started with."""

    def __init__(self, path: str, change: str, remedy: str):
        self.change = change
        super().__init__(f"{path} was started with {change}: {remedy}")


def refuse_changes(recipe: AnyRecipe, saved: AnyRecipe, extend: bool, path: Path) -> None:
    """Raise Changed if `recipe` and `saved` differ in anything that training depends on."""
    free = {f"training.{name}" for name in FREE_ON_RESUME | ({"total_steps"} if extend else set())}
    changed = {
        key: (old, new)
        for key, (old, new) in differences(saved, recipe).items()
        if key not in free and new != "auto"  # "auto" is what the run has chosen
    }
    if not changed:
        return
    key, (old, new) = next(iter(changed.items()))
    remedy = "go on with the old value, or start a new run with --run"
    if key == "training.total_steps":
        remedy += "; --extend plans the run anew"
    raise Changed(str(path), f"{key} = {old}, not {new}", remedy)
