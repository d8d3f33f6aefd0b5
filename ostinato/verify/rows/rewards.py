"""Rewards: the estimators of MaxRL and REINFORCE, exactly, and the reward of mazes."""

from itertools import product

import numpy as np
import torch

from ostinato.data.maze import generate, shortest_path
from ostinato.data.prompts.maze import MazeTask, is_walk, moves_along, read_maze, write_maze
from ostinato.data.prompts.task import Prompt
from ostinato.training.config import Estimator
from ostinato.training.policy import advantages
from ostinato.verify.check import check

TITLE = "Rewards"
CHANCES = (0.02, 0.3, 0.5, 0.95)


def mean_gradient(samples: int, p: float, estimator: Estimator) -> float:
    """Return E[Σ A_i ∂log π(y_i)/∂p] / N over all outcomes of `samples` draws with chance p."""
    total = 0.0
    for outcome in product((0.0, 1.0), repeat=samples):
        weights = advantages(torch.tensor([outcome], dtype=torch.float64), estimator)[0]
        chance = p ** sum(outcome) * (1 - p) ** (samples - sum(outcome))
        slopes = torch.tensor([1 / p if right else -1 / (1 - p) for right in outcome])
        total += chance * float((weights * slopes.double()).sum()) / samples
    return total


@check("MaxRL", "003", "the mean estimate is d/dp of -Σ_{k<N} (1-p)^k / k", 1e-6)
def maxrl() -> float:
    """All outcomes of 2, 3 and 5 samples, at four chances of being right."""
    return max(
        abs(mean_gradient(n, p, "maxrl") - sum((1 - p) ** (k - 1) for k in range(1, n)))
        for n in (2, 3, 5)
        for p in CHANCES
    )


@check("REINFORCE", "003", "with the mean as baseline, the mean estimate is (N-1)/N", 1e-6)
def reinforce() -> float:
    """All outcomes of 2, 3 and 5 samples, at four chances of being right."""
    return max(
        abs(mean_gradient(n, p, "reinforce") - (n - 1) / n) for n in (2, 3, 5) for p in CHANCES
    )


@check("Mazes as text", "003", "only a walk from START to GOAL, then DONE, earns the reward")
def mazes() -> float:
    """The shortest path, and it cut short, through a wall, without DONE, in twenty mazes."""
    task, wrong = MazeTask(7), 0
    for cells in generate(task.maze, 20, 4, np.random.default_rng(0), perfect=True):
        path = shortest_path(cells)
        assert path is not None
        board, moves = cells.reshape(7, 7), moves_along(path, 7)
        prompt = Prompt(write_maze(board))
        wrong += not np.array_equal(read_maze(prompt.text), board)
        wrong += not task.is_right(prompt, f"{moves} DONE")
        wrong += task.is_right(prompt, moves) + task.is_right(prompt, f"{moves} UP")
        wrong += task.is_right(prompt, f"{moves[:-5]} DONE")
        wrong += is_walk(board, [*["UP"] * 7, *["DOWN"] * 7, *moves.split()])
    return float(wrong)
