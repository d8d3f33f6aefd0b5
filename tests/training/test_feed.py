"""Slots are given what a queue kept by hand holds."""

from itertools import count

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.data.batches import Batch
from ostinato.training import feed
from ostinato.training.distributed import World
from ostinato.training.feed import AlignedFeed, StreamFeed

SIZE, CPU = 4, torch.device("cpu")


def numbered_batches(start: int = 0):
    """Batches of which every row is its own number."""
    for number in count(start):
        rows = torch.arange(number * SIZE, (number + 1) * SIZE, dtype=torch.int32)
        yield Batch(rows[:, None], -rows[:, None], rows)


def test_aligned_rows_come_at_their_places():
    aligned = AlignedFeed(numbered_batches(), CPU)
    for number in range(3):
        batch = aligned.next(torch.tensor([True, False, True, False]))
        assert batch.puzzle_ids.tolist() == list(range(number * SIZE, (number + 1) * SIZE))
    assert aligned.taken == 0


halts = st.lists(st.lists(st.booleans(), min_size=SIZE, max_size=SIZE), min_size=1, max_size=40)


@given(halts, st.integers(0, 30), st.integers(1, 3))
@settings(max_examples=60)
def test_a_stream_leaves_no_row_out_and_goes_on_where_it_was(halts, stop, held):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "BATCHES_HELD", held)
        stream, expected = StreamFeed(numbered_batches(), World(), CPU), 0
        for step, halted in enumerate(halts):
            if step == stop:
                taken = stream.taken
                assert taken == expected
                stream = StreamFeed(numbered_batches(taken // SIZE), World(), CPU, taken)
            batch = stream.next(torch.tensor(halted))
            for place, new in enumerate(halted):
                if new:
                    row = [t[place].item() for t in (batch.inputs, batch.labels, batch.puzzle_ids)]
                    assert row == [expected, -expected, expected]
                    expected += 1
        assert stream.taken == expected


class Halves(World):
    """Rank 0 of two, beside a rank whose slots have all halted."""

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows, torch.ones_like(rows)])


def test_ranks_share_one_stream():
    stream = StreamFeed(numbered_batches(), Halves(0, 2), CPU)
    batch = stream.next(torch.tensor([False, True]))
    assert batch.puzzle_ids[1:].tolist() == [0, 1, 2]
    assert stream.taken == 3
