"""The settings of a training run."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

# The classes that a config.json may name
import ostinato.data.arc.dataset
import ostinato.data.generated
import ostinato.data.maze
import ostinato.data.stored
import ostinato.data.sudoku
import ostinato.data.table
import ostinato.data.text.hops  # noqa: F401
from ostinato.data.built import PuzzleData
from ostinato.data.prompts import PromptData
from ostinato.data.text import ChatData, TextData
from ostinato.models import NanoChatConfig, RecursiveConfig
from ostinato.models.dtypes import choose_dtype
from ostinato.numbers import (
    ABSENT,
    Count,
    Natural,
    NonNegative,
    Share,
    ShareBelowOne,
)
from ostinato.training.config_file import from_json
from ostinato.training.feed import Refill
from ostinato.training.loop_config import LoopConfig
from ostinato.training.losses import LossType
from ostinato.training.run_folder import read_json
from ostinato.training.schedule import Schedule


@dataclass(frozen=True)
class TrainingConfig(LoopConfig):
    """The settings of training a puzzle model; the defaults are TRM's on Sudoku-Extreme."""

    total_steps: Count = 65_104
    """Number of optimiser steps; in each, every slot takes one supervision step."""
    global_batch_size: Count = 768
    """Slots that take a step together, over all processes."""
    slot_turns: Count = 1
    """Number of batches of slots that take turns, one per step; 1 uses the same slots at every
    step, as TRM and HRM do. With small batches and 1, many updates in a row see the same puzzles,
    and the weights learn these by heart."""
    refill: Refill = "aligned"
    """Source of new puzzles. With "aligned" a halted slot takes the row of its place in the next
    batch, and the other rows are thrown away, as in TRM and HRM; with "stream" no row is left
    out."""
    optimizer: Literal["adam_atan2", "adamw", "muon"] = "adam_atan2"
    """Optimiser; "muon" uses Muon for the matrices of the reasoning modules and AdamW for the
    rest."""
    weight_decay: NonNegative = 1.0
    puzzle_emb_lr: NonNegative = 1e-4
    """Learning rate of sign-SGD on the puzzle rows of each batch."""
    puzzle_emb_weight_decay: NonNegative = 1.0
    """Weight decay of the puzzle rows of each batch."""
    loss_type: LossType = "stablemax_cross_entropy"
    """Loss of the answer: cross-entropy with stablemax or with softmax."""
    label_smoothing: ShareBelowOne = 0.0
    """Share of the label that is spread over all tokens."""
    q_weight: NonNegative = 0.5
    """Weight of the halting losses."""
    depth_curriculum: tuple[float, ...] = ()
    """Shares of the run after each of which a step takes more H- and L-cycles, up to all of them.
    For example, 0.3 and 0.6 start with a third of the cycles, then two thirds (CGAR, arXiv
    2511.08653). Evaluation always takes all."""
    halt_exploration_prob: Share = 0.1
    """Probability per slot and step that a random minimum number of steps delays halting."""
    ema_decay: ShareBelowOne = 0.999
    """Decay of the averaged weights (EMA) that are evaluated and published; 0 disables
    averaging."""
    init_from: str = ""
    """Weights to start from: a run, a weights file, a TRM or HRM checkpoint, or hf:owner/name."""
    puzzle_embeddings: Literal["keep", "mean"] = "keep"
    """Puzzle rows of init_from; "mean" starts every row, however many, from their mean."""
    freeze: Literal["nothing", "weights"] = "nothing"
    """Parameters to freeze; "weights" trains the puzzle rows alone."""

    def __post_init__(self):
        super().__post_init__()
        if not all(a < b for a, b in pairwise((0, *self.depth_curriculum, 1))):
            raise ValueError(
                f"depth_curriculum must rise within (0, 1), not {self.depth_curriculum}"
            )
        for name in ("puzzle_embeddings", "freeze"):
            value = getattr(self, name)
            if value in ("mean", "weights") and not self.init_from:
                raise ValueError(f"{name}={value} is for trained weights: give some as init_from")


FREE_ON_RESUME = {
    "eval_every",
    "eval_batch_size",
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "device",
    "compile",
    "track",
    "sample_prompts",
}
"""Settings that a resumed run may change, since they do not affect the mathematics of training."""


@dataclass(frozen=True)
class Recipe:
    """A model, its data and its training settings: everything a run depends on."""

    name: str
    model: RecursiveConfig
    data: PuzzleData
    training: TrainingConfig


