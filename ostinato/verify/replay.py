"""Repeat a recorded training run of the originals with this package.

Every step starts from what was recorded before it (teacher forcing), so that each number is tested
on its own: an untrained recursion multiplies a rounding difference by about ten at every step, and
AdamATan2 and sign-SGD turn a gradient that is nothing but rounding into a full step.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ostinato.data.batches import Batch
from ostinato.decoding import convert, decode_json
from ostinato.models import RECURSIVE_MODELS, Output, RecursiveModel, State
from ostinato.training.losses import act_loss
from ostinato.training.optimizers import AdamATan2, SparseSignSGD
from ostinato.training.slots import Slots, target_q_continue
from ostinato.verify.comparison import Recording
from ostinato.weights.fitting import load_weights
from ostinato.weights.official import (
    from_official_config,
    from_official_name,
    from_official_weights,
)

METRICS = {
    "count": "halted_count",
    "accuracy": "halted_accuracy",
    "exact_accuracy": "halted_exact_accuracy",
    "q_halt_accuracy": "halted_q_halt_accuracy",
    "steps": "halted_steps",
    "lm_loss": "lm_loss",
    "q_halt_loss": "q_halt_loss",
    "q_continue_loss": "q_continue_loss",
}
"""The originals' names → ours."""

SLOT_TENSORS = ("z_H", "z_L", "steps", "halted", "inputs", "labels", "puzzle_ids")
OFFICIAL_SLOTS = {"puzzle_ids": "puzzle_identifiers"}
LOCAL_ROWS = "puzzle_emb.local"
"""The originals' name for the copied puzzle rows of a batch."""


@dataclass(frozen=True)
class OptimizerSettings:
    """Hold the `optimizer` entry of a golden file; the learning rate is constant."""

    lr: float
    weight_decay: float
    beta1: float
    beta2: float
    puzzle_emb_lr: float = 0.0
    puzzle_emb_weight_decay: float = 0.0

    @classmethod
    def of_json(cls, text: str) -> "OptimizerSettings":
        settings: dict[str, Any] = decode_json(text, dict[str, Any], "optimizer")
        if "betas" in settings:
            betas = convert(settings.pop("betas"), tuple[float, float], "optimizer", at="$.betas")
            settings["beta1"], settings["beta2"] = betas
        if unknown := settings.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"unknown optimizer setting {', '.join(sorted(unknown))}")
        return convert(settings, cls, "optimizer")


@dataclass(frozen=True)
class Rounding:
    """Describe how a replay differs from the main one, to measure the effect of rounding alone."""

    dtype: str | None = None
    """Compute in this dtype instead of the recorded one."""
    jitter: float = 0.0
    """Relative size of random changes to weights, state and gradients at every step."""
    seed: int = 0


