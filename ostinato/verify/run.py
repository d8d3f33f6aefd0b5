"""Is a run what it says? Its files load, every number is finite, its scores come out again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ostinato.data.puzzles import PuzzleSet
from ostinato.evaluation.puzzles import Evaluation, evaluate
from ostinato.models import RecursiveModel
from ostinato.models.pretrained import load, read_pretrained
from ostinato.training.checkpoint import Checkpoints, load_checkpoint
from ostinato.training.config import Recipe
from ostinato.training.config_file import read_config
from ostinato.training.distributed import World
from ostinato.training.run_folder import RunFolder, read_json
from ostinato.training.state import TrainState

ROUNDING = 0.005
"""Share of puzzles, and of cells, whose answers rounding may decide: where a model has no answer
yet a rounding grows tenfold a step, and another machine or batch rounds otherwise."""


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and whether it is as it should be."""

    name: str
    found: str
    passed: bool


def verify_run(
    path: Path, data_root: Path, device: torch.device, report: Callable[[str], None]
) -> Iterator[Finding]:
    """Check the run folder `path`, or any weights that `load` takes (which have no scores).

    Weights and checkpoints have to load with no tensor missing, extra or mis-shaped, and to be
    finite: weights, averages, optimisers and states. The scores in result.json and beside the
    weights have to come out again on the same puzzles. Raises ValueError if there is nothing to
    check.
    """
    if not path.exists():
        raise ValueError(f"there is no {path}: give a run folder or a weights file")
    folder = RunFolder(path)
    is_run = folder.config.exists() and "class" in read_json(folder.config, dict[str, Any])
    recipe = read_config(folder.config, Recipe) if is_run else None
    yield finding("weights", lambda: check_weights(path, recipe))
    if recipe is None:
        return
    checkpoints = Checkpoints(folder.checkpoints, 1).paths()
    for checkpoint in checkpoints:
        yield finding(checkpoint.stem, partial(check_checkpoint, checkpoint, recipe))
    if not checkpoints:
        yield Finding("checkpoints", "there are none: the run cannot go on", False)
    score = Scores(path, recipe, data_root, device, report)
    yield finding("score beside the weights", score.of_weights)
    yield finding("result.json", score.of_result)


def finding(name: str, check: Callable[[], str]) -> Finding:
    """What `check` found; it raises ValueError if that is not as it should be."""
    try:
        return Finding(name, check(), True)
    except ValueError as error:
        return Finding(name, str(error), False)


def check_weights(path: Path, recipe: Recipe | None) -> str:
    """Published weights load strictly, fit the settings of the run and are finite."""
    model = load(path, kind=RecursiveModel)
    if recipe is not None and model.config != recipe.model:
        raise ValueError("the weights are for a model with other settings than config.json says")
    return f"{check_finite(model.state_dict()):,} numbers in {len(model.state_dict())} tensors"


def check_checkpoint(path: Path, recipe: Recipe) -> str:
    """A checkpoint has what a run of these settings needs to go on, and is finite."""
    tree = load_checkpoint(path)
    state = TrainState.start(recipe, torch.device("cpu"), World(), resumed=True)
    wanted = state.tree()
    if lacking := wanted.keys() - tree.keys():
        raise ValueError(f"lacks {min(lacking)}")
    for part in ("model", "ema", "slots"):
        check_shapes(tensors_of(tree[part], part), tensors_of(wanted[part], part))
    if len(tree["optimizers"]) != len(state.optimizers):
        raise ValueError(f"optimizers: {len(tree['optimizers'])}, not {len(state.optimizers)}")
    trains_weights = recipe.training.freeze == "nothing" and tree["step"] > 0
    for number, optimizer in enumerate(state.optimizers):
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        check_moments(tree["optimizers"][number]["state"], weights if trains_weights else [])
    state.restore(tree)
    numbers = check_finite(tensors_of(tree, ""))
    return f"step {tree['step']:,}, {numbers:,} numbers"


