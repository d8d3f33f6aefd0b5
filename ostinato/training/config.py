"""The settings of a training run."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch

# The classes that a config.json may name
import ostinato.data.arc.dataset
import ostinato.data.generated
import ostinato.data.maze
import ostinato.data.stored
import ostinato.data.sudoku
import ostinato.data.table  # noqa: F401
from ostinato.data.built import PuzzleData
from ostinato.data.text import TextData
from ostinato.models import NanoChatConfig, RecursiveConfig
from ostinato.models.dtypes import choose_dtype
from ostinato.numbers import (
    ABSENT,
    Count,
    Natural,
    NonNegative,
    Range,
    Seed,
    Share,
    ShareBelowOne,
    check_numbers,
)
from ostinato.training.config_file import from_json
from ostinato.training.feed import Refill
from ostinato.training.losses import LossType
from ostinato.training.run_folder import read_json
from ostinato.training.schedule import Schedule


@dataclass(frozen=True)
class LoopConfig:
    """What every training run has, whatever it trains."""

    total_steps: Count = 1000
    """Optimiser updates."""
    global_batch_size: Count = 64
    """Examples an update, over all processes and micro-batches."""
    accumulation: Count = 1
    """Micro-batches an update, whose gradients are added up: less memory, the same update."""
    lr: NonNegative = 1e-4
    weight_decay: NonNegative = 0.0
    beta1: ShareBelowOne = 0.9
    beta2: ShareBelowOne = 0.95
    muon_lr: NonNegative = 0.02
    muon_momentum: ShareBelowOne = 0.95
    muon_scale: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    """Size of Muon's steps: "match_rms_adamw", a matrix of any shape moves as AdamW would move it;
    "original", by muon_lr · sqrt(max(1, outputs / inputs)) in spectral norm."""
    muon_weight_decay: NonNegative = 0.05
    muon_ns_steps: Annotated[int, Range(0, 99)] = 5
    """Newton-Schulz iterations of Muon; 3 are nearly as good and cheaper."""
    muon_dtype: Literal["auto", "bfloat16", "float32"] = field(
        default="auto", metadata={ABSENT: "bfloat16"}
    )
    """Dtype of Muon's iterations. A run chooses for "auto" when it starts: bfloat16, but float32 on
    a CPU that is slow in it."""
    grad_clip: NonNegative = 0.0
    """Largest global gradient norm; 0: no clipping."""
    warmup_steps: Natural = 2000
    decay_start: Share = 0.0
    """Where the learning rate starts to fall, as a share of total_steps."""
    decay_shape: Literal["cosine", "linear"] = "cosine"
    decay_by: Literal["steps", "time"] = "steps"
    """"time": a --time-limit is that of the whole run, and the learning rate comes to its end with
    it, if not with the steps. Such a run depends on the speed of the machine."""
    lr_min_ratio: Share = 1.0
    """Learning rate at the end, as a share of lr; 1: constant after the warm-up."""
    eval_every: Count = 2000
    """Steps between evaluations on the validation split."""
    eval_batch_size: Count = 512
    checkpoint_every: Count = 1000
    """Steps between checkpoints."""
    keep_checkpoints: Count = 2
    log_every: Count = 50
    """Steps between lines in metrics.jsonl."""
    seed: Seed = 0
    """Seeds the weights, the order of the data and all else that is random."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    compile: bool = False
    """Compile the model: slower start, faster steps."""
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where metrics go besides metrics.jsonl."""

    def __post_init__(self):
        check_numbers(self)
        self.micro_batch_size(processes=1)

    def micro_batch_size(self, processes: int) -> int:
        """Examples of a micro-batch in each process; ValueError if they are not equally many."""
        size, rest = divmod(self.global_batch_size, self.accumulation * processes)
        if rest:
            among = f"accumulation {self.accumulation} × {processes} processes"
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is not divisible by {among}"
            )
        return size

    @property
    def schedule(self) -> Schedule:
        return Schedule(
            self.total_steps,
            self.warmup_steps,
            self.decay_start,
            self.lr_min_ratio,
            self.decay_shape,
        )


@dataclass(frozen=True)
class TrainingConfig(LoopConfig):
    """How a puzzle model is trained; the defaults are TRM's on Sudoku-Extreme."""

    total_steps: Count = 65_104
    """Optimiser steps, each with one supervision step of every slot."""
    global_batch_size: Count = 768
    """Slots over all processes that take a step together."""
    slot_turns: Count = 1
    """Batches of slots that take turns, one a step; 1: the same slots at every step, as in the
    originals. With small batches the updates in a row that see the same puzzles else make the
    weights learn these by heart."""
    refill: Refill = "aligned"
    """"aligned": a halted slot takes the row of its place in the next batch and the other rows are
    thrown away, as in the originals; "stream": no row is left out."""
    optimizer: Literal["adam_atan2", "adamw", "muon"] = "adam_atan2"
    """"muon": Muon for the matrices of the reasoning modules, AdamW for the rest."""
    weight_decay: NonNegative = 1.0
    puzzle_emb_lr: NonNegative = 1e-4
    """Sign-SGD on the puzzle rows of each batch."""
    puzzle_emb_weight_decay: NonNegative = 1.0
    loss_type: LossType = "stablemax_cross_entropy"
    label_smoothing: ShareBelowOne = 0.0
    q_weight: NonNegative = 0.5
    """Weight of the halting losses."""
    depth_curriculum: tuple[float, ...] = ()
    """Shares of the run after each of which a step takes more H- and L-cycles, the last time all:
    with 0.3 and 0.6 a third, then two thirds (CGAR, arXiv 2511.08653). Evaluation takes all."""
    halt_exploration_prob: Share = 0.1
    """Chance per slot and step that a random minimum of steps holds off halting."""
    ema_decay: ShareBelowOne = 0.999
    """Decay of the averaged weights that are evaluated and published; 0: none."""
    init_from: str = ""
    """Start from these weights: a run, a weights file, an original's checkpoint, hf:owner/name."""
    puzzle_embeddings: Literal["keep", "mean"] = "keep"
    """Puzzle rows of init_from: "mean" starts every row, however many, from their mean."""
    freeze: Literal["nothing", "weights"] = "nothing"
    """"weights": train the puzzle rows alone."""

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
}
"""Settings that a resumed run may change: they do not enter the mathematics of training."""