class Replay:
    """Replay a recorded run; `run` yields our counterpart of every recorded number."""

    def __init__(self, golden: Recording, metadata: dict[str, str], rounding: Rounding):
        name = metadata["model"]
        settings: dict[str, Any] = decode_json(metadata["config"], dict[str, Any], "config")
        config = from_official_config(name, settings)
        self.golden = golden
        self.config = replace(config, forward_dtype=rounding.dtype or config.forward_dtype)
        self.jitter = rounding.jitter
        self.noise = torch.Generator().manual_seed(rounding.seed)
        self.loss_type = settings.get("loss_type", "stablemax_cross_entropy")
        self.model: RecursiveModel = RECURSIVE_MODELS[name][0](self.config)
        if rounding.dtype == "float64":
            self.model.double()
        self.load("init")
        optimizer = OptimizerSettings.of_json(metadata["optimizer"])
        self.optimizer = AdamATan2(
            self.model.parameters(),
            lr=optimizer.lr,
            betas=(optimizer.beta1, optimizer.beta2),
            weight_decay=optimizer.weight_decay,
        )
        self.sparse = self.model.puzzle_emb and SparseSignSGD(
            self.model.puzzle_emb, optimizer.puzzle_emb_lr, optimizer.puzzle_emb_weight_decay
        )
        self.steps = max(
            (int(k[4 : k.index("/")]) for k in golden if k.startswith("step")), default=1
        )

    def run(self) -> Iterator[tuple[str, Tensor]]:
        """Yield our counterparts of all recorded numbers, as (key of the file, ours)."""
        batch_size = len(self.golden["step1/batch/inputs"])
        slots = Slots.empty(self.model, batch_size, torch.device("cpu"))
        for step in range(1, self.steps + 1):
            yield from self.train_step(step, slots.refill(self.batch(step), self.initial_state()))
            slots = self.recorded_slots(step)
        yield from self.recorded("final/", self.model.state_dict())
        self.load("final")
        yield from self.evaluate(self.batch(self.steps))

    def train_step(self, step: int, slots: Slots) -> Iterator[tuple[str, Tensor]]:
        model, config, scope = self.model, self.config, f"step{step}"
        rows = model.puzzle_emb and model.puzzle_emb.copy_rows(slots.puzzle_ids)
        state, output = model(slots.state, slots.inputs, slots.puzzle_ids, rows)
        slots = slots.advance(state, output, config)
        target = None
        if not config.no_ACT_continue:
            with torch.no_grad():
                _, following = model(state, slots.inputs, slots.puzzle_ids, rows)
            target = target_q_continue(following, slots.steps, config.halt_max_steps)
        loss, metrics = act_loss(output, slots, self.loss_type, target)
        (loss / len(slots.steps)).backward()

        yield from self.outputs(f"{scope}/out", output, target)
        for name, value in slots.tensors().items():
            yield f"{scope}/carry/{OFFICIAL_SLOTS.get(name, name)}", value
        yield f"{scope}/loss", loss.detach()
        yield from self.metrics(f"{scope}/metrics", metrics)

        trained: dict[str, Tensor] = dict(model.named_parameters())
        if rows is not None:
            trained[LOCAL_ROWS] = rows
        for key, weight in self.recorded(f"{scope}/grad/", trained):
            yield key, torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
            weight.grad = self.shaken(self.golden[key].to(weight.dtype))
        self.update(slots, rows)

    def update(self, slots: Slots, rows: Tensor | None) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.sparse is not None:
            assert rows is not None and rows.grad is not None
            self.sparse.step(slots.puzzle_ids, rows.grad)

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Evaluate the last batch with the recorded final weights: all steps, last metrics."""
        slots = Slots.empty(self.model, len(batch.inputs), torch.device("cpu"))
        slots = slots.refill(batch, self.initial_state())
        never = self.config.halt_max_steps
        output = None
        for step in range(1, self.config.halt_max_steps + 1):
            state, output = self.model(slots.state, slots.inputs, slots.puzzle_ids)
            slots = slots.advance(state, output, self.config, minimum_steps=never)
            yield from self.outputs(f"eval/step{step}", output, None)
        assert output is not None
        _, metrics = act_loss(output, slots, self.loss_type)
        yield from self.metrics("eval/metrics", metrics)

    def outputs(
        self, scope: str, output: Output, target: Tensor | None
    ) -> Iterator[tuple[str, Tensor]]:
        named = {
            "logits": output.logits,
            "q_halt_logits": output.q_halt,
            "q_continue_logits": output.q_continue,
            "target_q_continue": target,
        }
        for name, value in named.items():
            if value is not None and f"{scope}/{name}" in self.golden:
                yield f"{scope}/{name}", value.detach()

    def metrics(self, scope: str, metrics: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        for name, ours in METRICS.items():
            if f"{scope}/{name}" in self.golden:
                yield f"{scope}/{name}", metrics[ours]

    def recorded(self, prefix: str, ours: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Yield our value for each key of the file with this prefix."""
        for key in self.golden:
            if key.startswith(prefix):
                name = from_official_name(key.removeprefix(prefix))
                if name not in ours:
                    raise ValueError(f"{key} is nothing that this model has")
                yield key, ours[name]

    def batch(self, step: int) -> Batch:
        names = ("inputs", "labels", "puzzle_identifiers")
        return Batch(*(self.golden[f"step{step}/batch/{name}"] for name in names))

    def recorded_slots(self, step: int) -> Slots:
        """Return the slots after a step, as recorded."""
        tensors = {
            name: self.golden[f"step{step}/carry/{OFFICIAL_SLOTS.get(name, name)}"]
            for name in SLOT_TENSORS
        }
        for name in State._fields:
            tensors[name] = self.shaken(tensors[name].to(self.config.dtype))
        return Slots.of_tensors(tensors)

    def initial_state(self) -> State:
        return self.model.initial_state(1)

    def load(self, scope: str) -> None:
        """Load the recorded weights of `init` or `final`."""
        prefix = f"{scope}/"
        weights = {
            k.removeprefix(prefix): v for k, v in self.golden.items() if k.startswith(prefix)
        }
        shaken = {name: self.shaken(value) for name, value in weights.items()}
        load_weights(self.model, from_official_weights(shaken), source=scope)

    def shaken(self, tensor: Tensor) -> Tensor:
        """Return the tensor with every entry multiplied by a factor within 1 ± jitter."""
        if not self.jitter:
            return tensor
        uniform = torch.rand(tensor.shape, generator=self.noise, dtype=torch.float64)
        return (tensor * (1 + self.jitter * (2 * uniform - 1))).to(tensor.dtype)
