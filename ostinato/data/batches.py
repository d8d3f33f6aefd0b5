"""The order of training examples, and batches of training and test.

An epoch visits every group once, in random order, and takes one random variant of each. The
variant's examples join the global batch in random order. Examples that no longer fit are dropped,
and the next batch begins with the next group. Epochs follow each other without a gap, so a batch
may hold the end of one and the beginning of the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int32, Int64
from torch import Tensor
from torch.nn.functional import pad

from ostinato.data.metadata import Metadata
from ostinato.data.puzzles import PuzzleSet

IGNORE_LABEL = -100
"""Label of a position that loss and scores ignore (cross-entropy's default in torch)."""


class Batch(NamedTuple):
    """Hold a batch of examples."""

    inputs: Int32[Tensor, "batch seq"]
    labels: Int32[Tensor, "batch seq"]
    """`IGNORE_LABEL` where a position is not supervised."""
    puzzle_ids: Int32[Tensor, " batch"]


def training_batches(
    puzzles: PuzzleSet,
    global_batch_size: int,
    seed: int,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Yield this rank's share of the global batches `start`, `start + 1`, … without end.

    A run that has consumed n batches resumes exactly with `start=n`. The order (`TrainingOrder`) is
    the same on every rank; rank r takes the r-th contiguous slice of each global batch. Raises
    ValueError if the sizes do not fit each other.
    """
    _check_sizes(global_batch_size, rank, world_size)
    if global_batch_size % world_size:
        raise ValueError(
            f"global batch size {global_batch_size} is not divisible by {world_size} processes; "
            f"use {-(-global_batch_size // world_size) * world_size}"
        )
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed {seed} is out of range; use 0 to 2^64 - 1")
    if start < 0:
        raise ValueError(f"first batch {start} is negative; count from 0")
    local = global_batch_size // world_size
    share = slice(rank * local, (rank + 1) * local)
    order = TrainingOrder(puzzles, global_batch_size, seed)
    return (_gather(puzzles, examples[share]) for examples in order.batches(start))


def test_batches(
    puzzles: PuzzleSet, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[tuple[Batch, int]]:
    """Yield this rank's share of all examples in order, with the number of real rows in each batch.

    A global batch is `world_size` batches of `batch_size` rows, rank after rank. Every rank gets
    the same number of batches: the last ones are filled up, on some ranks entirely, with rows of
    pads, ignored labels and the blank id. Raises ValueError if the sizes are impossible.
    """
    _check_sizes(batch_size, rank, world_size)
    stride = world_size * batch_size

    def batches() -> Iterator[tuple[Batch, int]]:
        for begin in range(rank * batch_size, len(puzzles) + rank * batch_size, stride):
            examples = np.arange(begin, min(begin + batch_size, len(puzzles)))
            yield _pad(_gather(puzzles, examples), batch_size, puzzles.metadata), len(examples)

    return batches()


@dataclass(frozen=True)
class TrainingOrder:
    """Order the training examples, as a function of the data, the batch size and the seed.

    Randomness is drawn for a stretch of epochs at a time, by a generator keyed with (seed, number
    of the stretch). Batches begin where the sizes of the chosen puzzles say. If all puzzles have
    the same size, the order can start at any batch directly. Otherwise the groups before that batch
    are counted through, about 10 million per second.
    """

    puzzles: PuzzleSet
    global_batch_size: int
    seed: int

    def batches(self, start: int = 0) -> Iterator[Int64[np.ndarray, " global_batch"]]:
        """Yield the example numbers of the batches `start`, `start + 1`, … without end."""
        sizes = np.diff(self.puzzles.puzzle_indices)
        if sizes.min() == sizes.max():
            groups_per_batch = -(-self.global_batch_size // int(sizes[0]))
            pieces = self._pieces(start * groups_per_batch)
        else:
            pieces = islice(self._pieces(), start, None)
        for batch in pieces:
            yield np.concatenate([stretch.examples(*places) for stretch, places in batch])

    def _pieces(self, visit: int = 0) -> Iterator[list[tuple[_Stretch, tuple[int, int]]]]:
        """Yield each batch as places in stretches; the first begins at the given group visit."""
        epochs = max(1, _VISITS_AT_ONCE // self.puzzles.num_groups)
        number, visit = divmod(visit, epochs * self.puzzles.num_groups)
        stretch = _Stretch(self.puzzles, epochs, self.seed, number)
        begin = int(stretch.bounds[visit])
        while True:
            batch, missing = [], self.global_batch_size
            while missing:
                if begin == stretch.num_examples:
                    number, begin = number + 1, 0
                    stretch = _Stretch(self.puzzles, epochs, self.seed, number)
                end = min(begin + missing, stretch.num_examples)
                batch.append((stretch, (begin, end)))
                missing -= end - begin
                begin = int(stretch.bounds[stretch.bounds.searchsorted(end)])
            yield batch


_VISITS_AT_ONCE = 2**15
"""Group visits that are drawn together. That is enough to hide the overhead of a numpy call (which
exceeds the drawing itself for the 960 groups of ARC), and still takes a few milliseconds."""


class _Stretch:
    """Draw a few epochs in a row: a random variant of every group, the groups in random order."""

    bounds: Int64[np.ndarray, " visits_plus_1"]
    """Start of each visit's examples in the stretch, then the end of the last."""

    def __init__(self, puzzles: PuzzleSet, epochs: int, seed: int, number: int) -> None:
        self._rng = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
        in_order = np.tile(np.arange(puzzles.num_groups), (epochs, 1))
        groups = self._rng.permuted(in_order, axis=1).ravel()
        # A scaled uniform number: integers() with an array of bounds takes four times as long.
        variants = puzzles.group_indices[groups + 1] - puzzles.group_indices[groups]
        variant = (self._rng.random(len(groups)) * variants).astype(np.int64)
        chosen = puzzles.group_indices[groups] + variant
        self._first = puzzles.puzzle_indices[chosen].astype(np.int64)
        sizes = puzzles.puzzle_indices[chosen + 1] - self._first
        self.bounds = np.concatenate([[0], np.cumsum(sizes)])
        self.num_examples = int(self.bounds[-1])

    def examples(self, begin: int, end: int) -> Int64[np.ndarray, " places"]:
        """Return the example numbers of the given places: visit by visit, each in random order.

        `begin` must be in `bounds`. If `end` is not, the last visit gives a random selection of its
        puzzle's examples.
        """
        visits = slice(*self.bounds.searchsorted([begin, end]))
        sizes = np.diff(self.bounds[visits.start : visits.stop + 1])
        keys = self._keys[begin : begin + sizes.sum()]
        shift = np.repeat(self._first[visits] - self.bounds[visits], sizes)
        in_order = np.arange(begin, begin + len(keys)) + shift
        visit = np.repeat(np.arange(len(sizes)), sizes)
        return in_order[np.lexsort((keys, visit))][: end - begin]

    @cached_property
    def _keys(self) -> Float64[np.ndarray, " examples"]:
        """Draw sort keys, which put a puzzle's examples in random order."""
        return self._rng.random(self.num_examples)


def _gather(puzzles: PuzzleSet, examples: Int64[np.ndarray, " batch"]) -> Batch:
    labels = puzzles.labels[examples].astype(np.int32)
    if puzzles.metadata.ignore_label_id is not None:
        labels[labels == puzzles.metadata.ignore_label_id] = IGNORE_LABEL
    # With equal dtypes searchsorted does not convert the whole array, a million long, each time.
    examples = examples.astype(puzzles.puzzle_indices.dtype)
    owners = np.searchsorted(puzzles.puzzle_indices, examples, side="right") - 1
    return Batch(
        inputs=torch.from_numpy(puzzles.inputs[examples].astype(np.int32)),
        labels=torch.from_numpy(labels),
        puzzle_ids=torch.from_numpy(puzzles.puzzle_identifiers[owners]),
    )


def _pad(batch: Batch, num_rows: int, metadata: Metadata) -> Batch:
    missing = num_rows - len(batch.inputs)
    return Batch(
        inputs=pad(batch.inputs, (0, 0, 0, missing), value=metadata.pad_id),
        labels=pad(batch.labels, (0, 0, 0, missing), value=IGNORE_LABEL),
        puzzle_ids=pad(batch.puzzle_ids, (0, missing), value=metadata.blank_identifier_id),
    )


def _check_sizes(batch_size: int, rank: int, world_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch size {batch_size} is too small; use at least 1")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} is not one of {world_size} processes; count from 0")
