"""`ostinato verify --golden DIR`: replay recorded runs of the originals and compare every number.

A file holds a few training steps of a small random problem: weights before, the batch offered at each
step, outputs, carry, loss, metrics and gradients after it, weights at the end, and an evaluation.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ostinato.data.batches import Batch
from ostinato.models import MODELS, RecursiveModel
from ostinato.models.official import (
    from_official_config,
    from_official_name,
    from_official_weights,
)
from ostinato.training.losses import act_loss
from ostinato.training.optimizers import AdamATan2, SparseSignSGD
from ostinato.training.slots import Slots, target_q_continue

TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 3e-2}
"""Largest absolute difference allowed, by forward dtype."""
GRADIENT_TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-1, "float16": 1e-1}
"""Largest gradient difference relative to the largest entry of that gradient."""

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


@dataclass(frozen=True)
class Difference:
    """The largest difference of one kind of number in one file."""

    file: str
    kind: str
    count: int
    """How many tensors were compared."""
    largest: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.largest <= self.tolerance  # false for NaN


def verify_golden(path: Path) -> list[Difference]:
    """Replay one file. Raises ValueError if it is not a golden file of a known model."""
    golden, metadata = read_golden(path)
    if metadata.get("model") not in MODELS:
        raise ValueError(f"{path}: no golden file of a known model ({', '.join(MODELS)})")
    settings = json.loads(metadata["config"])
    replay = Replay(metadata["model"], settings, json.loads(metadata["optimizer"]), golden)
    largest: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    compared = set()
    for key, value in replay.run():
        kind = kind_of(key)
        expected = golden[key].to(torch.float64).flatten()
        got = torch.as_tensor(value).to(torch.float64).flatten()
        if expected.shape != got.shape:
            raise ValueError(f"{path}: {key} has {len(expected)} numbers, the model gives {len(got)}")
        difference = (expected - got).abs().max().item() if len(got) else 0.0
        if kind == "gradients":
            difference /= max(expected.abs().max().item(), 1e-12)
        # max() would drop a NaN
        largest[kind] = difference if difference != difference else max(largest[kind], difference)
        count[kind] += 1
        compared.add(key)
    recorded = {key for key in golden.keys() if not key.startswith("init/") and "/batch/" not in key}
    if missed := recorded - compared:
        raise ValueError(f"{path}: {min(missed)} and {len(missed) - 1} more numbers have no counterpart")
    dtype = settings.get("forward_dtype", "bfloat16")
    return [
        Difference(
            path.name,
            kind,
            count[kind],
            largest[kind],
            (GRADIENT_TOLERANCE if kind == "gradients" else TOLERANCE)[dtype],
        )
        for kind in count
    ]


def read_golden(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and its metadata."""
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}


def kind_of(key: str) -> str:
    """`step3/out/logits` → "outputs" and so on."""
    scope, rest = key.split("/", 1)
    if scope == "final":
        return "final weights"
    if scope == "eval":
        return "evaluation"
    return {"out": "outputs", "carry": "carry", "loss": "loss", "metrics": "metrics"}.get(
        rest.split("/")[0], "gradients"
    )


