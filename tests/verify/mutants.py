"""Wrong implementations: single changes to the source, each with the row that notices it."""

import importlib
import inspect
import sys
import textwrap
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Mutant:
    """Name a fault, its place, the text that becomes another one, and who notices."""

    name: str
    target: str
    changes: dict[str, str]
    caught_by: str
    """Name of a check."""
    model: str = ""
    """The specimen on which it does; all if empty."""


def apply(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the changed function or method in place of the true one, wherever it is imported."""
    module_name, _, path = mutant.target.partition(":")
    module = importlib.import_module(f"ostinato.{module_name}")
    *owners, name = path.split(".")
    owner = getattr(module, owners[0]) if owners else module
    true = inspect.getattr_static(owner, name)
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(plain(true))))
    for old, new in mutant.changes.items():
        assert source.count(old) == 1, f"{mutant.name}: {old!r} is not once in {mutant.target}"
        source = source.replace(old, new)
    if owners:
        source = source.replace("super()", f"super({owners[0]}, self)")
    scope = dict(vars(module))
    exec(compile(source, f"<{mutant.name}>", "exec"), scope)
    if owners:
        monkeypatch.setattr(owner, name, scope[name])
        return
    places = [m for n, m in sys.modules.items() if n.startswith("ostinato") and m is not None]
    for place in places:
        if getattr(place, name, None) is true:
            monkeypatch.setattr(place, name, scope[name])


def plain(attribute: Any) -> Any:
    """The function in a property, class method or static method."""
    if isinstance(attribute, property):
        return attribute.fget
    return getattr(attribute, "__func__", attribute)


NO_GRAD = {"with torch.no_grad():": "if True:"}

MUTANTS = [
    Mutant(
        "both densities at the upper bound",
        "layers.initialization:truncated_normal_",
        {"lower_density = math.exp(-0.5 * lower**2)": "lower_density = math.exp(-0.5 * upper**2)"},
        "Truncated normal, asymmetric",
    ),
    Mutant(
        "std before the cut, as torch has it",
        "layers.initialization:truncated_normal_",
        {"sigma = std / math.sqrt(variance)": "sigma = std"},
        "Truncated normal",
    ),
    Mutant(
        "linear weights of std 0.02",
        "layers.linear:Linear.reset_parameters",
        {"self.weight.shape[1] ** -0.5": "0.02"},
        "Linear layers at the start",
    ),
    Mutant(
        "embeddings of std 1",
        "layers.embedding:Embedding.reset_parameters",
        {"std=self.std": "std=1.0"},
        "Embeddings at the start",
    ),
    Mutant(
        "weights not cast: everything in fp32",
        "layers.linear:Linear.forward",
        {"F.linear(x, self.weight.to(x.dtype), bias)": "F.linear(x.float(), self.weight, bias)"},
        "Forward dtype",
    ),
    Mutant(
        "weights in fp32, rounded in the result alone",
        "layers.linear:Linear.forward",
        {
            "F.linear(x, self.weight.to(x.dtype), bias)": (
                "F.linear(x.float(), self.weight, self.bias).to(x.dtype)"
            )
        },
        "Linear layers cast",
    ),
    Mutant(
        "embeddings in fp32",
        "layers.embedding:Embedding.forward",
        {"self.weight.to(self.dtype)": "self.weight"},
        "Embeddings cast",
    ),
    Mutant(
        "norm without epsilon",
        "layers.norm:rms_norm",
        {" + eps": ""},
        "RMSNorm",
    ),
    Mutant(
        "norm of deviations from the mean",
        "layers.norm:rms_norm",
        {"wide.square().mean(-1, keepdim=True)": "wide.var(-1, keepdim=True, correction=0)"},
        "Post-norm blocks",
    ),
    Mutant(
        "norm in bf16",
        "layers.norm:rms_norm",
        {"x.to(torch.promote_types(x.dtype, torch.float32))": "x"},
        "RMSNorm in fp32",
    ),
    Mutant(
        "gate and up swapped",
        "layers.feedforward:SwiGLU.forward",
        {"gate, up =": "up, gate ="},
        "SwiGLU",
    ),
    Mutant(
        "width not rounded before it is rounded up",
        "layers.feedforward:swiglu_width",
        {
            "-(-max(1, round(expansion * dim * 2 / 3)) // INNER_MULTIPLE)": (
                "int(expansion * dim / 384)"
            )
        },
        "SwiGLU width",
    ),
    Mutant(
        "half rotation with the other sign",
        "layers.rotary:rotate_half",
        {"[-second, first]": "[second, -first]"},
        "rotate_half",
    ),
    Mutant(
        "rotation of adjacent pairs",
        "layers.rotary:rotate_half",
        {
            "first, second = x.chunk(2, dim=-1)": "first, second = x[..., ::2], x[..., 1::2]",
            "torch.cat([-second, first], dim=-1)": "torch.stack([-second, first], -1).flatten(-2)",
        },
        "Rotary angles",
    ),
    Mutant(
        "angles of twice as many frequencies",
        "layers.rotary:RotaryEmbedding.__init__",
        {"/ head_dim)": "/ (2 * head_dim))"},
        "Rotary angles",
    ),
    Mutant(
        "rotation in bf16",
        "layers.rotary:apply_rotary",
        {
            "wide = x.to(torch.promote_types(x.dtype, torch.float32))": (
                "wide, cos, sin = x, cos.to(x.dtype), sin.to(x.dtype)"
            )
        },
        "Rotary positions in fp32",
    ),
    Mutant(
        "rotary tables saved",
        "layers.rotary:RotaryEmbedding.__init__",
        {'"cos", angles.cos(), persistent=False': '"cos", angles.cos()'},
        "Rotary tables",
    ),
    Mutant(
        "attention in bf16 at its end",
        "layers.attention:Attention.forward",
        {
            "self.o_proj(attended.transpose(1, 2).flatten(2))": (
                "self.o_proj(attended.transpose(1, 2).flatten(2).bfloat16()).to(x.dtype)"
            )
        },
        "fp32 and float64",
        "TRM",
    ),
    Mutant(
        "causal attention",
        "layers.attention:Attention.forward",
        {"v.transpose(1, 2)\n": "v.transpose(1, 2), is_causal=True\n"},
        "Attention",
    ),
    Mutant(
        "keys not rotated",
        "layers.attention:Attention.forward",
        {"k = apply_rotary(k, rotary.cos, rotary.sin)": "pass"},
        "Attention",
    ),
    Mutant(
        "pre-norm",
        "models.recursive:Block.forward",
        {
            "h = rms_norm(h + self.self_attn(h, rotary), self.eps)": (
                "h = h + self.self_attn(rms_norm(h, self.eps), rotary)"
            ),
            "return rms_norm(h + self.mlp(h), self.eps)": (
                "return h + self.mlp(rms_norm(h, self.eps))"
            ),
        },
        "Post-norm blocks",
        "TRM",
    ),
    Mutant(
        "norm over channels in mlp_t",
        "models.trm:MixerBlock.forward",
        {
            "h = rms_norm(h + self.mlp_t(h), self.eps)\n    h = h.transpose(1, 2)": (
                "h = rms_norm((h + self.mlp_t(h)).transpose(1, 2), self.eps)"
            )
        },
        "Post-norm blocks",
        "TRM-MLP",
    ),
    Mutant(
        "injection before every layer",
        "models.recursive:ReasoningModule.forward",
        {
            "hidden = hidden + injection": "pass",
            "layer(hidden, rotary)": "layer(hidden + injection, rotary)",
        },
        "Post-norm blocks",
        "HRM",
    ),
    Mutant(
        "embedding scale missing",
        "models.recursive:RecursiveModel.embed",
        {"config.hidden_size**0.5 * x": "x"},
        "Token and puzzle embedding",
    ),
    Mutant(
        "positions added without 1/√2",
        "models.recursive:RecursiveModel.embed",
        {"0.5**0.5 * (x": "1.0 * (x"},
        "Token and puzzle embedding",
    ),
    Mutant(
        "prefix not scaled",
        "models.recursive:RecursiveModel.embed",
        {
            "self.embed_puzzle(puzzle_ids, puzzle_rows)": (
                "config.hidden_size**-0.5 * self.embed_puzzle(puzzle_ids, puzzle_rows)"
            )
        },
        "Token and puzzle embedding",
    ),
    Mutant(
        "puzzle row at the end of its tokens",
        "models.recursive:RecursiveModel.embed_puzzle",
        {"(0, padding)": "(padding, 0)"},
        "Token and puzzle embedding",
    ),
    Mutant(
        "one prefix token whatever the settings",
        "models.recursive_config:RecursiveConfig.prefix_len",
        {"self.puzzle_emb_len or ": "1 if self.puzzle_emb_len else "},
        "Prefix tokens",
    ),
    Mutant(
        "trainable initial state",
        "models.recursive:RecursiveModel.__init__",
        {
            'self.register_buffer("H_init", torch.empty(dim, dtype=config.dtype), persistent=fixed)'
            "": "self.H_init = nn.Parameter(torch.empty(dim, dtype=config.dtype))"
        },
        "Initial states are buffers",
    ),
    Mutant(
        "initial state not saved",
        "models.recursive:RecursiveModel.__init__",
        {
            '"L_init", torch.empty(dim, dtype=config.dtype), persistent=fixed': (
                '"L_init", torch.empty(dim, dtype=config.dtype), persistent=False'
            )
        },
        "Initial states are buffers",
    ),
    Mutant(
        "another initial state at every position",
        "models.recursive:RecursiveModel.initial_state",
        {
            "self.H_init.expand(shape)": (
                "self.H_init * torch.arange(shape[1])[:, None].expand(shape).to(self.H_init)"
            )
        },
        "Initial states",
    ),
    Mutant(
        "initial states of std 1/√dim",
        "models.recursive:RecursiveModel.reset_parameters",
        {"self.L_init, std=1.0": "self.L_init, std=self.config.hidden_size**-0.5"},
        "Initial states at the start",
    ),
    Mutant(
        "q bias -5 missing",
        "models.recursive:RecursiveModel.reset_parameters",
        {"Q_HEAD_BIAS": "0.0"},
        "Start of the q head",
    ),
    Mutant(
        "random q weights",
        "models.recursive:RecursiveModel.reset_parameters",
        {"nn.init.zeros_(self.q_head.weight)": "pass"},
        "Start of the q head",
    ),
    Mutant(
        "random puzzle rows",
        "models.recursive:RecursiveModel.reset_parameters",
        {"nn.init.zeros_(self.puzzle_emb.weights)": "nn.init.normal_(self.puzzle_emb.weights)"},
        "Puzzle rows at the start",
    ),
    Mutant(
        "q read at the last position",
        "models.recursive:RecursiveModel.read_out",
        {"z_H[:, 0]": "z_H[:, -1]"},
        "H and L cycles",
    ),
    Mutant(
        "logits from the first positions, prefix included",
        "models.recursive:RecursiveModel.read_out",
        {"z_H[:, self.config.prefix_len :]": "z_H[:, : self.config.seq_len]"},
        "H and L cycles",
    ),
    Mutant(
        "all cycles of TRM with gradient",
        "models.recursive:RecursiveModel.forward",
        NO_GRAD,
        "Gradient of a step",
        "TRM",
    ),
    Mutant(
        "no gradient but in TRM's last call for z_L and z_H",
        "models.trm:TRM.refine",
        {"self.L_level(z_L, z_H + x": "self.L_level(z_L.detach(), z_H.detach() + x"},
        "Gradient of a step",
        "TRM-MLP",
    ),
    Mutant(
        "the question forgotten in TRM's z_L",
        "models.trm:TRM.refine",
        {"z_H + x": "z_H"},
        "H and L cycles",
        "TRM",
    ),
    Mutant(
        "the question in TRM's z_H too",
        "models.trm:TRM.refine",
        {"self.L_level(z_H, z_L, self.rotary)": "self.L_level(z_H, z_L + x, self.rotary)"},
        "H and L cycles",
        "TRM",
    ),
    Mutant(
        "damping of TRM's z_L alone",
        "models.trm:TRM.refine",
        {"relax(z_H, ": "(lambda h, u: u)(z_H, "},
        "Damping (EqR)",
        "TRM",
    ),
    Mutant(
        "damping of HRM's z_L in the last call alone",
        "models.hrm:HRM.refine",
        {
            "            z_L = relax(z_L, self.L_level(z_L, z_H + x, self.rotary))\n": (
                "            z_L = self.L_level(z_L, z_H + x, self.rotary)\n"
            )
        },
        "Damping (EqR)",
        "HRM",
    ),
    Mutant(
        "the same noise for every puzzle",
        "layers.relaxation:Relaxation.draw",
        {"torch.randn(like.shape, ": "torch.randn(like[:1].shape, "},
        "Noise (EqR)",
    ),
    Mutant(
        "random starts that are the same at every position",
        "models.recursive:RecursiveModel.initial_state",
        {
            "truncated_normal_(z, std=1.0, generator=generator)": (
                "truncated_normal_(z[:, :1], std=1.0, generator=generator).expand(shape)"
            )
        },
        "Random starts (EqR)",
        "TRM",
    ),
    Mutant(
        "one H cycle too few",
        "models.recursive:RecursiveModel.forward",
        {"self.cycles.H) - 1": "self.cycles.H) - 2"},
        "Calls with gradient",
        "TRM",
    ),
    Mutant(
        "all calls of HRM's last cycle with gradient",
        "models.hrm:HRM.refine",
        NO_GRAD,
        "Gradient of a step",
        "HRM",
    ),
    Mutant(
        "both levels of HRM by one module",
        "models.hrm:HRM.refine",
        {"self.H_level(z_H": "self.L_level(z_H"},
        "H and L cycles",
        "HRM",
    ),
    Mutant(
        "HRM's z_H after every z_L",
        "models.hrm:HRM.refine",
        {
            "            z_L = relax(z_L, self.L_level(z_L, z_H + x, self.rotary))\n": (
                "            z_L = relax(z_L, self.L_level(z_L, z_H + x, self.rotary))\n"
                "            z_H = self.H_level(z_H, z_L, self.rotary)\n"
            )
        },
        "Calls with gradient",
        "HRM",
    ),
    Mutant(
        "no detach between steps",
        "models.recursive:State.detach",
        {"State(self.z_H.detach(), self.z_L.detach())": "self"},
        "Detached between steps",
    ),
    Mutant(
        "a bias in the head of the answer",
        "models.recursive:RecursiveModel.__init__",
        {"Linear(dim, config.vocab_size)": "Linear(dim, config.vocab_size, bias=True)"},
        "Number of parameters",
    ),
    Mutant(
        "slots start in use",
        "training.slots:Slots.empty",
        {"torch.ones_like(counts, dtype=torch.bool)": "torch.zeros_like(counts, dtype=torch.bool)"},
        "First call",
    ),
    Mutant(
        "refill of unhalted slots",
        "training.slots:Slots.refill",
        {"torch.where(fresh_row, batch.inputs, self.inputs)": "batch.inputs"},
        "Refill",
    ),
    Mutant(
        "steps counted on after a refill",
        "training.slots:Slots.refill",
        {"torch.where(fresh, 0, self.steps)": "self.steps"},
        "Refill",
    ),
    Mutant(
        "thoughts kept for the next puzzle",
        "training.slots:Slots.refill",
        {"torch.where(fresh_cell, new, z)": "z"},
        "Refill",
    ),
    Mutant(
        "one step too many before the end",
        "training.slots:Slots.advance",
        {"steps >= config.halt_max_steps": "steps > config.halt_max_steps"},
        "Halting",
    ),
    Mutant(
        "halting by the step count alone",
        "training.slots:Slots.advance",
        {"halted | (": "halted & ("},
        "Halting",
    ),
    Mutant(
        "minimum of steps exclusive",
        "training.slots:Slots.advance",
        {"steps >= minimum_steps": "steps > minimum_steps"},
        "Halting",
    ),
    Mutant(
        "q_halt alone where there is a continue head",
        "models.recursive:wants_to_halt",
        {"output.q_halt > output.q_continue": "output.q_halt > 0"},
        "Halting",
    ),
    Mutant(
        "exploration range from 1",
        "training.slots:draw_minimum_steps",
        {"2, halt_max_steps + 1": "1, halt_max_steps + 1"},
        "Exploration",
    ),
    Mutant(
        "exploration range without its end",
        "training.slots:draw_minimum_steps",
        {"2, halt_max_steps + 1": "2, max(3, halt_max_steps)"},
        "Exploration",
    ),
    Mutant(
        "the same exploration at every step",
        "training.puzzles:train_step",
        {"        state.exploration,\n": "        torch.Generator().manual_seed(0),\n"},
        "Exploration over steps",
    ),
    Mutant(
        "target of q_continue without the maximum",
        "training.slots:target_q_continue",
        {"torch.maximum(next_output.q_halt, next_output.q_continue)": "next_output.q_continue"},
        "Target of q_continue",
    ),
    Mutant(
        "target of q_continue at the last step like any other",
        "training.slots:target_q_continue",
        {"torch.where(steps >= halt_max_steps, next_output.q_halt, best)": "best"},
        "Target of q_continue",
    ),
    Mutant(
        "early exit in evaluation",
        "inference.think:think",
        {
            "        yield step\n": (
                "        if number > 1 and (step.q_halt > 0).all():\n"
                "            return\n"
                "        yield step\n"
            )
        },
        "Evaluation",
    ),
    Mutant(
        "ignored cells count as wrong",
        "evaluation.puzzles:evaluate",
        {"valid = labels != IGNORE_LABEL": "valid = labels == labels"},
        "Accuracies",
    ),
    Mutant(
        "softmax for stablemax",
        "training.losses:token_losses",
        {"stablemax(logits).log()": "F.log_softmax(logits, dim=-1)"},
        "Token loss",
    ),
    Mutant(
        "stablemax without clamping in fp32",
        "training.losses:stablemax",
        {"1 / (1 - x.clamp(max=0))": "1 / (1 - x + 1e-30)"},
        "Gradient of stablemax",
    ),
    Mutant(
        "stablemax of the absolute value",
        "training.losses:stablemax",
        {"1 / (1 - x.clamp(max=0))": "1 - x.clamp(max=0)"},
        "Stablemax",
    ),
    Mutant(
        "mean over all tokens of the batch",
        "training.losses:act_loss",
        {"valid_count.clamp(min=1)).sum()": "valid_count.sum() * len(labels)).sum()"},
        "Token loss",
    ),
    Mutant(
        "ignored labels not ignored",
        "training.losses:token_losses",
        {"torch.where(valid, loss, 0)": "loss"},
        "Token loss",
    ),
    Mutant(
        "loss on halted slots only",
        "training.losses:act_loss",
        {
            "    loss = lm_loss + q_weight * q_halt_loss": (
                "    lm_loss = (slots.halted * losses.sum(-1) / valid_count.clamp(min=1)).sum()\n"
                "    loss = lm_loss + q_weight * q_halt_loss"
            )
        },
        "Loss over all slots",
    ),
    Mutant(
        "q losses with weight 1",
        "training.losses:act_loss",
        {"q_weight: float = 0.5": "q_weight: float = 1.0"},
        "Loss over all slots",
    ),
    Mutant(
        "right only if every cell is, ignored ones too",
        "training.losses:right_answers",
        {"right.sum(-1) == count": "right.all(-1)"},
        "Target of q_halt",
    ),
    Mutant(
        "q_continue's loss as a mean",
        "training.losses:act_loss",
        {'target_q_continue, reduction="sum"': 'target_q_continue, reduction="mean"'},
        "Loss of q_continue",
    ),
    Mutant(
        "accuracies of all slots",
        "training.losses:act_loss",
        {"halted = slots.halted & (valid_count > 0)": "halted = valid_count > 0"},
        "Logged accuracies",
    ),
    Mutant(
        "accuracies of halted slots as means over all",
        "training.puzzles:mean_metrics",
        {"value / halted": "value / examples"},
        "Logged accuracies",
    ),
    Mutant(
        "gradient not divided by the batch",
        "training.puzzles:train_step",
        {"world.size / config.global_batch_size": "world.size"},
        "Gradient of a training step",
        "TRM",
    ),
    Mutant(
        "loss of a micro-batch divided by its own size",
        "training.puzzles:train_step",
        {"world.size / config.global_batch_size": "world.size / size"},
        "Other settings",
        "TRM",
    ),
    Mutant(
        "bootstrap from the old state",
        "training.puzzles:supervision_step",
        {
            "thought, output = state.wrapped(": (
                "old = slots.state\n    thought, output = state.wrapped("
            ),
            "_, following = state.model(thought,": "_, following = state.model(old,",
        },
        "Gradient of a training step",
        "HRM",
    ),
    Mutant(
        "bootstrap with gradient",
        "training.puzzles:supervision_step",
        NO_GRAD,
        "Gradient of a training step",
        "HRM",
    ),
    Mutant(
        "new puzzles at every step",
        "training.puzzles:train_step",
        {"    state.end_turn(slots)\n": ""},
        "Carry across training steps",
        "TRM",
    ),
    Mutant(
        "the q head outside the optimiser",
        "training.optimizers:make_optimizers",
        {
            "AdamATan2(model.parameters(), **adam)": (
                "AdamATan2([p for n, p in model.named_parameters() if 'q_head' not in n], **adam)"
            )
        },
        "Optimisers in a training step",
        "TRM",
    ),
    Mutant(
        "the rate of the update before",
        "training.puzzles:train_step",
        {"state.step + 1, time_used": "max(1, state.step), time_used"},
        "Optimisers in a training step",
        "HRM",
    ),
    Mutant(
        "puzzle rows without a warm-up",
        "training.weight_state:WeightState.set_learning_rate",
        {"base * factor": "base * (factor if 'params' in group else 1.0)"},
        "Optimisers in a training step",
        "TRM",
    ),
    Mutant(
        "the average taken before the update",
        "training.puzzles:train_step",
        {
            "    for optimizer in state.optimizers:": (
                "    if state.ema is not None:\n        state.ema.update()\n"
                "    for optimizer in state.optimizers:"
            ),
            "        state.ema.update()\n    state.end_turn": "        pass\n    state.end_turn",
        },
        "Optimisers in a training step",
        "TRM-MLP",
    ),
    Mutant(
        "no noise in training",
        "training.puzzles:train_step",
        {"                state.model.relaxation(state.generator(number + 1)),\n": ""},
        "Noise and random starts in use (EqR)",
        "TRM",
    ),
    Mutant(
        "the same noise at every step",
        "training.puzzles:train_step",
        {"state.generator(number + 1)": "torch.Generator().manual_seed(number)"},
        "Noise and random starts in use (EqR)",
        "HRM",
    ),
    Mutant(
        "the same random starts at every step",
        "training.state:TrainState.initial_state",
        {"self.generator(0)": "torch.Generator().manual_seed(0)"},
        "Noise and random starts in use (EqR)",
        "TRM-MLP",
    ),
    Mutant(
        "one random start for all slots",
        "training.state:TrainState.initial_state",
        {"len(self.slots.steps)": "1"},
        "Noise and random starts in use (EqR)",
        "TRM",
    ),
    Mutant(
        "no noise in evaluation",
        "inference.think:think",
        {"float(number), relax=relax": "float(number)"},
        "Noise and random starts in use (EqR)",
        "TRM",
    ),
    Mutant(
        "an update every other step",
        "training.puzzles:train_step",
        {
            "for optimizer in state.optimizers:": (
                "for optimizer in state.optimizers[state.step % 2 :]:"
            )
        },
        "One update a supervision step",
        "TRM",
    ),
    Mutant(
        "decay after the step",
        "training.optimizers:AdamATan2.step",
        {
            '        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])\n': "",
            "            p.sub_(torch.atan2(numerator, denominator), alpha=step_size)": (
                "            p.sub_(torch.atan2(numerator, denominator), alpha=step_size)\n"
                '            p.mul_(1 - group["lr"] * group["weight_decay"])'
            ),
        },
        "AdamATan2",
    ),
    Mutant(
        "decay coupled to the gradient",
        "training.optimizers:AdamATan2.step",
        {
            '        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])\n': "",
            'group["step"] += 1': (
                'group["step"] += 1\n'
                '        torch._foreach_add_(grads, params, alpha=group["weight_decay"])'
            ),
        },
        "AdamATan2",
    ),
    Mutant(
        "m corrected inside atan2",
        "training.optimizers:AdamATan2.step",
        {
            "torch.atan2(numerator, denominator), alpha=step_size": (
                'torch.atan2(numerator / (1 - beta1 ** group["step"]), denominator), '
                'alpha=group["lr"]'
            )
        },
        "AdamATan2's first update",
    ),
    Mutant(
        "v not corrected",
        "training.optimizers:AdamATan2.step",
        {'math.sqrt(1 - beta2 ** group["step"])': "1.0"},
        "AdamATan2's first update",
    ),
    Mutant(
        "AdamW with torch's β",
        "training.optimizers:make_optimizers",
        {"(config.beta1, config.beta2)": "(0.9, 0.999)"},
        "AdamW",
    ),
    Mutant(
        "sign before sum",
        "training.optimizers:SparseSignSGD.step",
        {"gradients[order]": "gradients[order].sign()"},
        "Sign-SGD on puzzle rows",
    ),
    Mutant(
        "a step for each occurrence of an id",
        "training.optimizers:SparseSignSGD.step",
        {"summed.sign()": "summed.sign() * place.bincount()[place][:, None]"},
        "Sign-SGD on puzzle rows",
    ),
    Mutant(
        "all puzzle rows decay",
        "training.optimizers:SparseSignSGD.step",
        {
            'decayed = table[rows] * (1 - group["lr"] * group["weight_decay"])': (
                'table.mul_(1 - group["lr"] * group["weight_decay"]); decayed = table[rows]'
            )
        },
        "Sign-SGD on puzzle rows",
    ),
    Mutant(
        "puzzle rows decay after the step",
        "training.optimizers:SparseSignSGD.step",
        {
            'table[rows] = decayed - group["lr"] * summed.sign()': (
                'table[rows] = (table[rows] - group["lr"] * summed.sign()) '
                '* (1 - group["lr"] * group["weight_decay"])'
            )
        },
        "Sign-SGD on puzzle rows",
    ),
    Mutant(
        "no copies of the puzzle rows",
        "layers.embedding:SparseEmbedding.copy_rows",
        {"self.weights[ids].requires_grad_()": "self.weights.requires_grad_()[ids]"},
        "Puzzle rows in training",
    ),
    Mutant(
        "warm-up counted from 0",
        "training.schedule:Schedule.__call__",
        {"return step / self.warmup_steps": "return (step - 1) / self.warmup_steps"},
        "Learning rate",
    ),
    Mutant(
        "cosine over the whole run",
        "training.schedule:Schedule.__call__",
        {"(step - start) / max(1.0, self.total_steps - start)": "step / self.total_steps"},
        "Learning rate",
    ),
    Mutant(
        "average with bias correction",
        "training.ema:EMA.update",
        {
            "    torch._foreach_lerp_(": (
                "    self.updates = getattr(self, 'updates', 0) + 1\n    torch._foreach_lerp_("
            ),
            "1 - self.decay": "(1 - self.decay) / (1 - self.decay**self.updates)",
        },
        "Averaged weights",
    ),
    Mutant(
        "digit d as token d",
        "data.sudoku.rules:Sudoku.parse",
        {"self.meaning[symbol] for": "self.meaning[symbol] - 1 for"},
        "Sudoku tokens",
    ),
    Mutant(
        "goal before start",
        "data.maze.rules:Maze.tokens",
        {"SYMBOLS.index(symbol)": "'?#.GSo'.index(symbol)"},
        "Maze tokens",
    ),
    Mutant(
        "examples of a puzzle in their order",
        "data.batches:_Stretch.examples",
        {"in_order[np.lexsort((keys, visit))][: end - begin]": "in_order[: end - begin]"},
        "Puzzles of several examples",
    ),
    Mutant(
        "an epoch of all examples",
        "data.puzzles:PuzzleSet.epoch_examples",
        {"self.num_groups * self.metadata.mean_puzzle_examples": "float(len(self))"},
        "Length of an epoch",
    ),
    Mutant(
        "names without the originals' prefix",
        "weights.official:to_official_name",
        {"PREFIX + ": ""},
        "Names of weights",
    ),
    Mutant(
        "labels 0 supervised",
        "data.batches:_gather",
        {"labels[labels == puzzles.metadata.ignore_label_id] = IGNORE_LABEL": "pass"},
        "Supervised cells",
    ),
    Mutant(
        "always a puzzle's first variant",
        "data.batches:_Stretch.__init__",
        {
            "chosen = puzzles.group_indices[groups] + variant": (
                "chosen = puzzles.group_indices[groups] + 0 * variant"
            )
        },
        "Order of training",
    ),
    Mutant(
        "groups drawn with replacement",
        "data.batches:_Stretch.__init__",
        {
            "self._rng.permuted(in_order, axis=1).ravel()": (
                "self._rng.choice(in_order.ravel(), in_order.size)"
            )
        },
        "Order of training",
    ),
    Mutant(
        "ranks take every n-th row",
        "data.batches:training_batches",
        {"slice(rank * local, (rank + 1) * local)": "slice(rank, None, world_size)"},
        "Shares of several processes",
    ),
    Mutant(
        "test batches filled up with real labels",
        "data.batches:_pad",
        {"value=IGNORE_LABEL": "value=1"},
        "Order of testing",
    ),
    Mutant(
        "columns permuted like rows",
        "data.sudoku.symmetry:draw_symmetries",
        {
            "rows, cols, digits = orders.unbind(1)": (
                "rows, cols, digits = orders.unbind(1); cols = digits"
            )
        },
        "Symmetries of Sudoku",
    ),
    Mutant(
        "never transposed",
        "data.sudoku.symmetry:draw_symmetries",
        {"transposed == 1": "transposed == 2"},
        "Symmetries of Sudoku",
    ),
    Mutant(
        "the embedding added before every pass",
        "models.nanochat:NanoChat.states",
        {"yield x": "yield x\n        x = x + self.embed_tokens(tokens)"},
        "Looped blocks",
    ),
    Mutant(
        "no norm behind attention",
        "models.nanochat:Block.sublayers",
        {"self.attention_out_norm(attended)": "attended"},
        "Looped blocks",
    ),
    Mutant(
        "the last pass leaves by its gate too",
        "layers.exits:log_exit_probabilities",
        {"torch.cat([F.logsigmoid(logits[:-1]), nothing])": "F.logsigmoid(logits)"},
        "Exit probabilities",
    ),
    Mutant(
        "the entropy of exits added to the loss",
        "training.loops:stage_one",
        {"losses + ": "losses - "},
        "Stage I loss",
    ),
    Mutant(
        "the gate learns to leave where it should stay",
        "training.loops:stage_two",
        {"-exits[1:]": "exits[1:]"},
        "Stage II loss",
    ),
    Mutant(
        "the gate judged by the improvement that comes next",
        "training.loops:stage_two",
        {"exits[1:]": "exits[:-1]"},
        "Stage II loss",
    ),
    Mutant(
        "advantages divided by the deviation",
        "training.policy:advantages",
        {"(rewards - mean) / mean": "(rewards - mean) / rewards.std(1, keepdim=True)"},
        "MaxRL",
    ),
    Mutant(
        "REINFORCE without its baseline",
        "training.policy:advantages",
        {"return rewards - mean": "return rewards"},
        "REINFORCE",
    ),
    Mutant(
        "a walk out of the maze and back",
        "data.prompts.maze:is_walk",
        {"not inside or cells": "inside and cells"},
        "Mazes as text",
    ),
    Mutant(
        "a walk without an end",
        "data.prompts.maze:MazeTask.is_right",
        {"last == END and is_walk": "is_walk"},
        "Mazes as text",
    ),
]