@dataclass(frozen=True)
class Recipe:
    """A model, its data and its training: all that a run depends on."""

    name: str
    model: RecursiveConfig
    data: PuzzleData
    training: TrainingConfig


@dataclass(frozen=True)
class TextTrainingConfig(LoopConfig):
    """How a language model is trained: Muon for the matrices of its blocks, else AdamW or Lion."""

    optimizer: Literal["adamw", "lion"] = "adamw"
    """For embedding, head, norms and connections."""
    weight_decay: NonNegative = 0.0
    """Of embedding and head; norms and connections have none."""
    beta2: ShareBelowOne = 0.99
    muon_scale: Literal["match_rms_adamw", "original"] = "original"
    grad_clip: NonNegative = 1.0
    warmup_steps: Natural = 100
    decay_start: Share = 0.8
    lr_min_ratio: Share = 0.1
    label_smoothing: ShareBelowOne = 0.0
    """Of the loss; plain cross-entropy is what is reported."""
    entropy_bonus: NonNegative = 0.0
    """Weight of the predictions' entropy, which is subtracted from the loss."""
    eval_every: Count = 250
    eval_batch_size: Count = 16
    """Windows scored at a time."""
    checkpoint_every: Count = 250
    log_every: Count = 10


@dataclass(frozen=True)
class TextRecipe:
    """A language model, its corpus and its training: all that a run depends on."""

    name: str
    model: NanoChatConfig
    data: TextData
    training: TextTrainingConfig


AnyRecipe = Recipe | TextRecipe
R = TypeVar("R", bound=AnyRecipe)


def with_dtypes(recipe: R, device: torch.device, saved: AnyRecipe | None = None) -> R:
    """Return `recipe` with a dtype in place of each "auto": of the `saved` run, else of `device`.

    So a run stays with the dtypes it began with, wherever it is resumed.
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
    """The recipe in a run's config.json; ValueError, naming the place, if it is damaged."""
    return from_json(read_json(path), AnyRecipe, str(path))
