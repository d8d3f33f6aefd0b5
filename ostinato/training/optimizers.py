"""Choose an optimiser for each weight; AdamATan2 and the sparse sign-SGD in plain PyTorch.

The package that TRM and HRM use for AdamATan2 needs a CUDA build; the sparse sign-SGD exists
nowhere else.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

from ostinato.layers import SparseEmbedding
from ostinato.models import RecursiveModel
from ostinato.models.dtypes import choose_dtype
from ostinato.training.config import LoopConfig, TrainingConfig


def make_optimizers(model: RecursiveModel, config: TrainingConfig) -> list[Optimizer]:
    """Return the optimisers of the dense weights.

    They are chosen by role, not by shape: with Muon, the matrices of the reasoning modules get
    Muon, and embeddings and heads AdamW.
    """
    adam = {
        "lr": config.lr,
        "betas": (config.beta1, config.beta2),
        "weight_decay": config.weight_decay,
    }
    if config.optimizer == "adam_atan2":
        return [AdamATan2(model.parameters(), **adam)]
    if config.optimizer == "adamw":
        return [torch.optim.AdamW(model.parameters(), **adam)]
    matrices = [p for module in model.reasoning_modules() for p in module.parameters()]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [make_muon(matrices, config), torch.optim.AdamW(others, **adam)]


class Averaging(Optimizer):
    """An optimiser that keeps averages of every weight's gradient, which start at 0."""

    def learning(
        self, *averages: str
    ) -> Iterator[tuple[dict[str, Any], list[Tensor], list[Tensor], list[list[Tensor]]]]:
        """Yield each group with its weights that have a gradient, their gradients and averages."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if not self.state[p]:
                    self.state[p].update({name: torch.zeros_like(p) for name in averages})
            if params:
                kept = [[self.state[p][name] for p in params] for name in averages]
                yield group, params, [p.grad for p in params], kept


class AdamATan2(Averaging):
    """Adam with atan2 in place of the division: invariant to the gradients' scale, and no epsilon.

        θ ← θ(1 - lr·wd);  m ← lerp(m, g, 1-β1);  v ← lerp(v, g², 1-β2)
        θ ← θ - lr/(1-β1ᵗ) · atan2(m, √v / √(1-β2ᵗ))

    Source: Everett et al. 2024 (arXiv 2407.05872), corrected as in `adam-atan2`: the step size, not
    the m inside atan2, is divided by 1-β1ᵗ.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ):
        super().__init__(
            params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "step": 0}
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        assert closure is None
        for group, params, grads, (m, v) in self.learning("exp_avg", "exp_avg_sq"):
            group["step"] += 1
            beta1, beta2 = group["betas"]
            step_size = group["lr"] / (1 - beta1 ** group["step"])

            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_lerp_(m, grads, 1 - beta1)
            torch._foreach_lerp_(v, torch._foreach_mul(grads, grads), 1 - beta2)
            denominators = torch._foreach_sqrt(v)
            torch._foreach_div_(denominators, math.sqrt(1 - beta2 ** group["step"]))
            for p, numerator, denominator in zip(params, m, denominators, strict=True):
                p.sub_(torch.atan2(numerator, denominator), alpha=step_size)


class SparseSignSGD:
    """Sign-SGD with decoupled decay on the rows of a `SparseEmbedding` that a batch touched.

    The gradients of equal ids are summed first; only then is the sign taken, once per row:
    w ← w(1 - lr·wd) - lr·sign(Σg). Rows outside the batch are neither read nor decayed.

    Source: HRM, `CastedSparseEmbeddingSignSGD_Distributed`.
    """

    def __init__(self, embedding: SparseEmbedding, lr: float, weight_decay: float):
        self.embedding = embedding
        self.param_groups: list[dict[str, Any]] = [{"lr": lr, "weight_decay": weight_decay}]

    @torch.no_grad()
    def step(self, ids: Int[Tensor, " batch"], gradients: Float[Tensor, "batch dim"]) -> None:
        """Update the rows `ids` with the gradients of their copies (of all ranks, gathered)."""
        (group,) = self.param_groups
        # unique() would make the host wait for the device
        rows, order = ids.long().sort(stable=True)
        place = (rows.diff() != 0).cumsum(0)
        place = torch.cat([place.new_zeros(1), place])
        summed = torch.zeros_like(gradients).index_add_(0, place, gradients[order])[place]
        table = self.embedding.weights
        decayed = table[rows] * (1 - group["lr"] * group["weight_decay"])
        # A row that occurs twice is written twice, with the same numbers
        table[rows] = decayed - group["lr"] * summed.sign()


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with Nesterov momentum, orthogonalising in `dtype`.

        m ← lerp(m, g, 1 - μ);  o ← newton_schulz(lerp(g, m, μ))
        θ ← θ(1 - lr·wd) - lr·scale·o

    With bfloat16 it gives the same bits as `torch.optim.Muon`, which knows no other dtype.

    Source: https://kellerjordan.github.io/posts/muon/
    """

    def __init__(self, params: Iterable[nn.Parameter], dtype: torch.dtype, **settings: Any):
        super().__init__(params, **settings)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        assert closure is None
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                if not self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p.grad)
                m = self.state[p]["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(m, group["momentum"]).to(self.dtype)
                if p.shape[0] > p.shape[1]:
                    update = newton_schulz(update.T, group).T
                else:
                    update = newton_schulz(update, group)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * scale(p.shape, group["adjust_lr_fn"]))


def newton_schulz(
    x: Float[Tensor, "least most"], settings: dict[str, Any]
) -> Float[Tensor, "least most"]:
    """Return about UVᵀ of x = USVᵀ, with singular values near 1: x ← ax + (bxxᵀ + c(xxᵀ)²)x."""
    a, b, c = settings["ns_coefficients"]
    x = x / x.norm().clamp(min=settings["eps"])  # the largest singular value is at most 1
    for _ in range(settings["ns_steps"]):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def scale(shape: torch.Size, rule: str) -> float:
    """Return the size of a step of unit learning rate: see `muon_scale` in `LoopConfig`."""
    rows, columns = shape
    if rule == "original":
        return math.sqrt(max(1, rows / columns))
    assert rule == "match_rms_adamw"
    return 0.2 * math.sqrt(max(rows, columns))


def make_muon(matrices: list[nn.Parameter], config: LoopConfig) -> Muon:
    """Return Muon with the settings of a run; an "auto" dtype is the device's."""
    return Muon(
        matrices,
        getattr(torch, choose_dtype(config.muon_dtype, matrices[0].device)),
        lr=config.muon_lr,
        momentum=config.muon_momentum,
        weight_decay=config.muon_weight_decay,
        ns_steps=config.muon_ns_steps,
        adjust_lr_fn=config.muon_scale,
    )


class Lion(Averaging):
    """θ ← θ(1 - lr·wd) - lr·sign(lerp(m, g, 1-β1));  m ← lerp(m, g, 1-β2)

    Source: Chen et al. 2023 (arXiv 2302.06675), algorithm 2.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        assert closure is None
        for group, params, grads, (momenta,) in self.learning("momentum"):
            beta1, beta2 = group["betas"]
            directions = torch._foreach_lerp(momenta, grads, 1 - beta1)
            torch._foreach_sign_(directions)
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(params, directions, alpha=-group["lr"])
            torch._foreach_lerp_(momenta, grads, 1 - beta2)
