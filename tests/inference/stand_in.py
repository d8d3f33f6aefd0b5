"""A model that is right: it looks the answer up, where a trained one would have to think."""

import numpy as np
import torch
from torch import Tensor

from ostinato.data import sudoku
from ostinato.models import Output, RecursiveConfig, RecursiveModel, State

SURE = 8.0


class LookUp(RecursiveModel):
    """Solves a puzzle after 1, 2 or 3 steps (see `steps_needed`); until then one cell is wrong.

    It is sure of an answer that is right, and gives up on puzzles without solution.
    """

    def __init__(self, size: int = 4, halt_max_steps: int = 4):
        self.sudoku = sudoku.Sudoku(size)
        super().__init__(
            RecursiveConfig(
                task=self.sudoku.name,
                vocab_size=self.sudoku.vocab_size,
                seq_len=self.sudoku.seq_len,
                hidden_size=4,
                num_heads=1,
                H_cycles=1,
                puzzle_emb_ndim=0,
                puzzle_emb_len=1,
                halt_max_steps=halt_max_steps,
                forward_dtype="float32",
            )
        )
        self.reset_parameters()
        self.H_init.zero_()
        self.calls = 0

    def refine(self, state: State, x: Tensor) -> State:
        raise NotImplementedError("it does not think")

    def forward(
        self,
        state: State,
        inputs: Tensor,
        puzzle_ids: Tensor,
        puzzle_rows: Tensor | None = None,
        H_cycles: int | None = None,
    ) -> tuple[State, Output]:
        self.calls += 1
        state = State(state.z_H + 1, state.z_L)  # counts the steps
        answers, sure = [], []
        for puzzle, step in zip(inputs.numpy(), state.z_H[:, 0, 0].int().tolist(), strict=True):
            solution = sudoku.solve(self.sudoku, puzzle)
            answer = puzzle if solution is None else solution.tokens.astype(np.int64)
            right = solution is not None and step >= steps_needed(puzzle)
            if solution is not None and not right:
                blank = int(np.flatnonzero(puzzle == 1)[0])
                answer[blank] = 2 + (answer[blank] - 2 + step) % self.sudoku.size
            answers.append(torch.from_numpy(answer).long())
            sure.append(SURE if right else -SURE)
        logits = torch.nn.functional.one_hot(torch.stack(answers), self.sudoku.vocab_size)
        return state, Output(logits.float(), torch.tensor(sure), None)


def steps_needed(puzzle: np.ndarray) -> int:
    """Between 1 and 3: it depends on the number of blanks alone."""
    return 1 + int((puzzle == 1).sum()) % 3
