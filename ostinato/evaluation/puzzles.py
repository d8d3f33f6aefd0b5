"""How well a recursive model solves a split: accuracy with its uncertainty, by step and by rating."""

import math
import time
from dataclasses import dataclass

import torch

from ostinato.data.batches import IGNORE_LABEL, test_batches
from ostinato.data.puzzles import PuzzleSet
from ostinato.inference.think import think
from ostinato.models import RecursiveModel


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`; accuracies are shares of 1."""

    puzzles: int
    steps: int
    """Supervision steps given to every puzzle."""
    exact_accuracy: float
    """Share of puzzles with every cell right."""
    exact_interval: tuple[float, float]
    """95 % Wilson interval of the exact accuracy."""
    cell_accuracy: float
    """Share of right cells, averaged over puzzles."""
    exact_by_step: list[float]
    """Exact accuracy of the answers after step 1, 2, …"""
    exact_by_rating: dict[str, tuple[int, float]]
    """Range of ratings → (puzzles, exact accuracy); empty if the data set has no ratings."""
    q_calibration: "Calibration"
    puzzles_per_second: float


@dataclass(frozen=True)
class Calibration:
    """Does the q head know? Counts of puzzles after the last step, by q_halt > 0 and by being right."""

    sure_right: int
    sure_wrong: int
    unsure_right: int
    unsure_wrong: int

    @property
    def precision(self) -> float:
        """Share of right answers among those with q_halt > 0 (NaN if there are none)."""
        sure = self.sure_right + self.sure_wrong
        return self.sure_right / sure if sure else math.nan

    @property
    def recall(self) -> float:
        """Share of answers with q_halt > 0 among the right ones (NaN if there are none)."""
        right = self.sure_right + self.unsure_right
        return self.sure_right / right if right else math.nan


def evaluate(
    model: RecursiveModel,
    puzzles: PuzzleSet,
    batch_size: int = 512,
    max_steps: int | None = None,
) -> Evaluation:
    """Give every puzzle of the split `max_steps` steps (default: as many as in training).

    As in the originals nothing halts early and the answer is the one after the last step.
    """
    device = model.H_init.device
    exact_by_step, cells, confident = [], [], []
    start = time.perf_counter()
    for batch, real in test_batches(puzzles, batch_size):
        labels = batch.labels.to(device)
        valid = labels != IGNORE_LABEL
        count = valid.sum(-1)
        exact, right, step = [], None, None
        for step in think(model, batch.inputs, batch.puzzle_ids, max_steps):
            right = ((step.answer == labels) & valid).sum(-1)
            exact.append(right == count)
        assert right is not None and step is not None
        exact_by_step.append(torch.stack(exact)[:, :real].cpu())
        cells.append((right / count.clamp(min=1))[:real].cpu())
        confident.append((step.q_halt > 0)[:real].cpu())
    seconds = time.perf_counter() - start

    exact = torch.cat(exact_by_step, dim=1)
    final, sure = exact[-1], torch.cat(confident)
    return Evaluation(
        puzzles=len(final),
        steps=len(exact),
        exact_accuracy=final.double().mean().item(),
        exact_interval=wilson_interval(int(final.sum()), len(final)),
        cell_accuracy=torch.cat(cells).double().mean().item(),
        exact_by_step=exact.double().mean(1).tolist(),
        exact_by_rating=accuracy_by_rating(final, puzzles),
        q_calibration=Calibration(
            sure_right=int((sure & final).sum()),
            sure_wrong=int((sure & ~final).sum()),
            unsure_right=int((~sure & final).sum()),
            unsure_wrong=int((~sure & ~final).sum()),
        ),
        puzzles_per_second=len(final) / seconds,
    )


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % confidence interval of a proportion (Wilson 1927); sound at 0 and 1 too."""
    assert 0 <= successes <= trials and trials > 0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def accuracy_by_rating(exact: torch.Tensor, puzzles: PuzzleSet) -> dict[str, tuple[int, float]]:
    """Exact accuracy for rating 0, 1, 2, 3-4, 5-8, 9-16, …: each range twice as wide."""
    if puzzles.ratings is None:
        return {}
    ratings = torch.from_numpy(puzzles.ratings)
    table, low, high = {}, 0, 0
    while low <= ratings.max():
        inside = (ratings >= low) & (ratings < high + 1)
        if inside.any():
            name = str(low) if low == high else f"{low}-{high}"
            table[name] = (int(inside.sum()), exact[inside].double().mean().item())
        low, high = high + 1, max(1, 2 * high)
    return table
