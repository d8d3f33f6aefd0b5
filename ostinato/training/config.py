"""The settings of a training run."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from ostinato.data.arc.dataset import ArcData
from ostinato.data.maze import MazeData
from ostinato.data.stored import StoredData
from ostinato.data.sudoku import SudokuData
from ostinato.data.text import TextData
from ostinato.models import HRMConfig, NanoChatConfig, TRMConfig
from ostinato.training.config_file import from_json
from ostinato.training.feed import Refill
from ostinato.training.losses import LossType
from ostinato.training.run_folder import read_json
from ostinato.training.schedule import Schedule


@dataclass(frozen=True)
class LoopConfig:
    """What every training run has, whatever it trains."""

    total_steps: int = 1000
    """Optimiser updates."""
    global_batch_size: int = 64
    """Examples an update, over all processes and micro-batches."""
    accumulation: int = 1
    """Micro-batches an update, whose gradients are added up: less memory, the same update."""
    lr: float = 1e-4
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    muon_lr: float = 0.02
    muon_momentum: float = 0.95
    muon_scale: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    """Size of Muon's steps: "match_rms_adamw", a matrix of any shape moves as AdamW would move it;
    "original", by muon_lr · sqrt(max(1, outputs / inputs)) in spectral norm."""
    muon_weight_decay: float = 0.05
    muon_ns_steps: int = 5
    """Newton-Schulz iterations of Muon; 3 are nearly as good and cheaper."""
    grad_clip: float = 0.0
    """Largest global gradient norm; 0: no clipping."""
    warmup_steps: int = 2000
    decay_start: float = 0.0
    """Where the learning rate starts to fall, as a share of total_steps."""
    decay_shape: Literal["cosine", "linear"] = "cosine"
    decay_by: Literal["steps", "time"] = "steps"
    """"time": a --time-limit is that of the whole run, and the learning rate comes to its end with
    it, if not with the steps. Such a run depends on the speed of the machine."""
    lr_min_ratio: float = 1.0
    """Learning rate at the end, as a share of lr; 1: constant after the warm-up."""
    eval_every: int = 2000
    """Steps between evaluations on the validation split."""
    eval_batch_size: int = 512
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    log_every: int = 50
    """Steps between lines in metrics.jsonl."""
    seed: int = 0
    """Seeds the weights, the order of the data and all else that is random."""
    device: str = "auto"
    """"auto": CUDA, else MPS, else CPU."""
    compile: bool = False
    """Compile the model: slower start, faster steps."""
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where metrics go besides metrics.jsonl."""

    def __post_init__(self):
        self.check_least(
            1, "total_steps eval_every eval_batch_size checkpoint_every keep_checkpoints log_every"
        )
        self.check_least(1, "global_batch_size accumulation")
        self.check_least(0, "lr muon_lr weight_decay muon_weight_decay grad_clip warmup_steps")
        self.check_shares("lr_min_ratio decay_start")
        self.check_shares("beta1 beta2 muon_momentum", below_one=True)
        self.micro_batch_size(processes=1)

    def check_least(self, least: int, names: str) -> None:
        """ValueError if one of the settings `names` is less."""
        for name in names.split():
            value = getattr(self, name)
            if not value >= least:
                wanted = (
                    f"must be at least {least}, not" if least else "must not be negative, but is"
                )
                raise ValueError(f"{name} {wanted} {value}")

    def check_shares(self, names: str, below_one: bool = False) -> None:
        """ValueError if one of the settings `names` is not between 0 and 1."""
        for name in names.split():
            value = getattr(self, name)
            if not 0 <= value <= 1 or (below_one and value == 1):
                end = ")" if below_one else "]"
                raise ValueError(f"{name} must lie in [0, 1{end}, not {value}")

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

    total_steps: int = 65_104
    """Optimiser steps, each with one supervision step of every slot."""
    global_batch_size: int = 768
    """Slots over all processes that take a step together."""
    slot_turns: int = 1
    """Batches of slots that take turns, one a step; 1: the same slots at every step, as in the
    originals. With small batches the updates in a row that see the same puzzles else make the
    weights learn these by heart."""
    refill: Refill = "aligned"
    """"aligned": a halted slot takes the row of its place in the next batch and the other rows are
    thrown away, as in the originals; "stream": no row is left out."""
    optimizer: Literal["adam_atan2", "adamw", "muon"] = "adam_atan2"
    """"muon": Muon for the matrices of the reasoning modules, AdamW for the rest."""
    weight_decay: float = 1.0
    puzzle_emb_lr: float = 1e-4
    """Sign-SGD on the puzzle rows of each batch."""
    puzzle_emb_weight_decay: float = 1.0
    loss_type: LossType = "stablemax_cross_entropy"
    label_smoothing: float = 0.0
    q_weight: float = 0.5
    """Weight of the halting losses."""
    depth_curriculum: tuple[float, ...] = ()
    """Shares of the run after each of which a step takes more H- and L-cycles, the last time all:
    with 0.3 and 0.6 a third, then two thirds (CGAR, arXiv 2511.08653). Evaluation takes all."""
    halt_exploration_prob: float = 0.1
    """Chance per slot and step that a random minimum of steps holds off halting."""
    ema_decay: float = 0.999
    """Decay of the averaged weights that are evaluated and published; 0: none."""
    init_from: str = ""
    """Start from these weights: a run, a weights file, an original's checkpoint or a Hub id."""
    puzzle_embeddings: Literal["keep", "mean"] = "keep"
    """Puzzle rows of init_from: "mean" starts every row, however many, from their mean."""
    freeze: Literal["nothing", "weights"] = "nothing"
    """"weights": train the puzzle rows alone."""

    def __post_init__(self):
        super().__post_init__()
        self.check_least(1, "slot_turns")
        self.check_least(0, "puzzle_emb_lr puzzle_emb_weight_decay q_weight")
        self.check_shares("ema_decay label_smoothing", below_one=True)
        self.check_shares("halt_exploration_prob")
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
    model: TRMConfig | HRMConfig
    data: SudokuData | MazeData | ArcData | StoredData
    training: TrainingConfig


@dataclass(frozen=True)
class TextTrainingConfig(LoopConfig):
    """How a language model is trained: Muon for the matrices of its blocks, else AdamW or Lion."""

    optimizer: Literal["adamw", "lion"] = "adamw"
    """For embedding, head, norms and connections."""
    weight_decay: float = 0.0
    """Of embedding and head; norms and connections have none."""
    beta2: float = 0.99
    muon_scale: Literal["match_rms_adamw", "original"] = "original"
    grad_clip: float = 1.0
    warmup_steps: int = 100
    decay_start: float = 0.8
    lr_min_ratio: float = 0.1
    label_smoothing: float = 0.0
    """Of the loss; plain cross-entropy is what is reported."""
    entropy_bonus: float = 0.0
    """Weight of the predictions' entropy, which is subtracted from the loss."""
    eval_every: int = 250
    eval_batch_size: int = 16
    """Windows scored at a time."""
    checkpoint_every: int = 250
    log_every: int = 10

    def __post_init__(self):
        super().__post_init__()
        self.check_least(0, "entropy_bonus")
        self.check_shares("label_smoothing", below_one=True)


@dataclass(frozen=True)
class TextRecipe:
    """A language model, its corpus and its training: all that a run depends on."""

    name: str
    model: NanoChatConfig
    data: TextData
    training: TextTrainingConfig


AnyRecipe = Recipe | TextRecipe


def read_recipe(path: Path) -> AnyRecipe:
    """The recipe in a run's config.json; ValueError, naming the place, if it is damaged."""
    return from_json(read_json(path), AnyRecipe, str(path))
