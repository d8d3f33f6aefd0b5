"""Wrong implementations that rows of "Optimisers" notice."""

from tests.verify.mutate import Mutant

MUTANTS = [
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
        "Muon without Nesterov momentum",
        "training.optimizers:Muon.step",
        {'p.grad.lerp(m, group["momentum"])': "m.clone()"},
        "Muon",
    ),
    Mutant(
        "Muon's momentum summed up, not averaged",
        "training.optimizers:Muon.step",
        {'.lerp_(p.grad, 1 - group["momentum"])': '.mul_(group["momentum"]).add_(p.grad)'},
        "Muon",
    ),
    Mutant(
        "steps of wide matrices scaled up",
        "training.optimizers:scale",
        {"rows / columns": "columns / rows"},
        "Muon",
    ),
    Mutant(
        "Newton–Schulz with one step too few",
        "training.optimizers:newton_schulz",
        {'range(settings["ns_steps"])': 'range(settings["ns_steps"] - 1)'},
        "Muon",
    ),
    Mutant(
        "the sign of the average alone",
        "training.optimizers:Lion.step",
        {"torch._foreach_lerp(momenta, grads, 1 - beta1)": "[m.clone() for m in momenta]"},
        "Lion",
    ),
    Mutant(
        "the average updated first",
        "training.optimizers:Lion.step",
        {
            "directions = torch": (
                "torch._foreach_lerp_(momenta, grads, 1 - beta2)\n        directions = torch"
            )
        },
        "Lion",
    ),
    Mutant(
        "the first update at full rate",
        "training.schedule:Schedule.__call__",
        {"if step < self.warmup_steps:": "if 1 < step < self.warmup_steps:"},
        "Learning rate of language models",
    ),
    Mutant(
        "decay from the end of the warm-up",
        "training.schedule:Schedule.__call__",
        {"max(self.warmup_steps, self.decay_start * self.total_steps)": "self.warmup_steps"},
        "Learning rate of language models",
    ),
    Mutant(
        "all matrices to Muon",
        "models.nanochat:NanoChat.parameter_roles",
        {
            "name, _ in self": "name, weight in self",
            'elif "_proj." in name:': "elif weight.ndim == 2:",
            'elif "_connection." in name:': 'elif "_connection." in name and weight.ndim < 2:',
        },
        "Muon's weights",
    ),
]
