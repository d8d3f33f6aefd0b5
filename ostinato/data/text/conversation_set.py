"""Hold a split of conversations as tokens, and pack whole conversations into windows."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64

from ostinato.data.text.hops import ExpressionSet
from ostinato.data.text.template import answers, turns
from ostinato.data.text.token_set import IGNORE_LABEL, TokenSet, Windows, read_facts


def load_texts(folder: Path, split: str) -> TokenSet:
    """Load a split of a data set of texts, conversations or expressions; see `TokenSet.load`."""
    facts = read_facts(folder, split)
    if facts.scored_behind:
        return ExpressionSet.load(folder, split)
    return (ConversationSet if facts.conversations else TokenSet).load(folder, split)


class ConversationSet(TokenSet):
    """Hold conversations, each behind its separator; only what the assistant says is scored."""

    @property
    def scored(self) -> Bool[np.ndarray, " tokens"]:
        """Mark the tokens that the assistant says."""
        return answers(self.tokens, self.tokenizer)

    @property
    def num_scored(self) -> int:
        return int(self.scored.sum())

    @property
    def scored_bytes(self) -> int:
        sizes = self.bytes_of_tokens().numpy()
        return int(sizes[self.tokens[self.scored].astype(np.int64)].sum())

    def check_length(self, length: int) -> None:
        longest = int(self.lengths().max())
        assert longest <= length + 1, "conversations are cut to the windows when they are built"

    def lengths(self) -> Int64[np.ndarray, " conversations"]:
        """Return the number of tokens of each conversation, its separator included."""
        return np.diff(self.documents, append=len(self.tokens))

    def exchanges(self) -> Iterator[tuple[list[int], list[int]]]:
        """Yield the tokens before the last answer of each conversation, and those of the answer."""
        for begin, size in zip(self.documents - 1, self.lengths(), strict=True):
            tokens = np.asarray(self.tokens[begin : begin + size])
            *_, (start, end) = turns(tokens, self.tokenizer)
            yield tokens[:start].tolist(), tokens[start:end].tolist()

    def batches(self, length: int, size: int, seed: int = 0, start: int = 0) -> Iterator[Windows]:
        """Yield batches of packed windows, from window `start` on, without end.

        Each epoch packs the conversations anew, in random order, so that every one of them comes
        to stand at the beginning of a window at times.
        """
        number, waiting = 0, self.epoch(length, seed, 0)
        while start >= len(waiting):
            start -= len(waiting)
            number += 1
            waiting = self.epoch(length, seed, number)
        waiting = waiting[start:]
        while True:
            while len(waiting) < size:
                number += 1
                waiting += self.epoch(length, seed, number)
            yield self.packed(waiting[:size], length)
            waiting = waiting[size:]

    def epoch(self, length: int, seed: int, number: int) -> list[list[int]]:
        """Return the conversations of each window of an epoch, as a function of the seed."""
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
        order = rng.permutation(len(self.documents)).tolist()
        windows = best_fit(order, self.lengths().tolist(), length + 1)
        return [windows[place] for place in rng.permutation(len(windows)).tolist()]

    def packed(self, windows: list[list[int]], length: int) -> Windows:
        """Return windows of `length` + 1 tokens, and the labels of all but the first."""
        rows = np.full((len(windows), length + 1), self.tokenizer.separator, np.int64)
        lengths = self.lengths()
        for row, window in zip(rows, windows, strict=True):
            parts = [self.tokens[(at := self.documents[n] - 1) : at + lengths[n]] for n in window]
            row[: sum(map(len, parts))] = np.concatenate(parts)
        marked = answers(rows.ravel(), self.tokenizer).reshape(rows.shape)
        labels = np.where(marked, rows, IGNORE_LABEL)[:, 1:]
        return torch.from_numpy(rows), torch.from_numpy(labels)

    def evaluation(
        self, length: int, context: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Windows]:
        """Yield every conversation once, packed in their order; `context` has no use here."""
        order = list(range(len(self.documents)))
        mine = best_fit(order, self.lengths().tolist(), length + 1)[rank::world_size]
        for first in range(0, len(mine), batch_size):
            windows, labels = self.packed(mine[first : first + batch_size], length)
            yield windows[:, :-1], labels


def best_fit(order: list[int], lengths: list[int], capacity: int) -> list[list[int]]:
    """Pack items, in this order, each into the fullest window with room for it, else a new one."""
    windows: list[list[int]] = []
    room: list[tuple[int, int]] = []
    for item in order:
        place = bisect_left(room, (lengths[item], -1))
        left, window = room.pop(place) if place < len(room) else (capacity, len(windows))
        if window == len(windows):
            windows.append([])
        windows[window].append(item)
        insort(room, (left - lengths[item], window))
    return windows
