"""A kind of puzzle may measure more than exactness: mazes, with answers that are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ostinato.data.maze import Maze
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.sudoku import Sudoku, generate
from ostinato.evaluation.puzzles import Score, evaluate, wilson_interval
from ostinato.models import Output, State
from tests.inference.stand_in import StandIn

MAZE = Maze(3)
QUESTION = "S.......G"
LABEL = "S..o..ooG"
ANSWERS = (
    LABEL,
    "Soo..o..G",  # another shortest path
    "So..oo..G",  # and a third
    "S........",  # no goal
    "SooooooGo",  # another maze
)


class Known(StandIn):
    """Gives the puzzle with id n its n-th answer."""

    def __init__(self, task: str, answers: Tensor):
        super().__init__(task, 6, answers.shape[1], 2, num_puzzle_identifiers=len(answers))
        self.answers = answers.long()

    def reply(self, state: State, inputs: Tensor, puzzle_ids: Tensor) -> Output:
        logits = torch.nn.functional.one_hot(self.answers[puzzle_ids.long()], 6).float()
        return Output(logits, torch.zeros(len(inputs)), None)


def tokens(texts) -> np.ndarray:
    return np.stack([MAZE.tokens(text, "#.SGo") for text in texts])


@pytest.fixture
def puzzles() -> PuzzleSet:
    """The same maze with a different id, and so another answer, each time."""
    count = len(ANSWERS)
    plain = PuzzleSet.of_examples(
        MAZE.name, tokens([QUESTION] * count), tokens([LABEL] * count), MAZE.vocab_size
    )
    return PuzzleSet.assemble(
        replace(plain.metadata, num_puzzle_identifiers=count),
        plain.inputs,
        plain.labels,
        np.arange(count),
        plain.puzzle_indices,
        plain.group_indices,
    )


@pytest.fixture
def model() -> Known:
    return Known(MAZE.name, torch.from_numpy(tokens(ANSWERS)))


@pytest.mark.parametrize("batch_size", [1, 3, 512])
def test_any_shortest_path_counts_and_exactness_is_apart(model, puzzles, batch_size):
    result = evaluate(model, puzzles, batch_size)
    assert result.exact_accuracy == pytest.approx(1 / 5)
    assert result.scores == {
        name: Score(0.6, wilson_interval(0.6, 5)) for name in ("valid_path", "shortest_path")
    }


def test_data_without_a_name_are_scored_by_the_models(model, puzzles):
    nameless = replace(puzzles, metadata=replace(puzzles.metadata, task=""))
    assert evaluate(model, nameless).scores["shortest_path"].share == pytest.approx(0.6)


def test_ranks_bring_their_answers_together(model, puzzles):
    """Three ranks, one of them without a puzzle of its own in the last round."""
    told: list[list[Tensor]] = []
    for rank in range(3):
        shares: list[Tensor] = []

        def keep(tensor: Tensor, shares: list[Tensor] = shares) -> Tensor:
            shares.append(tensor.clone())
            return torch.ones_like(tensor)

        evaluate(model, puzzles, 1, rank=rank, world_size=3, sum_over_ranks=keep)
        told.append(shares)
    sums = iter([sum(parts[1:], parts[0]) for parts in zip(*told, strict=True)])
    result = evaluate(model, puzzles, 1, rank=1, world_size=3, sum_over_ranks=lambda _: next(sums))
    alone = evaluate(model, puzzles, 1)
    assert result.scores == alone.scores
    assert result.exact_accuracy == alone.exact_accuracy


def test_sudokus_have_no_other_scores():
    inputs, labels = generate(Sudoku(4), 3, (5, 9), seed=0)
    model = Known("sudoku4", torch.from_numpy(labels[:1]))
    assert evaluate(model, PuzzleSet.of_examples("sudoku4", inputs, labels, 6)).scores == {}
