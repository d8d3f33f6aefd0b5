"""Define `Group`, the symmetries of a kind of puzzle, to draw at random and to find copies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, Integer, UInt64
from torch import Generator

from ostinato.data.symmetries import Symmetries


@dataclass(frozen=True, eq=False)
class Group:
    """Hold moves of the cells, and groups of tokens that may be renamed in any way."""

    moves: Int64[np.ndarray, "moves cells"]
    """For each move, the cell whose content each cell then shows."""
    renames: Int64[np.ndarray, "moves vocab"]
    """For each move, the new name that it gives to each token."""
    free: tuple[tuple[int, ...], ...] = ()
    """Groups of tokens that may swap their names among themselves."""

    @classmethod
    def of_moves(
        cls, moves: Integer[np.ndarray, "moves cells"], vocab_size: int, *free: tuple[int, ...]
    ) -> Group:
        """Return the group of moves that leave the tokens' names alone."""
        return cls(moves, np.tile(np.arange(vocab_size), (len(moves), 1)), free)

    def draw(self, batch: int, generator: Generator) -> Symmetries:
        """Draw a symmetry for every row, all equally often, on the generator's device."""
        device = generator.device
        numbers = torch.randint(len(self.moves), (batch,), generator=generator, device=device)
        names = torch.from_numpy(self.renames).to(device)[numbers]
        for group in self.free:
            tokens = torch.tensor(group, device=device)
            order = torch.rand(batch, len(group), generator=generator, device=device).argsort(1)
            others = torch.arange(names.shape[1], device=device).repeat(batch, 1)
            others[:, tokens] = tokens[order]
            names = others.gather(1, names)
        return Symmetries(torch.from_numpy(self.moves).to(device)[numbers], names)

    def signatures(self, boards: Integer[np.ndarray, "rows cells"]) -> UInt64[np.ndarray, " rows"]:
        """Hash the least image of each board, which symmetric copies share."""
        rows = np.arange(len(self.moves))[:, None]
        renames = self.renames.astype(boards.dtype)
        return hashes(
            min(self.in_order(image).tobytes() for image in renames[rows, board[self.moves]])
            for board in boards
        )

    def in_order(self, board: Integer[np.ndarray, " cells"]) -> Integer[np.ndarray, " cells"]:
        """Rename the free tokens in the order in which they come first."""
        if not self.free:
            return board
        names = np.arange(self.renames.shape[1], dtype=board.dtype)
        seen = dict.fromkeys(board.tolist())
        for group in self.free:
            order = [token for token in seen if token in group]
            order += [token for token in group if token not in seen]
            names[order] = sorted(group)
        return names[board]


def hashes(contents: Iterable[bytes]) -> UInt64[np.ndarray, " rows"]:
    """Hash each content to 64 bits."""
    digests = b"".join(hashlib.blake2b(content, digest_size=8).digest() for content in contents)
    return np.frombuffer(digests, np.uint64)
