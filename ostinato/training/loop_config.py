"""The settings that every training run has, whatever it trains."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

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
from ostinato.training.schedule import Schedule


@dataclass(frozen=True)
class LoopConfig:
    """Hold the settings of the loop, of the optimisers and of the learning rate."""

    total_steps: Count = 1000
    """Number of optimiser updates."""
    global_batch_size: Count = 64
    """Examples per update, over all processes and micro-batches."""
    accumulation: Count = 1
    """Micro-batches per update. Their gradients are added up: less memory, the same update."""
    lr: NonNegative = 1e-4
    """Learning rate after the warm-up."""
    weight_decay: NonNegative = 0.0
    """Weight decay of the optimiser."""
    beta1: ShareBelowOne = 0.9
    """Decay of the running mean of gradients."""
    beta2: ShareBelowOne = 0.95
    """Decay of the running mean of squared gradients."""
    muon_lr: NonNegative = 0.02
    """Learning rate of the matrices that Muon trains."""
    muon_momentum: ShareBelowOne = 0.95
    """Momentum of Muon."""
    muon_scale: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    """Size of Muon's steps. With "match_rms_adamw" a matrix of any shape moves as AdamW would move
    it; with "original" it moves by muon_lr · sqrt(max(1, outputs / inputs)) in spectral norm."""
    muon_weight_decay: NonNegative = 0.05
    """Weight decay of the matrices that Muon trains."""
    muon_ns_steps: Annotated[int, Range(0, 99)] = 5
    """Newton-Schulz iterations of Muon; 3 are nearly as good and cheaper."""
    muon_dtype: Literal["auto", "bfloat16", "float32"] = field(
        default="auto", metadata={ABSENT: "bfloat16"}
    )
    """Dtype of Muon's iterations. "auto" is resolved when a run starts: bfloat16, but float32 on a
    CPU that is slow in bfloat16."""
    grad_clip: NonNegative = 0.0
    """Largest global gradient norm; 0 disables clipping."""
    warmup_steps: Natural = 2000
    """Steps in which the learning rate rises from zero."""
    decay_start: Share = 0.0
    """Start of the learning rate's decay, as a share of total_steps."""
    decay_shape: Literal["cosine", "linear"] = "cosine"
    """Shape of the decay of the learning rate."""
    decay_by: Literal["steps", "time"] = "steps"
    """Clock of the schedule. With "time", --time-limit applies to the whole run, and the learning
    rate reaches its end when the time is over, or the steps if they end first. Such a run depends
    on the speed of the machine."""
    lr_min_ratio: Share = 1.0
    """Learning rate at the end, as a share of lr; 1 keeps it constant after the warm-up."""
    eval_every: Count = 2000
    """Steps between evaluations on the validation split."""
    eval_batch_size: Count = 512
    """Examples that are evaluated at a time."""
    checkpoint_every: Count = 1000
    """Steps between checkpoints."""
    keep_checkpoints: Count = 2
    """Number of checkpoints to keep, the newest."""
    log_every: Count = 50
    """Steps between lines in metrics.jsonl."""
    seed: Seed = 0
    """Seed of the weights, the order of the data and everything else that is random."""
    device: str = "auto"
    """Device; "auto" picks CUDA, else MPS, else the CPU."""
    compile: bool = False
    """Compile the model: slower start, faster steps."""
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Trackers that receive the metrics, besides metrics.jsonl."""

    def __post_init__(self):
        check_numbers(self)
        self.micro_batch_size(processes=1)

    def micro_batch_size(self, processes: int) -> int:
        """Return the examples of a micro-batch in each process; ValueError if they do not divide
        evenly."""
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
