"""`think()`: the one way to run a recursive model. Solving, evaluation and tests all loop over it."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ostinato.data.tasks import task_named
from ostinato.models import Output, RecursiveModel, State


@dataclass(frozen=True)
class Step:
    """What the model holds to be the answer after one supervision step."""

    number: int
    """Steps taken so far, from 1."""
    answer: Int[Tensor, "batch seq"]
    """The most likely token of every cell."""
    q_halt: Float[Tensor, " batch"]
    """Above 0: the model takes its answer for right."""
    output: Output
    state: State
    task: str
    """Kind of puzzle, for printing; empty if the model does not say."""

    def __str__(self) -> str:
        confidence = ", ".join(f"{p:.0%}" for p in torch.sigmoid(self.q_halt[:8]).tolist())
        lines = [f"step {self.number}, sure of being right: {confidence}"]
        if self.task:
            lines += [task_named(self.task).draw(row) for row in self.answer.cpu().numpy()]
        return "\n".join(lines)


def think(
    model: RecursiveModel,
    puzzle: str | Int[Tensor, "batch seq"],
    puzzle_ids: Int[Tensor, " batch"] | None = None,
    max_steps: int | None = None,
) -> Iterator[Step]:
    """Think about a puzzle, or a batch of token rows, one supervision step at a time.

    Yields `max_steps` steps (by default as many as the model was trained with); stop iterating when
    you have seen enough. `puzzle_ids` defaults to id 0 for every row. Without gradients.
    Raises ValueError for a puzzle that does not fit the model.
    """
    tokens = read_puzzle(model, puzzle) if isinstance(puzzle, str) else puzzle
    if max_steps is None:
        max_steps = model.config.halt_max_steps
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, not {max_steps}")
    device = model.H_init.device
    tokens = tokens.to(device)
    if puzzle_ids is None:
        puzzle_ids = torch.zeros(len(tokens), dtype=torch.int32)
    puzzle_ids = puzzle_ids.to(device)
    state = model.initial_state(len(tokens))
    for number in range(1, max_steps + 1):
        # Entered anew at every step: a generator must not leave its caller without gradients
        with torch.no_grad():
            state, output = model(state, tokens, puzzle_ids)
        yield Step(
            number, output.logits.argmax(-1), output.q_halt, output, state, model.config.task
        )


def read_puzzle(model: RecursiveModel, text: str) -> Int[Tensor, "1 seq"]:
    """Tokens of a written puzzle of the kind the model was trained on."""
    if not model.config.task:
        raise ValueError("the model does not say what its puzzles look like: give it token rows")
    return torch.from_numpy(task_named(model.config.task).parse(text)).to(torch.int32)[None]
