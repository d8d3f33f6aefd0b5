"""Check a run: its files load, all numbers are finite, its scores can be reproduced."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ostinato.data.prompts import PromptSet
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.text import load_texts
from ostinato.evaluation.prompts import Sampler
from ostinato.evaluation.prompts import evaluate as evaluate_prompts
from ostinato.evaluation.puzzles import Evaluation, evaluate
from ostinato.evaluation.text import evaluate as evaluate_text
from ostinato.inference.generate import tokenizer_of
from ostinato.models import NanoChat, RecursiveModel
from ostinato.training.checkpoint import Checkpoints, load_checkpoint
from ostinato.training.config import AnyRecipe, PromptRecipe, Recipe, TextRecipe, read_recipe
from ostinato.training.distributed import World
from ostinato.training.prompt_state import PromptState
from ostinato.training.prompts import HELD_OUT
from ostinato.training.run_folder import RunFolder, read_json
from ostinato.training.state import TrainState
from ostinato.training.text import prepare
from ostinato.training.text_state import TextState
from ostinato.training.weight_state import tensors_of
from ostinato.weights.files import locate
from ostinato.weights.load import load, read_pretrained

ROUNDING = 0.005
"""Share of puzzles, and of cells, whose answers may depend on rounding. While a model has no
answer yet, a rounding error grows tenfold per step, and machines and batches round differently."""


@dataclass(frozen=True)
class Finding:
    """Hold the thing checked, the result, and whether it is as expected."""

    name: str
    found: str
    passed: bool


def verify_run(
    path: Path, data_root: Path, device: torch.device, report: Callable[[str], None]
) -> Iterator[Finding]:
    """Check the run folder `path`, or any weights that `load` takes (which have no scores).

    Weights and checkpoints have to load with no tensor missing, extra or mis-shaped, and to be
    finite: weights, averages, optimisers and states. The scores in result.json and beside the
    weights have to be reproduced on the same puzzles or texts. Raises ValueError if there is
    nothing to check.
    """
    if not path.exists():
        path = locate(path)
    folder = RunFolder(path)
    is_run = folder.config.exists() and "class" in read_json(folder.config, dict[str, Any])
    recipe = read_recipe(folder.config) if is_run else None
    weights = finding("weights", lambda: check_weights(path, recipe))
    yield weights
    if weights.passed and read_pretrained(path).model == "nanochat":
        yield finding("tokenizer", lambda: check_tokenizer(path))
    if recipe is None:
        return
    checkpoints = Checkpoints(folder.checkpoints, 1).paths()
    for checkpoint in checkpoints:
        yield finding(checkpoint.stem, partial(check_checkpoint, checkpoint, recipe))
    if not checkpoints:
        yield Finding("checkpoints", "there are none: the run cannot go on", False)
    kind = SCORES[type(recipe)]
    score = kind(path, recipe, data_root, device, report)
    yield finding("score beside the weights", score.of_weights)
    yield finding("result.json", score.of_result)


def finding(name: str, check: Callable[[], str]) -> Finding:
    """Return the finding of `check`, which raises ValueError if something is wrong."""
    try:
        return Finding(name, check(), True)
    except ValueError as error:
        return Finding(name, str(error), False)


def check_weights(path: Path, recipe: AnyRecipe | None) -> str:
    """Check that weights load strictly, are finite and undamaged, and fit the settings of a run."""
    model = load(path)
    if recipe is not None and model.config != recipe.model:
        raise ValueError("the weights are for a model with other settings than config.json says")
    tensors = model.state_dict()
    found = f"{check_finite(tensors):,} numbers in {len(tensors)} tensors"
    return found if recipe else f"{found}; their score is not measured, which needs their run"


def check_tokenizer(path: Path) -> str:
    """Check that a language model has a tokenizer of its size; `load` has compared the hashes."""
    return f"{tokenizer_of(load(path, kind=NanoChat)).vocab_size:,} tokens"


def check_checkpoint(path: Path, recipe: AnyRecipe) -> str:
    """Check that a checkpoint has what a run of these settings needs to resume, and is finite."""
    tree, cpu = load_checkpoint(path), torch.device("cpu")
    if isinstance(recipe, PromptRecipe):
        state = PromptState.start(recipe, cpu, World(), resumed=True)
    elif isinstance(recipe, TextRecipe):
        state = TextState.start(recipe, cpu, World())
    else:
        state = TrainState.start(recipe, cpu, World(), resumed=True)
    state.restore(tree)
    frozen = isinstance(recipe, Recipe) and recipe.training.freeze == "weights"
    for saved, optimizer in zip(tree["optimizers"], state.optimizers, strict=True):
        weights = sum(len(group["params"]) for group in optimizer.param_groups)
        if len(saved["state"]) != weights and tree["step"] and not frozen:
            raise ValueError(
                f"an optimiser has moments for {len(saved['state'])} of {weights} weights"
            )
    numbers = check_finite(tensors_of(tree, ""))
    return f"step {tree['step']:,}, {numbers:,} numbers"


def check_finite(tensors: dict[str, Tensor]) -> int:
    """Return how many numbers there are; ValueError names a tensor that is not finite."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite")
    return sum(tensor.numel() for tensor in tensors.values())


