"""The batch as a set of slots: each holds one puzzle until the model halts on it.

One supervision step is one optimiser step, and the slots persist in between: a halted slot takes a
new puzzle and a fresh state, the others think on. All steps in one forward with one backward would
be a different algorithm.

Source: TRM and HRM, `ACTLossHead` and the `forward` of the ACT wrapper; HRM section 2.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ostinato.data.batches import Batch
from ostinato.models import Output, RecursiveConfig, RecursiveModel, State
from ostinato.models.recursive import wants_to_halt


@dataclass(frozen=True)
class Slots:
    """The slots of a batch: the puzzles, the latent state of each, and its number of steps."""

    state: State
    steps: Int[Tensor, " batch"]
    """Supervision steps taken on the current puzzle."""
    halted: Bool[Tensor, " batch"]
    inputs: Int[Tensor, "batch seq"]
    labels: Int[Tensor, "batch seq"]
    puzzle_ids: Int[Tensor, " batch"]

    @classmethod
    def empty(cls, model: RecursiveModel, batch_size: int, device: torch.device) -> "Slots":
        """Return halted slots, so that the first batch fills every one."""
        config = model.config
        tokens = torch.zeros(batch_size, config.seq_len, dtype=torch.int32, device=device)
        counts = torch.zeros(batch_size, dtype=torch.int32, device=device)
        state = State(*(z.clone() for z in model.initial_state(batch_size)))
        return cls(state, counts, torch.ones_like(counts, dtype=torch.bool), tokens, tokens, counts)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, one row per slot, for checkpoints."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**named.pop("state")._asdict(), **named}

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> "Slots":
        """Return the slots that `tensors` was called on."""
        state = State(tensors["z_H"], tensors["z_L"])
        return cls(state, **{k: v for k, v in tensors.items() if k not in State._fields})

    def split(self, count: int) -> list["Slots"]:
        """Split the slots into parts of `count`."""
        parts = {name: tensor.split(count) for name, tensor in self.tensors().items()}
        return [
            Slots.of_tensors(dict(zip(parts, part, strict=True)))
            for part in zip(*parts.values(), strict=True)
        ]

    @classmethod
    def join(cls, parts: Sequence["Slots"]) -> "Slots":
        """Join the parts that `split` returned."""
        if len(parts) == 1:
            return parts[0]
        tensors = [part.tensors() for part in parts]
        return cls.of_tensors({name: torch.cat([t[name] for t in tensors]) for name in tensors[0]})

    def refill(self, batch: Batch, initial: State) -> "Slots":
        """Fill each halted slot with the row of its index in `batch`, and restart it from
        `initial`."""
        fresh, fresh_row, fresh_cell = (self.halted.view(-1, *[1] * n) for n in (0, 1, 2))
        return Slots(
            State(
                *(
                    torch.where(fresh_cell, new, z)
                    for new, z in zip(initial, self.state, strict=True)
                )
            ),
            torch.where(fresh, 0, self.steps),
            torch.zeros_like(self.halted),
            torch.where(fresh_row, batch.inputs, self.inputs),
            torch.where(fresh_row, batch.labels, self.labels),
            torch.where(fresh, batch.puzzle_ids, self.puzzle_ids),
        )

    def advance(
        self,
        state: State,
        output: Output,
        config: RecursiveConfig,
        minimum_steps: Int[Tensor, " batch"] | int = 0,
    ) -> "Slots":
        """Count the step and decide which slots halt; none halts by q before `minimum_steps`."""
        steps = self.steps + 1
        halted = steps >= config.halt_max_steps
        if config.halt_max_steps > 1:
            halted = halted | (wants_to_halt(output, config) & (steps >= minimum_steps))
        return Slots(state, steps, halted, self.inputs, self.labels, self.puzzle_ids)


def draw_minimum_steps(
    batch_size: int, halt_max_steps: int, exploration_prob: float, generator: torch.Generator
) -> Int[Tensor, " batch"]:
    """Draw the minimum steps of exploration: with `exploration_prob` from 2…halt_max_steps, else 0.

    They are drawn anew at every step. Both draws are made for every slot, so that the random
    numbers that follow do not depend on their outcome.
    """
    device = generator.device
    explore = torch.rand(batch_size, generator=generator, device=device) < exploration_prob
    if halt_max_steps < 2:
        return torch.zeros(batch_size, dtype=torch.int32, device=device)
    minimum = torch.randint(
        2, halt_max_steps + 1, (batch_size,), generator=generator, device=device, dtype=torch.int32
    )
    return torch.where(explore, minimum, 0)


def target_q_continue(
    next_output: Output, steps: Int[Tensor, " batch"], halt_max_steps: int
) -> Float[Tensor, " batch"]:
    """Return the value of continuing: that of the best action after one more step.

    `next_output` is the model's output on the new state. At the last step only halting remains.
    """
    assert next_output.q_continue is not None
    best = torch.maximum(next_output.q_halt, next_output.q_continue)
    return torch.sigmoid(torch.where(steps >= halt_max_steps, next_output.q_halt, best))