@dataclass(frozen=True)
class TextTrainingConfig(LoopConfig):
    """The settings of training a language model: Muon for the block matrices, AdamW or Lion
    elsewhere."""

    optimizer: Literal["adamw", "lion"] = "adamw"
    """Optimiser of embedding, head, norms and connections."""
    weight_decay: NonNegative = 0.0
    """Weight decay of embedding and head; norms and connections have none."""
    beta2: ShareBelowOne = 0.99
    muon_scale: Literal["match_rms_adamw", "original"] = "original"
    grad_clip: NonNegative = 1.0
    warmup_steps: Natural = 100
    decay_start: Share = 0.8
    lr_min_ratio: Share = 0.1
    label_smoothing: ShareBelowOne = 0.0
    """Label smoothing of the loss; the reported loss is plain cross-entropy."""
    entropy_bonus: NonNegative = 0.0
    """Weight of the predictions' entropy, which is subtracted from the loss."""
    sample_prompts: tuple[str, ...] = field(default=(), metadata={ABSENT: ()})
    """Texts that the model continues after each validation, to be read; to a model that learns
    conversations they are said. An empty one lets it begin a text."""
    init_from: str = field(default="", metadata={ABSENT: ""})
    """Weights to start from, with their tokenizer: a run, a weights file, or hf:owner/name."""
    exit_entropy: NonNegative = field(default=0.1, metadata={ABSENT: 0.1})
    """Weight of the entropy of a looped model's exits, which keeps all passes in use, at the start
    of the run."""
    exit_entropy_end: NonNegative = field(default=0.05, metadata={ABSENT: 0.05})
    """The same weight at the end: it falls in a straight line."""
    gate_start: Share = field(default=1.0, metadata={ABSENT: 1.0})
    """Share of the run after which a looped model is frozen but for its exit gate, which then
    learns, at the full learning rate, whether another pass pays. The schedule ends there."""
    eval_every: Count = 250
    eval_batch_size: Count = 16
    """Number of windows scored at a time."""
    checkpoint_every: Count = 250
    log_every: Count = 10

    def __post_init__(self):
        super().__post_init__()
        if self.gate_start < 1 and self.decay_by == "time":
            raise ValueError("gate_start counts steps: set decay_by to steps, or gate_start to 1")

    @property
    def schedule(self) -> Schedule:
        """Return the schedule, which ends where the gate's own part of the run begins."""
        return replace(super().schedule, total_steps=round(self.gate_start * self.total_steps))

    def trains_gate(self, step: int) -> bool:
        """Return whether update number `step`, counted from 1, trains the exit gate alone."""
        return step > self.gate_start * self.total_steps

    def exit_entropy_at(self, step: int) -> float:
        """Return the weight of the exits' entropy at update number `step`, counted from 1."""
        progress = min(1.0, (step - 1) / max(1.0, self.gate_start * self.total_steps - 1))
        return self.exit_entropy + progress * (self.exit_entropy_end - self.exit_entropy)


@dataclass(frozen=True)
class TextRecipe:
    """A language model, its corpus and its training settings: everything a run depends on."""

    name: str
    model: NanoChatConfig
    data: TextData | ChatData
    training: TextTrainingConfig


Estimator = Literal["maxrl", "reinforce"]


@dataclass(frozen=True)
class PromptTrainingConfig(LoopConfig):
    """The settings of training a language model by rewards, or on right answers."""

    method: Literal[Estimator, "supervised"] = "maxrl"
    """Gradient: that of MaxRL, of REINFORCE with the mean as baseline, or of right answers."""
    init_from: str = ""
    """Weights to start from: a run, a weights file, or hf:owner/name. The model takes its shape
    and its tokenizer from there."""
    samples: Count = 16
    """Completions drawn for each prompt."""
    max_new_tokens: Count = 32
    """Limit of a completion; one that is cut off there earns nothing."""
    eval_samples: Count = 16
    """Completions drawn for each held-out prompt."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Optimiser; "muon" uses Muon for the matrices of the blocks and AdamW for the rest."""
    total_steps: Count = 200
    global_batch_size: Count = 32
    """Prompts per update, over all processes and micro-batches."""
    muon_weight_decay: NonNegative = 0.0
    grad_clip: NonNegative = 1.0
    warmup_steps: Natural = 10
    eval_every: Count = 25
    eval_batch_size: Count = 32
    """Number of held-out prompts whose completions are drawn at a time."""
    checkpoint_every: Count = 25
    log_every: Count = 5


@dataclass(frozen=True)
class PromptRecipe:
    """A language model, prompts with a reward, and training settings: all a run depends on."""

    name: str
    model: NanoChatConfig
    data: PromptData
    training: PromptTrainingConfig


AnyRecipe = Recipe | TextRecipe | PromptRecipe
R = TypeVar("R", bound=AnyRecipe)


def with_dtypes(recipe: R, device: torch.device, saved: AnyRecipe | None = None) -> R:
    """Return `recipe` with each "auto" replaced by the dtype of the `saved` run, else of `device`.

    So a run keeps the dtypes it began with, wherever it is resumed.
    """
    before = recipe if saved is None else saved

    def choose(wanted: str, was: str) -> Any:
        return choose_dtype(was if wanted == "auto" else wanted, device)

    forward = choose(recipe.model.forward_dtype, before.model.forward_dtype)
    muon = choose(recipe.training.muon_dtype, before.training.muon_dtype)
    return replace(
        recipe,
        model=replace(recipe.model, forward_dtype=forward),
        training=replace(recipe.training, muon_dtype=muon),
    )


def read_recipe(path: Path) -> AnyRecipe:
    """Return the recipe in a run's config.json; ValueError, naming the place, if it is damaged."""
    return from_json(read_json(path), AnyRecipe, str(path))
