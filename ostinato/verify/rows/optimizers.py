"""Optimisers, which weights they train, learning rates and averaged weights."""

import math

import numpy as np
import torch
from torch import nn

from ostinato.layers import SparseEmbedding
from ostinato.models import HRMConfig, NanoChat, NanoChatConfig, TRMConfig
from ostinato.training.config import TextTrainingConfig, TrainingConfig
from ostinato.training.ema import EMA
from ostinato.training.optimizers import AdamATan2, Lion, Muon, SparseSignSGD, make_optimizers
from ostinato.training.schedule import Schedule
from ostinato.verify.check import apart, check
from ostinato.verify.specimens import random, specimen

TITLE = "Optimisers"
LR, DECAY, BETAS = 0.05, 0.4, (0.9, 0.95)


def gradients() -> np.ndarray:
    """Twelve in a row, with entries of all sizes and exact zeros."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(12, 8)) * 10.0 ** rng.integers(-9, 3, size=(12, 8))
    found[:, 0] = 0
    return found


def adam_atan2(steps: int, scale: float = 1.0) -> np.ndarray:
    """Ours after some steps from 1, 2, …, 8."""
    weight = nn.Parameter(torch.arange(1.0, 9, dtype=torch.float64))
    optimizer = AdamATan2([weight], lr=LR, betas=BETAS, weight_decay=DECAY)
    for gradient in gradients()[:steps]:
        weight.grad = torch.from_numpy(gradient * scale)
        optimizer.step()
    return weight.detach().numpy()


@check(
    "AdamATan2",
    "002",
    "θ(1 - lr·wd), then lr/(1-β1ᵗ)·atan2(m, √(v/(1-β2ᵗ))); m itself is not corrected",
    1e-12,
)
def adam_atan2_formula() -> float:
    """Weights after 1 to 12 updates, against numpy."""
    theta, m, v, found = np.arange(1.0, 9), np.zeros(8), np.zeros(8), 0.0
    for t, g in enumerate(gradients(), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        angle = np.arctan2(m, np.sqrt(v / (1 - 0.95**t)))
        theta = theta * (1 - LR * DECAY) - LR / (1 - 0.9**t) * angle
        found = max(found, apart(adam_atan2(t), theta))
    return found


@check(
    "AdamATan2's first update", "002", "10·atan(0.1)·lr against the sign, whatever the size", 1e-12
)
def adam_atan2_first() -> float:
    """One update from gradients that differ by 12 powers of ten; no epsilon, no clipping."""
    signs = np.sign(gradients()[0])
    expected = np.arange(1.0, 9) * (1 - LR * DECAY) - LR * 10 * math.atan(0.1) * signs
    return max(apart(adam_atan2(1), expected), apart(adam_atan2(1, scale=1e6), expected))


@check("AdamW", "002", "β (0.9, 0.95), decoupled decay, both moments corrected, ε 1e-8", 1e-10)
def adamw() -> float:
    """A model's first layer after 3 updates by the recipe's optimiser, against numpy."""
    config = TrainingConfig(optimizer="adamw", lr=LR, weight_decay=DECAY)
    model = specimen("TRM")
    (optimizer,) = make_optimizers(model, config)
    weight = model.lm_head.weight
    theta, m, v = weight.detach().numpy().copy(), 0.0, 0.0
    rng = np.random.default_rng(1)
    for t in range(1, 4):
        g = rng.normal(size=theta.shape)
        weight.grad = torch.from_numpy(g)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        update = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
        theta = theta * (1 - LR * DECAY) - LR * update
    return apart(weight, theta)


@check(
    "Sign-SGD on puzzle rows",
    "004",
    "gradients of equal ids summed, then w(1 - lr·wd) - lr·sign; other rows untouched",
    1e-12,
)
def sparse_sign() -> float:
    """Three updates with repeated ids, against a loop over rows."""
    table = SparseEmbedding(9, 4).double()
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(9, 4))
    table.weights.copy_(torch.from_numpy(expected))
    optimizer = SparseSignSGD(table, LR, DECAY)
    for ids in ([3, 1, 3, 3, 8], [0], [5, 5, 1]):
        g = rng.normal(size=(len(ids), 4))
        g[:, 0] = 0  # sign 0: decay only
        optimizer.step(torch.tensor(ids, dtype=torch.int32), torch.from_numpy(g))
        for row in sorted(set(ids)):
            total = sum(g[i] for i in range(len(ids)) if ids[i] == row)
            expected[row] = expected[row] * (1 - LR * DECAY) - LR * np.sign(total)
    return apart(table.weights, expected)


@check(
    "Puzzle rows in training", "004", "a batch's rows are copied; the table has no gradient", 0.0
)
def sparse_copies() -> float:
    """Copies that differ or are no leaves, tables that are trained or lost, results that differ."""
    model = specimen("TRM")
    table, ids = model.puzzle_emb, torch.tensor([2, 0, 2])
    assert table is not None
    rows = table.copy_rows(ids)
    inputs = torch.ones(3, 12, dtype=torch.int32)
    trained, evaluated = model.embed(inputs, ids, rows), model.embed(inputs, ids)
    trained.sum().backward()
    wrong = apart(rows, table.weights[ids]) + apart(trained, evaluated)
    wrong += (not rows.is_leaf or rows.grad is None) + table.weights.requires_grad
    wrong += rows.data_ptr() == table.weights.data_ptr()
    return wrong + len(list(table.parameters())) + ("weights" not in table.state_dict())


@check("Learning rate", "002", "base·step/warmup, step from 1; then cosine to lr_min_ratio", 1e-12)
def learning_rate() -> float:
    """Factors at every step of runs with ratios 1.0 (constant, as in all recipes) and 0.1."""
    found, total, warmup = 0.0, 60, 20
    for ratio in (1.0, 0.1):
        schedule = Schedule(total, warmup, 0.0, ratio, "cosine")
        for step in range(1, total + 1):
            progress = max(0.0, (step - warmup) / (total - warmup))
            cosine = ratio + (1 - ratio) * 0.5 * (1 + math.cos(math.pi * progress))
            expected = step / warmup if step < warmup else cosine
            found = max(found, abs(schedule(step) - expected))
    return found


@check(
    "Averaged weights", "002", "start as a copy; then 0.999·average + 0.001·θ, uncorrected", 1e-12
)
def ema() -> float:
    """Three updates of a parameter; buffers are used as they are."""
    module = nn.Linear(1, 1, bias=False).double()
    module.register_buffer("counter", torch.zeros(1))
    module.weight.data.fill_(2.0)
    average, expected = EMA(module, 0.999), 2.0
    for value in (5.0, -1.0, 7.0):
        module.weight.data.fill_(value)
        module.counter.add_(1)  # pyright: ignore[reportCallIssue]
        average.update()
        expected = 0.999 * expected + 0.001 * value
    with average.applied():
        found = apart(module.weight, [[expected]]) + apart(module.counter, [3.0])
    return found + apart(module.weight, [[7.0]])


@check("Muon", "003", "momentum 0.95, Nesterov; UVᵀ by five steps of Newton–Schulz", 1e-9)
def muon() -> float:
    """A tall and a wide matrix after 3 updates, against singular values in float64."""
    found = 0.0
    for shape in ((6, 4), (4, 7)):
        weight = nn.Parameter(random(*shape))
        optimizer = Muon(
            [weight],
            torch.float64,
            lr=0.02,
            momentum=0.95,
            weight_decay=0.1,
            adjust_lr_fn="original",
        )
        theta, m = weight.detach().clone(), torch.zeros(shape, dtype=torch.float64)
        for t in range(1, 4):
            g = random(*shape, seed=t)
            weight.grad = g.clone()
            optimizer.step()
            m = 0.95 * m + 0.05 * g
            U, S, V = torch.linalg.svd(0.05 * g + 0.95 * m, full_matrices=False)
            S = S / S.square().sum().sqrt()
            for _ in range(5):
                S = 3.4445 * S - 4.775 * S**3 + 2.0315 * S**5
            step = 0.02 * math.sqrt(max(1, shape[0] / shape[1]))
            theta = theta * (1 - 0.02 * 0.1) - step * U @ torch.diag(S) @ V
        found = max(found, apart(weight, theta))
    return found


@check("Lion", "003", "β 0.9 and 0.99: θ(1 - lr·wd) - lr·sign(0.9 m + 0.1 g)", 1e-12)
def lion() -> float:
    """Six weights after 5 updates, against a loop."""
    weight = nn.Parameter(random(6))
    optimizer = Lion([weight], lr=0.01, weight_decay=0.1)
    theta, m = weight.tolist(), [0.0] * 6
    for t in range(1, 6):
        g = random(6, seed=t)
        weight.grad = g.clone()
        optimizer.step()
        for i, gradient in enumerate(g.tolist()):
            step = math.copysign(0.01, 0.9 * m[i] + 0.1 * gradient)
            theta[i] = theta[i] * (1 - 0.01 * 0.1) - step
            m[i] = 0.99 * m[i] + 0.01 * gradient
    return apart(weight, theta)


@check("Learning rate of language models", "003", "update k uses schedule(k), from 1", 1e-12)
def schedule() -> float:
    """Linear warm-up, constant to 80 % of the updates, then a cosine to 10 %; default settings."""
    factor, found = TextTrainingConfig(total_steps=1000).schedule, 0.0
    for k in range(1, 1001):
        cosine = 0.1 + 0.9 * (1 + math.cos(math.pi * (k - 800) / 200)) / 2
        expected = k / 100 if k < 100 else 1.0 if k <= 800 else cosine
        found = max(found, abs(factor(k) - expected))
    return found


@check("Muon's weights", "003", "the matrices of the blocks, by role and not by shape")
def roles() -> int:
    """Weights of a model with maps, norms, head and connections that are put elsewhere."""
    model, wrong = NanoChat(NanoChatConfig(group_size=0, stream_mode="dynamic", tied_head=False)), 0
    for name, role in model.parameter_roles().items():
        wanted = ".attention." in name or ".feedforward." in name
        wrong += (role == "block matrix") != wanted
    return wrong + (len(model.parameter_roles()) != len(list(model.parameters())))


@check("Defaults", "001 002", "the names and values of documents and official recipes")
def defaults() -> int:
    """Settings of TRM, of HRM and of training that differ."""
    shared = {
        "vocab_size": 11,
        "seq_len": 81,
        "hidden_size": 512,
        "num_heads": 8,
        "expansion": 4.0,
        "halt_max_steps": 16,
        "pos_encodings": "rope",
        "puzzle_emb_ndim": 512,
        "q_outputs": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "forward_dtype": "bfloat16",
        "initial_state": "fixed",
        "damping": 1.0,
        "noise": 0.0,
    }
    trm = {"H_cycles": 3, "L_cycles": 6, "L_layers": 2, "prefix_len": 16, "no_ACT_continue": True}
    hrm = {"H_cycles": 2, "L_cycles": 2, "L_layers": 4, "prefix_len": 1, "no_ACT_continue": False}
    training = {
        "total_steps": 65_104,
        "global_batch_size": 768,
        "slot_turns": 1,
        "refill": "aligned",
        "optimizer": "adam_atan2",
        "lr": 1e-4,
        "puzzle_emb_lr": 1e-4,
        "beta1": 0.9,
        "beta2": 0.95,
        "weight_decay": 1.0,
        "puzzle_emb_weight_decay": 1.0,
        "warmup_steps": 2000,
        "lr_min_ratio": 1.0,
        "halt_exploration_prob": 0.1,
        "ema_decay": 0.999,
        "loss_type": "stablemax_cross_entropy",
        "q_weight": 0.5,
        "label_smoothing": 0.0,
        "grad_clip": 0.0,
    }
    ours = [(TRMConfig(), shared | trm), (TrainingConfig(), training)]
    ours += [(HRMConfig(), shared | hrm | {"H_layers": 4})]
    return sum(getattr(c, key) != value for c, table in ours for key, value in table.items())
