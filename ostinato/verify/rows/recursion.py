"""Embedding, initial states, the recursion and its gradient, and what is read off."""

import math

import torch
from torch import Tensor

from ostinato.layers import Relaxation
from ostinato.models import HRM, TRM, HRMConfig, RecursiveModel, TRMConfig
from ostinato.verify import reference
from ostinato.verify.check import apart, check, relatively_apart
from ostinato.verify.specimens import (
    CONFIGS,
    MODELS,
    batch,
    rows_of,
    some_state,
    specimen,
    weights,
)

TITLE = "Recursion"


def our_step(model: RecursiveModel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take one supervision step: z_H, z_L, logits, q."""
    puzzles = batch(model)
    relax = model.relaxation(torch.Generator())
    state, output = model(some_state(model), puzzles.inputs, puzzles.puzzle_ids, relax=relax)
    q = [output.q_halt] if output.q_continue is None else [output.q_halt, output.q_continue]
    return *state, output.logits, torch.stack(q, dim=1)


def reference_step(model: RecursiveModel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same in plain lines."""
    puzzles = batch(model)
    rows = rows_of(model, puzzles.puzzle_ids)
    return reference.step(weights(model), model.config, *some_state(model), puzzles.inputs, rows)


@check(
    "Token and puzzle embedding", "000 001 002", "prefix in front, all times √dim", 1e-12, MODELS
)
def embedding(name: str) -> float:
    """Rows that fill the prefix partly, learned positions (then times 1/√2), no rows at all."""
    found, variants = 0.0, [{}, {"pos_encodings": "learned"}, {"puzzle_emb_ndim": 0}]
    for settings in variants:
        model = specimen(name, **settings)
        puzzles = batch(model)
        rows = rows_of(model, puzzles.puzzle_ids)
        expected = reference.embed(weights(model), model.config, puzzles.inputs, rows)
        found = max(found, apart(model.embed(puzzles.inputs, puzzles.puzzle_ids), expected))
    return found


@check("Prefix tokens", "000 001", "puzzle_emb_len, or if 0 as many as the puzzle's row fills")
def prefix() -> int:
    """Settings with another number of positions in the initial state."""
    table = {(16, 512): 16, (0, 512): 1, (0, 513): 2, (0, 1024): 2, (0, 0): 0, (1, 0): 1}
    wrong = 0
    for (length, ndim), expected in table.items():
        for kind in (TRMConfig, HRMConfig):
            config = kind(puzzle_emb_len=length, puzzle_emb_ndim=ndim)
            wrong += config.prefix_len != expected
        model = specimen("HRM", puzzle_emb_len=length, puzzle_emb_ndim=-(-ndim // 32))
        wrong += model.initial_state(2).z_H.shape[1] != 12 + expected
    return wrong


@check("Puzzle rows at the start", "000 001", "zero", 0.0, MODELS)
def puzzle_rows(name: str) -> float:
    """The largest entry of a new model's table."""
    table = new_model(name).puzzle_emb
    return math.inf if table is None else table.weights.abs().max().item()


@check("Initial states", "000 001", "one vector each, the same at every position", 0.0, MODELS)
def initial_states(name: str) -> float:
    """Shapes other than [dim], and the spread over positions and puzzles."""
    model = specimen(name)
    wrong = sum(z.shape != (model.config.hidden_size,) for z in (model.H_init, model.L_init))
    state = model.initial_state(3)
    spread = [(z - z[:1, :1]).abs().max().item() for z in state]
    return wrong + max(spread) + apart(state.z_H[0, 0], model.H_init)


@check("Initial states are buffers", "000 001 004", "never trained, always saved", 0.0, MODELS)
def initial_state_buffers(name: str) -> int:
    """Parameters among them, missing among saved tensors, or not in the forward dtype."""
    model = specimen(name, forward_dtype="bfloat16")
    trained, saved, wrong = dict(model.named_parameters()), model.state_dict(), 0
    for key in ("H_init", "L_init"):
        wrong += (key in trained) + (key not in saved)
        wrong += getattr(model, key).dtype != torch.bfloat16
    return wrong


@check("Initial states at the start", "001 002", "truncated normal, std 1", 0.1, MODELS)
def initial_state_values(name: str) -> float:
    """Relative error of the std over 60 draws, and of the bound at 2.274."""
    model, generator, drawn = specimen(name), torch.Generator().manual_seed(0), []
    for _ in range(60):
        model.reset_parameters(generator)
        drawn += [model.H_init.clone(), model.L_init.clone()]
    z = torch.stack(drawn).double()
    different = (z[0] != z[1]).all() and (z[0] != z[2]).all()
    error = max(abs(z.std().item() - 1), abs(z.abs().max().item() / 2.2737 - 1))
    return error if different else math.inf


@check(
    "Post-norm blocks",
    "000 001 004",
    "norm after each residual; injection added first",
    1e-9,
    MODELS,
)
def blocks(name: str) -> float:
    """Each reasoning module on random states, against float64."""
    model = specimen(name)
    w, (hidden, injection), found = weights(model), some_state(model), 0.0
    for level in ("L_level", "H_level"):
        if module := getattr(model, level, None):
            expected = reference.reason(
                reference.under(w, level), model.config, hidden, 3 * injection
            )
            found = max(found, apart(module(hidden, 3 * injection, model.rotary), expected))
    return found


@check(
    "H and L cycles", "000 001 002 004", "H × (L × z_L, then z_H), from the same x", 1e-8, MODELS
)
def cycles(name: str) -> float:
    """State, logits and q after one supervision step, against float64."""
    model = specimen(name)
    pairs = zip(our_step(model), reference_step(model), strict=True)
    return max(apart(ours, expected) for ours, expected in pairs)


@check(
    "Gradient of a step",
    "000 001 002 004",
    "of the last cycle (HRM: last calls) only",
    1e-8,
    MODELS,
)
def gradient(name: str) -> float:
    """Relative difference of all weights' and puzzle rows' gradients, against float64 autograd."""
    model = specimen(name)
    puzzles, w = batch(model), weights(model)
    assert model.puzzle_emb is not None
    rows = model.puzzle_emb.copy_rows(puzzles.puzzle_ids)
    _, output = model(some_state(model), puzzles.inputs, puzzles.puzzle_ids, rows)
    assert output.q_continue is not None
    q = torch.stack([output.q_halt, output.q_continue], dim=1)
    (wave(output.logits) + wave(q)).backward()

    copies = rows.detach().clone().requires_grad_()
    state = some_state(model)
    _, _, logits, q = reference.step(w, model.config, state.z_H, state.z_L, puzzles.inputs, copies)
    (wave(logits) + wave(q)).backward()
    found = [relatively_apart(gradient_of(rows), gradient_of(copies))]
    for key, parameter in model.named_parameters():
        found.append(relatively_apart(gradient_of(parameter), gradient_of(w[key])))
    return max(found)


def wave(x: Tensor) -> Tensor:
    """A number that depends on every entry."""
    return (x * torch.arange(1, x.numel() + 1, dtype=x.dtype).cos().view_as(x)).sum()


def gradient_of(tensor: Tensor) -> Tensor:
    """Zero where no gradient has come."""
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


@check("Calls with gradient", "000 001 002 004", "TRM: L_cycles + 1; HRM: 1 + 1", 0.0, MODELS)
def calls(name: str) -> int:
    """The difference in calls of reasoning modules, with gradient and in all."""
    model, seen = specimen(name), []
    for module in model.reasoning_modules():
        module.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    our_step(model)
    c = model.config
    recorded = 2 if isinstance(model, HRM) else c.L_cycles + 1
    return abs(sum(seen) - recorded) + abs(len(seen) - c.H_cycles * (c.L_cycles + 1))


@check("Detached between steps", "000 001 004", "the carry has no gradient history", 0.0, MODELS)
def detached(name: str) -> int:
    """States of a step that remember where they come from."""
    z_H, z_L, *_ = our_step(specimen(name))
    return sum(z.requires_grad for z in (z_H, z_L))


@check("Start of the q head", "000 001 002", "weight 0, bias -5, one or two outputs", 0.0, MODELS)
def q_head(name: str) -> float:
    """The largest difference in a new model."""
    found = 0.0
    for outputs in (1, 2):
        config = {"q_outputs": outputs, "no_ACT_continue": True}
        head = new_model(name, **config).q_head
        assert head.bias is not None
        dim = CONFIGS[name].hidden_size
        found = max(found, apart(head.weight, torch.zeros(outputs, dim)))
        found = max(found, apart(head.bias, torch.full((outputs,), -5.0)))
    return found


@check("Forward dtype", "004", "states and logits in bf16, q in fp32, weights in fp32", 0.0, MODELS)
def dtypes(name: str) -> int:
    """Tensors in another dtype."""
    model = specimen(name, forward_dtype="bfloat16")
    z_H, z_L, logits, q = our_step(model)
    wrong = sum(x.dtype != torch.bfloat16 for x in (z_H, z_L, logits)) + (q.dtype != torch.float32)
    return wrong + sum(p.dtype != torch.float32 for p in model.parameters())


@check("fp32 and float64", "004", "the same function, up to rounding", 1e-3, MODELS)
def precision(name: str) -> float:
    """State, logits and q of a step in fp32, against float64."""
    model = specimen(name, forward_dtype="float32")
    exact = specimen(name)
    exact.load_state_dict(model.state_dict())
    pairs = zip(our_step(model), reference_step(exact), strict=True)
    return max(apart(ours, expected) for ours, expected in pairs)


@check("Damping (EqR)", "", "h ← (1 - λ)·h + λ·u at every call, λ 0.95", 1e-12, MODELS)
def damping(name: str) -> float:
    """State, logits and q of a step."""
    model = specimen(name, damping=0.95)
    pairs = zip(our_step(model), reference_step(model), strict=True)
    return max(apart(ours, expected) for ours, expected in pairs)


@check("Noise (EqR)", "", "standard normal times σ, anew for every element and call", 0.02)
def noise() -> float:
    """Relative error of the std, and the correlation of two calls and of two puzzles."""
    relax = Relaxation(noise=0.01, generators=[torch.Generator().manual_seed(0)])
    still = torch.zeros(2, 200, 100)
    first, second = (relax(still, still) / 0.01 for _ in range(2))
    alike = [(first * second).mean().abs().item(), (first[0] * first[1]).mean().abs().item()]
    return max(*alike, *(abs(x.std().item() - 1) for x in (first, second)))


@check("Random starts (EqR)", "", "truncated normal of std 1 at every position", 0.05, MODELS)
def random_starts(name: str) -> float:
    """Relative error of the std over 200 puzzles, and of the bound at 2.274; and what is saved."""
    model = specimen(name, initial_state="random")
    state = model.initial_state(200, torch.Generator().manual_seed(0))
    z = torch.stack(list(state)).double()
    spread = z.var(dim=2).mean().sqrt().item()  # over positions
    saved = {"H_init", "L_init"} & model.state_dict().keys()
    error = max(abs(spread - 1), abs(z.abs().max().item() / 2.2737 - 1))
    return math.inf if saved or torch.equal(state.z_H, state.z_L) else error


@check("Number of parameters", "002 004", "as published, puzzle rows aside: 6,828,034 and so on")
def parameters() -> int:
    """The difference for the Sudoku models: TRM-attention, TRM-MLP, HRM."""
    models = [
        (TRM, TRMConfig(vocab_size=11, seq_len=81), 6_828_034),
        (TRM, TRMConfig(vocab_size=11, seq_len=81, mlp_t=True, pos_encodings="none"), 5_028_866),
        (HRM, HRMConfig(vocab_size=11, seq_len=81), 27_275_266),
    ]
    wrong = 0
    for model_class, config, expected in models:
        with torch.device("meta"):
            model = model_class(config)
        wrong += abs(sum(p.numel() for p in model.parameters()) - expected)
    return wrong


def new_model(name: str, **settings) -> RecursiveModel:
    """As training starts with it."""
    model = specimen(name, **settings)
    model.reset_parameters(torch.Generator().manual_seed(0))
    return model
