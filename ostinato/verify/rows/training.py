"""Whole training steps: gradient, batch, carry and the order of events."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ostinato.data.batches import Batch
from ostinato.data.sudoku import SudokuData
from ostinato.inference.think import think
from ostinato.models import HRMConfig, TRMConfig
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.distributed import World
from ostinato.training.ema import EMA
from ostinato.training.puzzles import train_step
from ostinato.training.state import TrainState
from ostinato.verify import reference
from ostinato.verify.check import apart, check
from ostinato.verify.specimens import BATCH, CONFIGS, MODELS, batch, specimen, weights

TITLE = "Training step"
LR, TABLE_LR, TABLE_DECAY = 0.05, 0.02, 0.3
STEPS = 5


def started(
    name: str, model_settings: dict[str, Any] | None = None, **settings: Any
) -> tuple[TrainState, Recipe]:
    """A run in float64 with plain gradient descent, so that an update shows the gradient."""
    state, recipe = started_in_full(name, model_settings, **settings)
    state.optimizers = [torch.optim.SGD(state.model.parameters(), lr=LR)]
    state.base_lrs = [LR, TABLE_LR]
    return state, recipe


def started_in_full(
    name: str, model_settings: dict[str, Any] | None = None, **settings: Any
) -> tuple[TrainState, Recipe]:
    """A run in float64 with the optimisers of its settings."""
    model = specimen(name, **model_settings or {})
    assert isinstance(model.config, TRMConfig | HRMConfig)
    config = TrainingConfig(
        global_batch_size=BATCH,
        puzzle_emb_lr=TABLE_LR,
        puzzle_emb_weight_decay=TABLE_DECAY,
        **{"warmup_steps": 0, "ema_decay": 0.0, "halt_exploration_prob": 0.0, **settings},
    )
    recipe = Recipe("fidelity", model.config, SudokuData(), config)
    state = TrainState.start(recipe, torch.device("cpu"), World())
    state.model.double().load_state_dict(model.state_dict())
    if state.model.rotary is not None:
        assert model.rotary is not None
        state.model.rotary.cos, state.model.rotary.sin = model.rotary.cos, model.rotary.sin
    if state.ema is not None:
        state.ema = EMA(state.model, state.ema.decay)  # of these weights
    return state, recipe


def batches(name: str) -> list[Batch]:
    """Return the batch that is offered at each step."""
    return [batch(specimen(name), seed=10 + number) for number in range(STEPS)]


class Slot:
    """One place in the reference's batch."""

    def __init__(self):
        self.halted, self.steps = True, 0


def reference_run(
    name: str, model_settings: dict[str, Any] | None = None, softmax: bool = False
) -> tuple[reference.Weights, Tensor, list[list[int]]]:
    """Weights and z_H after the steps, and how long each slot has thought after each of them."""
    model = specimen(name, **model_settings or {})
    c, w = model.config, weights(model)
    slots, counts = [Slot() for _ in range(BATCH)], []
    shape = (BATCH, c.prefix_len + c.seq_len, c.hidden_size)
    z_H, z_L = torch.zeros(shape).double(), torch.zeros(shape).double()
    inputs, labels, ids = (torch.zeros_like(x) for x in batches(name)[0])
    for offered in batches(name):
        for i, slot in enumerate(slots):
            if slot.halted:
                slot.steps = 0
                z_H[i], z_L[i] = w["H_init"], w["L_init"]
                inputs[i], labels[i], ids[i] = (x[i] for x in offered)
        rows = w["puzzle_emb.weights"][ids.long()].clone().requires_grad_()
        z_H, z_L, logits, q = reference.step(w, c, z_H, z_L, inputs, rows)
        z_H, z_L = z_H.detach(), z_L.detach()
        target = None
        if not c.no_ACT_continue:
            with torch.no_grad():
                *_, following = reference.step(w, c, z_H, z_L, inputs, rows)
        for slot in slots:
            slot.steps += 1
        if not c.no_ACT_continue:
            best = [
                following[i, 0] if slot.steps >= c.halt_max_steps else following[i].max()
                for i, slot in enumerate(slots)
            ]
            target = torch.sigmoid(torch.stack(best))
        for i, slot in enumerate(slots):
            wished = q[i, 0] > (0 if c.no_ACT_continue else q[i, 1])
            slot.halted = slot.steps >= c.halt_max_steps or bool(wished)
        counts.append([slot.steps for slot in slots])

        parts = reference.losses(logits, labels, q, target, softmax)
        total = parts["lm"] + 0.5 * (parts["halt"] + parts["continue"])
        trained = {key: value for key, value in w.items() if value.requires_grad}
        found = torch.autograd.grad(total / BATCH, [*trained.values(), rows])
        for (key, value), g in zip(trained.items(), found[:-1], strict=True):
            w[key] = (value - LR * g).detach().requires_grad_()
        table = w["puzzle_emb.weights"]
        for row in set(ids.tolist()):
            summed = found[-1][ids == row].sum(0)
            table[row] = table[row] * (1 - TABLE_LR * TABLE_DECAY) - TABLE_LR * summed.sign()
    return w, z_H, counts