class Scores:
    """Compare each score that a run has recorded with a new evaluation."""

    def __init__(
        self,
        path: Path,
        recipe: AnyRecipe,
        data_root: Path,
        device: torch.device,
        report: Callable[[str], None],
    ):
        self.path, self.recipe, self.device, self.report = path, recipe, device, report
        self.data_root = data_root
        self.measured: dict[str, Evaluation] = {}

    def of_weights(self) -> str:
        """Check the validation score for which the weights were kept."""
        score = read_pretrained(self.path).notes.get("validation")
        if not isinstance(score, dict):
            raise ValueError("the weights do not say how they did on validation")
        return self.compare("validation", score)

    def of_result(self) -> str:
        """Check the score of the last evaluation."""
        result = read_json(RunFolder(self.path).result, dict[str, Any])
        split = result.get("split")
        if split not in ("train", "validation", "test"):
            raise ValueError(
                f"result.json names the split {split!r}: run ostinato eval {self.path}"
            )
        return self.compare(split, result)

    def compare(self, split: str, recorded: dict[str, Any]) -> str:
        """Return both exact accuracies; ValueError if they differ by more than rounding."""
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
        """Return the score on a split of the run's data, measured once."""
        if split not in self.measured:
            data = self.recipe.data.prepare(self.data_root, self.report)
            model = load(self.path, self.device, kind=RecursiveModel)
            self.measured[split] = evaluate(model, PuzzleSet.load(data, split))
        return self.measured[split]


class TextScores(Scores):
    """Compare the scores of a language model."""

    def compare(self, split: str, recorded: dict[str, Any]) -> str:
        """Return both scores, or why they cannot be compared; ValueError if they differ."""
        context, then = recorded.get("context", 0), recorded.get("bits_per_byte")
        if type(context) is not int or not isinstance(then, float | int):
            raise ValueError(f"no bits per byte are recorded on {split}")
        assert isinstance(self.recipe, TextRecipe)
        try:
            data = prepare(self.recipe, RunFolder(self.path), self.data_root, self.report)
        except ValueError as error:
            return f"{then:.3f} bits per byte recorded, not measured again: {error}"
        texts, model = load_texts(data, split), load(self.path, self.device, kind=NanoChat)
        if texts.tokenizer.to_json() != model.tokenizer_json:
            return f"{then:.3f} bits per byte recorded, not measured again: its corpus has changed"
        measured = evaluate_text(model, texts, self.recipe.training.eval_batch_size, context)
        for name in ("documents", "tokens", "bytes"):
            if name in recorded and recorded[name] != getattr(measured, name):
                raise ValueError(
                    f"{name}: {recorded[name]} recorded, {getattr(measured, name)} now"
                )
        now = measured.bits_per_byte
        if not abs(then - now) <= ROUNDING * now:
            raise ValueError(f"bits_per_byte on {split}: {then} recorded, {now} now")
        return f"{then:.3f} bits per byte of {split} recorded, {now:.3f} now"


class PromptScores(Scores):
    """Compare the scores of a language model on prompts with a reward."""

    def compare(self, split: str, recorded: dict[str, Any]) -> str:
        """Return both pass@1; ValueError if they differ by more than rounding."""
        recipe, then, samples = self.recipe, recorded.get("pass@1"), recorded.get("samples")
        assert isinstance(recipe, PromptRecipe)
        if not isinstance(then, float | int) or type(samples) is not int:
            raise ValueError(f"no pass@1 is recorded on {split}")
        model = load(self.path, self.device, kind=NanoChat)
        training = recipe.training
        sampler = Sampler(model, recipe.data.task, tokenizer_of(model), training.max_new_tokens)
        prompts = PromptSet.load(recipe.data.prepare(self.data_root, self.report), split).prompts
        key = recorded.get("seed", training.seed), HELD_OUT
        scores = evaluate_prompts(sampler, prompts, samples, training.eval_batch_size, key)
        now = scores["pass@1"]
        if not abs(then - now) <= ROUNDING:
            raise ValueError(f"pass@1 on {split}: {then} recorded, {now} now")
        return f"pass@1 of {then:.2%} on {split} recorded, {now:.2%} now"


SCORES = {Recipe: Scores, TextRecipe: TextScores, PromptRecipe: PromptScores}
