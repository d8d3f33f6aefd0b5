"""`think()` runs a recursive model (TRM, HRM). Solving, evaluation and tests loop over it.

`think_stream()` (in `stream.py`) takes the same steps for more puzzles than fit in a batch: it
gives the place of a finished puzzle to the next one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ostinato.data.task import Task
from ostinato.data.tasks import TASKS, task_named
from ostinato.layers import REPLACE, Linear, Relaxation
from ostinato.models import Output, RecursiveModel, State


@dataclass(frozen=True)
class Step:
    """Hold the model's answer after a supervision step, or after a part of one."""

    number: float
    """Number of steps taken so far, from 1; fractional if the answer is read within a step."""
    answer: Int[Tensor, "batch seq"]
    """Most likely token of every cell."""
    q_halt: Float[Tensor, " batch"]
    """Logit that the answer is right; above 0 the model halts."""
    output: Output
    state: State
    task: str
    """Kind of puzzle, for printing; empty if the model does not say."""

    def __str__(self) -> str:
        """Draw the boards of the first few puzzles, each with the model's confidence in it."""
        batch = len(self.answer)
        lines = []
        for row, logit in enumerate(self.q_halt[:BOARDS_SHOWN]):
            which = f", puzzle {row + 1} of {batch}" if batch > 1 else ""
            lines.append(
                f"step {shortly(self.number)}{which}: {torch.sigmoid(logit).item():.0%} sure"
            )
            if self.task:
                lines.append(task_named(self.task).draw(self.answer[row].cpu().numpy()))
        if batch > BOARDS_SHOWN:
            lines.append(f"… and {batch - BOARDS_SHOWN} more")
        return "\n".join(lines)


def shortly(steps: float) -> str:
    """Format a number of steps, with one decimal if it is not whole."""
    return f"{steps:.1f}".removesuffix(".0")


BOARDS_SHOWN = 4
"""Number of puzzles of a batch that a printed step shows."""
BATCH_SIZE = 512
"""Default number of puzzles in a batch, unless a CPU's caches hold fewer."""
CACHE = 16 * 2**20
"""Limit of the widest activation of a batch on a CPU, in bytes: half of a large cache."""


def usual_batch_size(model: RecursiveModel) -> int:
    """Return the default number of puzzles in a batch, which is smaller on a CPU.

    A GPU needs many puzzles to be fast. A CPU is faster if its caches hold the activations: with 32
    puzzles it was 1.4 to 1.7 times as fast as with 512 (lab book, 2026-11-27).
    """
    if model.H_init.device.type != "cpu":
        return BATCH_SIZE
    config = model.config
    shapes = (m.weight.shape for m in model.modules() if isinstance(m, Linear))
    growth = max(outputs / inputs for outputs, inputs in shapes)
    latent = (config.prefix_len + config.seq_len) * config.hidden_size * config.dtype.itemsize
    return max(1, min(BATCH_SIZE, int(CACHE / (latent * growth))))


def think(
    model: RecursiveModel,
    puzzle: str | Int[Tensor, "batch seq"],
    puzzle_ids: Int[Tensor, " batch"] | None = None,
    max_steps: int | None = None,
    seed: int = 0,
) -> Iterator[Step]:
    """Think about a puzzle, or a batch of token rows, one supervision step at a time.

    Yields `max_steps` steps (default: as in training) without gradients; stop iterating at any
    time. `puzzle_ids` defaults to id 0 for every row. `seed` matters for models with random starts
    or noise. Raises ValueError for a puzzle that does not fit the model.
    """
    tokens = read_puzzle(model, puzzle) if isinstance(puzzle, str) else puzzle
    if max_steps is None:
        max_steps = model.config.halt_max_steps
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, not {max_steps}")
    check_tokens(model, tokens)
    device = model.H_init.device
    tokens = tokens.to(device)
    if puzzle_ids is None:
        puzzle_ids = torch.zeros(len(tokens), dtype=torch.int32)
    puzzle_ids = puzzle_ids.to(device)
    generator = torch.Generator(device).manual_seed(seed)
    random = model.config.initial_state == "random"
    state = model.initial_state(len(tokens), generator if random else None)
    relax = model.relaxation(generator)
    for number in range(1, max_steps + 1):
        step = take_step(model, state, tokens, puzzle_ids, float(number), relax=relax)
        state = step.state
        yield step


def take_step(
    model: RecursiveModel,
    state: State,
    tokens: Int[Tensor, "batch seq"],
    puzzle_ids: Int[Tensor, " batch"],
    number: float,
    H_cycles: int | None = None,
    relax: Relaxation = REPLACE,
) -> Step:
    """Continue from `state` for one supervision step, or for fewer `H_cycles`, without gradients.

    `number` is the resulting number of steps so far.
    """
    # Re-entered at every step: a generator must not disable gradients for its caller
    with torch.no_grad():
        state, output = model(state, tokens, puzzle_ids, H_cycles=H_cycles, relax=relax)
    return Step(number, output.logits.argmax(-1), output.q_halt, output, state, model.config.task)


def read_puzzle(model: RecursiveModel, text: str) -> Int[Tensor, "1 seq"]:
    """Return the tokens of a written puzzle of the kind that the model was trained on.

    Raises ValueError for any other puzzle, and for a model whose kind of puzzle is not known.
    """
    if not model.config.task:
        raise ValueError("the model does not say what its puzzles look like: give it token rows")
    task = task_named(model.config.task)
    try:
        return torch.from_numpy(task.parse(text)).to(torch.int32)[None]
    except ValueError:
        for other in TASKS.values() if task.name in TASKS else ():
            if other.seq_len != task.seq_len and _reads(other, text):
                raise ValueError(
                    f"a puzzle of {other.seq_len} characters is a {other.name}, the model was "
                    f"trained on {task.name} ({task.seq_len} characters): "
                    "give a puzzle or a model that fits"
                ) from None
        raise


def _reads(task: Task, text: str) -> bool:
    """Tell whether a text is a puzzle of that kind."""
    try:
        task.parse(text)
    except ValueError:
        return False
    return True


def check_tokens(model: RecursiveModel, tokens: Int[Tensor, "..."]) -> None:
    """Raise ValueError for token rows that do not fit the model."""
    seq_len, vocab_size = model.config.seq_len, model.config.vocab_size
    if tokens.ndim != 2 or tokens.shape[1] != seq_len:
        raise ValueError(
            f"the model needs token rows of shape [batch, {seq_len}], not {list(tokens.shape)}"
        )
    if tokens.numel() and not 0 <= tokens.min() <= tokens.max() < vocab_size:
        raise ValueError(
            f"the model knows the tokens 0 to {vocab_size - 1}: "
            f"{tokens.min()} to {tokens.max()} were given"
        )