@check("Gradient of a training step", "000 001 002 004", "of the loss / global batch", 1e-7, MODELS)
def training_gradient(name: str) -> float:
    """All weights and puzzle rows after 5 steps of plain gradient descent, against float64."""
    state, recipe = started(name)
    for offered in batches(name):
        train_step(state, recipe, offered)
    expected, _, _ = reference_run(name)
    return max(apart(value, expected[key]) for key, value in state.model.state_dict().items())


@check("Other settings", "004", "continue head and softmax loss, for TRM as well", 1e-7, ("TRM",))
def settings(name: str) -> float:
    """The same with the continue head, softmax, learned positions and two micro-batches."""
    ours = {"no_ACT_continue": False, "pos_encodings": "learned"}
    state, recipe = started(name, ours, loss_type="softmax_cross_entropy", accumulation=2)
    for offered in batches(name):
        train_step(state, recipe, offered)
    expected, _, _ = reference_run(name, ours, softmax=True)
    return max(apart(value, expected[key]) for key, value in state.model.state_dict().items())


@check(
    "Carry across training steps", "000 002 004", "slots think on from step to step", 1e-7, MODELS
)
def carry(name: str) -> float:
    """States, and step counts of all slots, after each of 5 training steps."""
    state, recipe = started(name)
    _, z_H, counts = reference_run(name)
    wrong = 0.0
    for offered, expected in zip(batches(name), counts, strict=True):
        train_step(state, recipe, offered)
        wrong += apart(state.slots.steps, expected)
    return wrong + apart(state.slots.state.z_H, z_H)


@check(
    "One update a supervision step", "000 002", "16 updates for a puzzle of 16 steps", 0.0, MODELS
)
def updates(name: str) -> int:
    """Updates and supervision steps too many or too few in 5 training steps."""
    state, recipe = started(name)
    made, forward = [], []
    state.optimizers[0].register_step_post_hook(lambda *_: made.append(1))
    state.model.register_forward_hook(lambda *_: forward.append(torch.is_grad_enabled()))
    for offered in batches(name):
        train_step(state, recipe, offered)
    bootstrap = 0 if state.model.config.no_ACT_continue else STEPS
    wrong = abs(len(made) - STEPS) + abs(sum(forward) - STEPS)
    return wrong + abs(len(forward) - STEPS - bootstrap) + abs(state.step - STEPS)


