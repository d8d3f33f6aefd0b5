"""Embedding tables: a dense one, and a sparse one of which only the rows of a batch are trained."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ostinato.layers.initialization import truncated_normal_


class Embedding(nn.Module):
    """A table with fp32 master weights, looked up in `dtype`; truncated normal with std `std`."""

    weight: Float[Tensor, "rows dim"]

    def __init__(self, num_rows: int, dim: int, std: float, dtype: torch.dtype):
        super().__init__()
        self.std, self.dtype = std, dtype
        self.weight = nn.Parameter(torch.empty(num_rows, dim))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        truncated_normal_(self.weight, std=self.std, generator=generator)

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        return F.embedding(ids, self.weight.to(self.dtype))


class SparseEmbedding(nn.Module):
    """One row per puzzle, zero at the start, kept out of the dense optimiser and of the EMA.

    The table is a buffer: a batch touches a few rows of possibly hundreds of thousands, so training
    copies them (`copy_rows`), takes the gradient of the copies and lets
    `ostinato.training.optimizers.SparseSignSGD` write those rows alone. Evaluation reads the table.

    Source: HRM, `models/sparse_embedding.py`.
    """

    weights: Float[Tensor, "rows dim"]

    def __init__(self, num_rows: int, dim: int):
        super().__init__()
        self.register_buffer("weights", torch.zeros(num_rows, dim))

    def copy_rows(self, ids: Int[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        """A copy of the rows `ids` as a leaf whose `.grad` the sparse optimiser reads."""
        return self.weights[ids].requires_grad_()

    def forward(self, ids: Int[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        return self.weights[ids]
