"""Puzzles to try a model on: those of a file, else generated ones."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

    from ostinato.models import RecursiveModel


def some_puzzles(
    model: "RecursiveModel", path: Path | None, count: int, seed: int = 0
) -> "Int[Tensor, 'puzzles seq']":
    """Return the first `count` puzzles of a file, or as many generated ones of all levels.

    A model that does not name its puzzles gets random tokens.
    """
    import torch

    from ostinato.data.puzzle_files import read_puzzles
    from ostinato.data.samples import LEVELS, sample_puzzles
    from ostinato.data.tasks import task_named
    from ostinato.inference.solve import tokens_of

    if count < 1:
        raise ValueError(f"the number of puzzles must be at least 1, not {count}")
    config = model.config
    if path is not None:
        task = task_named(config.task)
        puzzles = islice(read_puzzles(path, task.boards), count)
        rows = [tokens_of(model, puzzle) for puzzle in puzzles]
        if not rows:
            raise ValueError(f"{path} holds no puzzle: give another file")
        return torch.cat(rows)
    if not config.task:
        generator = torch.Generator().manual_seed(seed)
        shape = (count, config.seq_len)
        return torch.randint(config.vocab_size, shape, generator=generator, dtype=torch.int32)
    task = task_named(config.task)
    parts = [count // len(LEVELS) + (rank < count % len(LEVELS)) for rank in range(len(LEVELS))]
    rows = [
        torch.from_numpy(sample_puzzles(task, level, part, seed + rank))
        for rank, (level, part) in enumerate(zip(LEVELS, parts, strict=True))
        if part
    ]
    return torch.cat(rows).to(torch.int32)


def written_puzzles(model: "RecursiveModel", path: Path, most: int = 100) -> list[str]:
    """Return the first puzzles of a file, each on one line."""
    from ostinato.data.tasks import task_named

    task = task_named(model.config.task)
    return [task.format(row.numpy()) for row in some_puzzles(model, path, most)]
