"""The order of training against its rule, followed by hand; test batches against plain counting."""

from itertools import islice
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ostinato.data import batches
from ostinato.data.batches import IGNORE_LABEL, TrainingOrder, training_batches
from ostinato.data.metadata import Metadata
from ostinato.data.puzzles import PuzzleSet

SEQ = 4
VOCAB = 11


def numbered_set(groups: list[list[int]]) -> PuzzleSet:
    """A set with the given puzzle sizes. Inputs are the digits of the example's number."""
    sizes = [size for group in groups for size in group]
    numbers = np.arange(sum(sizes))
    inputs = np.stack([numbers // 10**digit % 10 for digit in range(SEQ)], axis=1).astype(np.uint8)
    return PuzzleSet.assemble(
        Metadata(vocab_size=VOCAB, seq_len=SEQ, num_puzzle_identifiers=len(sizes) + 5, pad_id=10),
        inputs,
        labels=(inputs + 1) % 10,
        puzzle_identifiers=np.arange(len(sizes)) + 5,
        puzzle_indices=np.cumsum([0, *sizes]),
        group_indices=np.cumsum([0, *map(len, groups)]),
        ratings=numbers / 7,
    )


def numbers_of(inputs: torch.Tensor) -> list[int]:
    return (inputs.numpy() @ 10 ** np.arange(SEQ)).tolist()


def owner(indices: np.ndarray, member: int) -> int:
    return next(i for i in range(len(indices) - 1) if indices[i] <= member < indices[i + 1])


sizes = st.integers(1, 4)
group_sizes = st.one_of(
    st.lists(st.lists(sizes, min_size=1, max_size=3), min_size=1, max_size=8),
    # Equal sizes take the short way to a batch.
    st.builds(
        lambda size, groups: [[size] * n for n in groups], sizes, st.lists(sizes, min_size=1)
    ),
)
seeds = st.integers(0, 2**64 - 1)


@pytest.fixture(autouse=True, scope="module", params=[1000, 20, 1])
def visits_at_once(request):
    """Also with stretches so short that batches span several of them."""
    with mock.patch.object(batches, "_VISITS_AT_ONCE", request.param):
        yield


@given(group_sizes, st.integers(1, 12), seeds)
def test_order_follows_the_rule(groups: list[list[int]], batch_size: int, seed: int) -> None:
    puzzles = numbered_set(groups)
    visits = []
    for examples in islice(TrainingOrder(puzzles, batch_size, seed).batches(), 12):
        assert len(examples) == batch_size
        rest = examples.tolist()
        while rest:
            puzzle = owner(puzzles.puzzle_indices, rest[0])
            held = range(puzzles.puzzle_indices[puzzle], puzzles.puzzle_indices[puzzle + 1])
            joined, rest = rest[: len(held)], rest[len(held) :]
            assert set(joined) <= set(held), "only examples of the chosen puzzle"
            assert len(set(joined)) == len(joined), "each at most once"
            assert len(joined) == len(held) or not rest, "only the end of a batch cuts a puzzle"
            visits.append(owner(puzzles.group_indices, puzzle))
    every_group = list(range(puzzles.num_groups))
    for epoch in range(0, len(visits), len(every_group)):
        seen = sorted(visits[epoch : epoch + len(every_group)])
        assert seen == every_group or (len(seen) < len(every_group) and len(set(seen)) == len(seen))


@given(group_sizes, st.integers(1, 12), seeds, st.integers(0, 30))
def test_resumed_order_equals_the_uninterrupted(
    groups: list[list[int]], batch_size: int, seed: int, start: int
) -> None:
    puzzles = numbered_set(groups)
    whole = list(islice(TrainingOrder(puzzles, batch_size, seed).batches(), start + 3))
    resumed = list(islice(TrainingOrder(puzzles, batch_size, seed).batches(start), 3))
    np.testing.assert_array_equal(resumed, whole[start:])


@given(group_sizes, st.integers(1, 4), st.integers(1, 4), seeds, st.integers(0, 5))
def test_ranks_share_the_global_batch(
    groups: list[list[int]], local: int, world_size: int, seed: int, start: int
) -> None:
    puzzles = numbered_set(groups)
    order = TrainingOrder(puzzles, local * world_size, seed).batches(start)
    ranks = [
        training_batches(puzzles, local * world_size, seed, start, rank, world_size)
        for rank in range(world_size)
    ]
    for _ in range(3):
        expected = next(order).tolist()
        shares = [next(rank) for rank in ranks]
        assert all(len(share.inputs) == local for share in shares)
        assert numbers_of(torch.cat([share.inputs for share in shares])) == expected
        for share, first in zip(shares, range(0, len(expected), local), strict=True):
            examples = expected[first : first + local]
            owners = [owner(puzzles.puzzle_indices, example) for example in examples]
            assert share.puzzle_ids.tolist() == puzzles.puzzle_identifiers[owners].tolist()
            labels = np.where(
                puzzles.labels[examples] == 0, -100, puzzles.labels[examples].astype(int)
            )
            np.testing.assert_array_equal(share.labels, labels)
            assert {tensor.dtype for tensor in share} == {torch.int32}


def test_choices_are_uniform() -> None:
    """Variant of a group, first group of an epoch, and which examples a full batch takes."""
    puzzles = numbered_set([[1, 1, 1, 1], [3, 3, 3, 3]])
    batches_of_two = islice(TrainingOrder(puzzles, 2, seed=1).batches(), 6000)
    pairs = [tuple(batch.tolist()) for batch in batches_of_two]
    # A batch is two singles (end and begin of epochs), a single and one of three, or two of three.
    singles = np.array([sum(example < 4 for example in pair) for pair in pairs])
    for kind, variants in ((2, 4 * 4), (1, 4 * 12), (0, 4 * 3 * 2)):
        counts = np.unique(np.array(pairs)[singles == kind], axis=0, return_counts=True)[1]
        assert len(counts) == variants
        expected = counts.sum() / variants
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert chi_square < 2.5 * variants, "99.9 % of uniform draws stay below"


def test_order_depends_on_the_seed() -> None:
    puzzles = numbered_set([[1]] * 50)
    first, second = (next(TrainingOrder(puzzles, 50, seed).batches()).tolist() for seed in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)


@given(group_sizes, st.integers(1, 12), st.integers(1, 5))
def test_test_batches_count_every_example_once(
    groups: list[list[int]], batch_size: int, world_size: int
) -> None:
    puzzles = numbered_set(groups)
    ranks = [
        list(batches.test_batches(puzzles, batch_size, r, world_size)) for r in range(world_size)
    ]
    assert len({len(rank) for rank in ranks}) == 1, "every rank takes part in every batch"
    seen = []
    for step in zip(*ranks, strict=True):
        for batch, real in step:
            assert [len(tensor) for tensor in batch] == [batch_size] * 3
            assert {tensor.dtype for tensor in batch} == {torch.int32}
            numbers = numbers_of(batch.inputs[:real])
            owners = [owner(puzzles.puzzle_indices, number) for number in numbers]
            assert batch.puzzle_ids[:real].tolist() == puzzles.puzzle_identifiers[owners].tolist()
            assert (batch.inputs[real:] == puzzles.metadata.pad_id).all()
            assert (batch.labels[real:] == IGNORE_LABEL).all()
            assert (batch.puzzle_ids[real:] == puzzles.metadata.blank_identifier_id).all()
            seen += numbers
    assert seen == list(range(len(puzzles)))


def test_batch_sizes_that_cannot_be_are_refused() -> None:
    puzzles = numbered_set([[1]])
    for arguments, message in (
        ({"global_batch_size": 10, "seed": 0, "world_size": 4}, "not divisible by 4 .* use 12"),
        ({"global_batch_size": 0, "seed": 0}, "batch size 0"),
        ({"global_batch_size": 4, "seed": 0, "rank": 2, "world_size": 2}, "rank 2"),
        ({"global_batch_size": 4, "seed": -1}, "seed -1"),
        ({"global_batch_size": 4, "seed": 0, "start": -1}, "first batch -1"),
    ):
        with pytest.raises(ValueError, match=message):
            training_batches(puzzles, **arguments)
    with pytest.raises(ValueError, match="rank -1"):
        batches.test_batches(puzzles, 4, rank=-1)
