"""Which weights are trained by what; AdamATan2 and the sparse sign-SGD in plain PyTorch.

The package that the originals use for the first needs a CUDA build; the second exists nowhere else.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim import Optimizer

from ostinato.layers import SparseEmbedding
from ostinato.models import RecursiveModel
from ostinato.training.config import TrainingConfig
from ostinato.training.muon import make_muon


def make_optimizers(model: RecursiveModel, config: TrainingConfig) -> list[Optimizer]:
    """The optimisers of the dense weights.

    By role, not by shape: with Muon, the matrices of the reasoning modules get Muon, and embeddings
    and heads AdamW.
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


class AdamATan2(Optimizer):
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
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            for p in params:
                if not self.state[p]:
                    self.state[p]["exp_avg"] = torch.zeros_like(p)
                    self.state[p]["exp_avg_sq"] = torch.zeros_like(p)
            m = [self.state[p]["exp_avg"] for p in params]
            v = [self.state[p]["exp_avg_sq"] for p in params]
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