@check(
    "Optimisers in a training step",
    "002 004",
    "AdamATan2 of all weights, then their average; one warm-up, for puzzle rows too",
    1e-12,
    MODELS,
)
def optimisers(name: str) -> float:
    """Weights, averages and puzzle rows after each of 5 steps, from the gradients of that step."""
    decay = 0.4
    state, recipe = started_in_full(
        name, lr=LR, weight_decay=decay, warmup_steps=4, ema_decay=0.9, grad_clip=0.0
    )
    weights, table = dict(state.model.named_parameters()), state.model.puzzle_emb
    assert table is not None and state.ema is not None
    theta = {key: p.detach().clone() for key, p in weights.items()}
    m, v, average = ({key: k * p for key, p in theta.items()} for k in (0, 0, 1))
    gradients: dict[str, Tensor] = {}

    def note(*_: Any) -> None:
        gradients.update({key: p.grad.clone() for key, p in weights.items() if p.grad is not None})

    state.optimizers[0].register_step_pre_hook(note)
    found = 0.0
    for t, offered in enumerate(batches(name), start=1):
        rows = table.weights.clone()
        train_step(state, recipe, offered)
        lr, table_lr = LR * min(1, t / 4), TABLE_LR * min(1, t / 4)
        for key, g in gradients.items():
            m[key], v[key] = 0.9 * m[key] + 0.1 * g, 0.95 * v[key] + 0.05 * g**2
            angle = torch.atan2(m[key], (v[key] / (1 - 0.95**t)).sqrt())
            theta[key] = theta[key] * (1 - lr * decay) - lr / (1 - 0.9**t) * angle
            average[key] = 0.9 * average[key] + 0.1 * theta[key]
            found = max(found, apart(weights[key], theta[key]))
            found = max(found, apart(state.ema.shadow[key], average[key]))
        ids = state.slots.puzzle_ids
        moved = (table.weights - rows * (1 - table_lr * TABLE_DECAY))[ids].abs() / table_lr
        found = max(found, apart(moved, moved.round().clamp(max=1)))  # the size of a sign
    return found if len(gradients) == len(weights) else math.inf


@check(
    "Noise and random starts in use (EqR)",
    "",
    "drawn anew for every slot at every step of training, and for every puzzle in evaluation",
    0.0,
    MODELS,
)
def draws(name: str) -> int:
    """Count the ways in which two states after a step on the same puzzle are equal."""
    wrong = 0
    for drawn in ({"noise": 0.1}, {"initial_state": "random"}):
        state, recipe = started(name, {"halt_max_steps": 1, **drawn})
        state.base_lrs = [0.0, 0.0]
        one = batch(state.model)
        offered = Batch(*(x[:1].expand(BATCH, *x.shape[1:]) for x in one))
        trained = []
        for _ in range(2):
            train_step(state, recipe, offered)
            trained.append(state.slots.state.z_H)
        (step,) = think(state.model, offered.inputs, offered.puzzle_ids)
        for states in (torch.cat(trained), step.state.z_H):
            wrong += int(torch.pdist(states.flatten(1)).min() < 1e-6)
    return wrong


@check(
    "Exploration over steps",
    "002 004",
    "the minimum is drawn anew at every step",
    5.0,
)
def exploration() -> float:
    """Count the steps of 400 eager slots; standard deviations from the expected shares."""
    count = 400
    config = replace(CONFIGS["TRM"], H_cycles=1, L_cycles=1, L_layers=1)
    training = TrainingConfig(
        global_batch_size=count, halt_exploration_prob=1.0, lr=0.0, ema_decay=0.0
    )
    recipe = Recipe("fidelity", config, SudokuData(), training)
    state = TrainState.start(recipe, torch.device("cpu"), World())
    state.model.double()
    head = state.model.q_head
    assert head.bias is not None
    torch.nn.init.constant_(head.bias, 50.0)
    one = batch(state.model)
    offered = Batch(*(x[:1].expand(count, *x.shape[1:]) for x in one))
    lasted = torch.zeros(count, dtype=torch.long)
    for _ in range(4):
        train_step(state, recipe, offered)
        lasted = torch.where((lasted == 0) & state.slots.halted, state.slots.steps, lasted)
    # Minima 2, 3, 4 are equally likely: a slot halts at step 2 with 1/3, if not at 3 with 2/3
    expected = {1: 0.0, 2: 1 / 3, 3: 2 / 3 * 2 / 3, 4: 2 / 3 * 1 / 3}
    shares = {n: (lasted == n).double().mean().item() for n in expected}
    return max(
        abs(shares[n] - p) / max((p * (1 - p) / count) ** 0.5, 1e-9) for n, p in expected.items()
    )
