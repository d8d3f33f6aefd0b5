"""Embedding tables: a dense one, and a sparse one that trains only the rows of a batch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ostinato.layers.initialization import truncated_normal_


class Embedding(nn.Module):
    """Look up rows in `dtype`, with fp32 master weights that start truncated normal, std `std`."""

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
    """Keep one row per puzzle, outside the dense optimiser and the EMA; rows start at zero.

    The table is a buffer, because a batch touches few of possibly hundreds of thousands of rows.
    Training copies those rows (`copy_rows`) and takes the gradient of the copies;
    `ostinato.training.optimizers.SparseSignSGD` then updates only them. Evaluation reads the table.

    Source: HRM, `models/sparse_embedding.py`.
    """

    weights: Float[Tensor, "rows dim"]

    def __init__(self, num_rows: int, dim: int):
        super().__init__()
        self.register_buffer("weights", torch.zeros(num_rows, dim))

    def copy_rows(self, ids: Int[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        """Copy the rows `ids` into a leaf tensor, whose `.grad` the sparse optimiser reads."""
        return self.weights[ids].requires_grad_()

    def forward(self, ids: Int[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        return self.weights[ids]