class Replay:
    """One recorded training run, done again with this package."""

    def __init__(
        self,
        name: str,
        settings: dict[str, Any],
        optimizer: dict[str, float],
        golden: dict[str, Tensor],
    ):
        self.golden = golden
        self.config = from_official_config(name, settings)
        self.loss_type = settings.get("loss_type", "stablemax_cross_entropy")
        self.model: RecursiveModel = MODELS[name][0](self.config)
        weights = {k.removeprefix("init/"): v for k, v in golden.items() if k.startswith("init/")}
        self.model.load_state_dict(from_official_weights(weights), strict=True)
        self.optimizer = AdamATan2(
            self.model.parameters(),
            lr=optimizer["lr"],
            betas=(optimizer["beta1"], optimizer["beta2"]),
            weight_decay=optimizer["weight_decay"],
        )
        self.sparse = self.model.puzzle_emb and SparseSignSGD(
            self.model.puzzle_emb,
            optimizer["puzzle_emb_lr"],
            optimizer["puzzle_emb_weight_decay"],
        )
        self.steps = max(int(k[4 : k.index("/")]) for k in golden if k.startswith("step"))

    def run(self) -> Iterator[tuple[str, Any]]:
        """All recorded numbers, as (key of the file, our value)."""
        batch_size = len(self.golden["step1/batch/inputs"])
        slots = Slots.empty(self.model, batch_size, torch.device("cpu"))
        for step in range(1, self.steps + 1):
            slots = slots.refill(self.batch(step), self.model.initial_state(1))
            slots = yield from self.train_step(step, slots)
        for key in self.golden:
            if key.startswith("final/"):
                yield key, self.model.state_dict()[from_official_name(key.removeprefix("final/"))]
        yield from self.evaluate(self.batch(self.steps))

    def batch(self, step: int) -> Batch:
        names = ("inputs", "labels", "puzzle_identifiers")
        return Batch(*(self.golden[f"step{step}/batch/{name}"] for name in names))

    def train_step(self, step: int, slots: Slots) -> Iterator[tuple[str, Any]]:
        model, config = self.model, self.config
        rows = model.puzzle_emb and model.puzzle_emb.copy_rows(slots.puzzle_ids)
        state, output = model(slots.state, slots.inputs, slots.puzzle_ids, rows)
        slots = slots.advance(state, output, config)
        target = None
        if not config.no_ACT_continue:
            with torch.no_grad():
                _, next_output = model(state, slots.inputs, slots.puzzle_ids, rows)
            target = target_q_continue(next_output, slots.steps, config.halt_max_steps)
        loss, metrics = act_loss(output, slots, self.loss_type, target)
        (loss / len(slots.steps)).backward()

        yield from self.recorded_step(f"step{step}", slots, output, target, loss, metrics)
        for name, parameter in model.named_parameters():
            yield from self.recorded_gradient(step, name, parameter.grad)
        if rows is not None and f"step{step}/grad/puzzle_emb.local" in self.golden:
            yield f"step{step}/grad/puzzle_emb.local", rows.grad

        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.sparse is not None:
            self.sparse.step(slots.puzzle_ids, rows.grad)
        return slots

    def recorded_step(self, scope, slots, output, target, loss, metrics):
        yield f"{scope}/out/logits", output.logits.detach()
        yield f"{scope}/out/q_halt_logits", output.q_halt.detach()
        if f"{scope}/out/q_continue_logits" in self.golden:
            yield f"{scope}/out/q_continue_logits", output.q_continue.detach()
        if target is not None:
            yield f"{scope}/out/target_q_continue", target
        carry = {
            "z_H": slots.state.z_H,
            "z_L": slots.state.z_L,
            "steps": slots.steps,
            "halted": slots.halted,
            "inputs": slots.inputs,
            "labels": slots.labels,
            "puzzle_identifiers": slots.puzzle_ids,
        }
        for name, value in carry.items():
            yield f"{scope}/carry/{name}", value
        yield f"{scope}/loss", loss.detach()
        for name, ours in METRICS.items():
            if f"{scope}/metrics/{name}" in self.golden:
                yield f"{scope}/metrics/{name}", metrics[ours]

    def recorded_gradient(self, step, name, gradient):
        for key in self.golden:
            prefix = f"step{step}/grad/"
            if key.startswith(prefix) and from_official_name(key.removeprefix(prefix)) == name:
                yield key, torch.zeros_like(self.golden[key]) if gradient is None else gradient

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> Iterator[tuple[str, Any]]:
        """The last batch with the final weights: all steps, metrics from the last."""
        slots = Slots.empty(self.model, len(batch.inputs), torch.device("cpu"))
        slots = slots.refill(batch, self.model.initial_state(1))
        never = self.config.halt_max_steps
        output = None
        for step in range(1, self.config.halt_max_steps + 1):
            state, output = self.model(slots.state, slots.inputs, slots.puzzle_ids)
            slots = slots.advance(state, output, self.config, minimum_steps=never)
            yield f"eval/step{step}/logits", output.logits
            yield f"eval/step{step}/q_halt_logits", output.q_halt
        assert output is not None
        _, metrics = act_loss(output, slots, self.loss_type)
        for name, ours in METRICS.items():
            if f"eval/metrics/{name}" in self.golden:
                yield f"eval/metrics/{name}", metrics[ours]