def check_moments(moments: dict[int, dict[str, Any]], weights: list[Tensor]) -> None:
    """ValueError if an optimiser's moments are not those of `weights`."""
    if moments.keys() != set(range(len(weights))):
        raise ValueError(f"an optimiser has moments for {len(moments)} of {len(weights)} weights")
    for index, weight in enumerate(weights):
        for name, moment in moments[index].items():
            if isinstance(moment, Tensor) and moment.ndim and moment.shape != weight.shape:
                raise ValueError(
                    f"{name} of a weight of shape {list(weight.shape)} has {list(moment.shape)}"
                )


def check_shapes(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """ValueError that names a tensor which is missing, extra or mis-shaped."""
    for problem, names in (
        ("lacks", wanted.keys() - found),
        ("has too much:", found.keys() - wanted),
    ):
        if names:
            raise ValueError(f"{problem} {min(names)}")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{list(tensor.shape)}, not {list(wanted[name].shape)}"
            raise ValueError(f"{name} has shape {shapes}")


def check_finite(tensors: dict[str, Tensor]) -> int:
    """How many numbers there are; ValueError that names a tensor which is not finite."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite")
    return sum(tensor.numel() for tensor in tensors.values())


def tensors_of(node: Any, path: str) -> dict[str, Tensor]:
    """The tensors in a tree, by their path."""
    if isinstance(node, Tensor):
        return {path: node}
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    found = {}
    if isinstance(node, dict):
        for key, value in node.items():
            found |= tensors_of(value, f"{path}/{key}" if path else str(key))
    return found


class Scores:
    """The scores that a run has recorded, each compared with a new evaluation."""

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        data_root: Path,
        device: torch.device,
        report: Callable[[str], None],
    ):
        self.path, self.recipe, self.device, self.report = path, recipe, device, report
        self.data_root = data_root
        self.measured: dict[str, Evaluation] = {}

    def of_weights(self) -> str:
        """The validation score for which the weights were kept."""
        score = read_pretrained(self.path).notes.get("validation")
        if not isinstance(score, dict):
            raise ValueError("the weights do not say how they did on validation")
        return self.compare("validation", score)

    def of_result(self) -> str:
        """The last evaluation."""
        result = read_json(RunFolder(self.path).result, dict[str, Any])
        split = result.get("split")
        if split not in ("train", "validation", "test"):
            raise ValueError(
                f"result.json names the split {split!r}: run ostinato eval {self.path}"
            )
        return self.compare(split, result)

    def compare(self, split: str, recorded: dict[str, Any]) -> str:
        """Both exact accuracies; ValueError if a score is further away than rounding explains."""
        measured = self.evaluation(split)
        for name in ("puzzles", "steps"):
            if name in recorded and recorded[name] != getattr(measured, name):
                raise ValueError(
                    f"{name}: {recorded[name]} recorded, {getattr(measured, name)} now"
                )
        allowed = max(ROUNDING, 1 / measured.puzzles) + 1e-9
        for name in ("exact_accuracy", "cell_accuracy"):
            now = getattr(measured, name)
            if name == "exact_accuracy" or name in recorded:
                then = recorded.get(name)
                if not isinstance(then, float | int) or not abs(then - now) <= allowed:
                    raise ValueError(f"{name} on {split}: {then} recorded, {now} now")
        return (
            f"{recorded['exact_accuracy']:.2%} of {measured.puzzles:,} {split} puzzles recorded, "
            f"{measured.exact_accuracy:.2%} now"
        )

    def evaluation(self, split: str) -> Evaluation:
        """The score on a split of the run's data, measured once."""
        if split not in self.measured:
            data = self.recipe.data.prepare(self.data_root, self.report)
            model = load(self.path, self.device, kind=RecursiveModel)
            self.measured[split] = evaluate(model, PuzzleSet.load(data, split))
        return self.measured[split]
