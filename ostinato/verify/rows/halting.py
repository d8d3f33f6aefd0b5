"""Slots: who halts when, who is replaced by whom, and the target of thinking on."""

import math
from dataclasses import replace

import numpy as np
import torch

from ostinato.data.metadata import Metadata
from ostinato.data.puzzles import PuzzleSet
from ostinato.evaluation.puzzles import evaluate
from ostinato.inference.think import think
from ostinato.models import Output, State
from ostinato.training.slots import Slots, draw_minimum_steps, target_q_continue
from ostinato.verify.check import apart, check
from ostinato.verify.specimens import BATCH, CONFIGS, MODELS, batch, some_state, specimen

TITLE = "Halting and slots"
PATTERN = torch.tensor([True, False, False, True, True, False])


def slots_in_use(name: str) -> Slots:
    """Slots in the middle of training, of which some have halted."""
    model = specimen(name)
    puzzles, steps = batch(model, seed=5), torch.tensor([4, 1, 3, 2, 4, 2], dtype=torch.int32)
    return Slots(some_state(model), steps, PATTERN, *puzzles)


@check("First call", "001 002 004", "every slot starts halted, so it takes a puzzle", 0.0, MODELS)
def first_call(name: str) -> float:
    """Differences after the first refill: examples, states, steps, halted."""
    model = specimen(name)
    puzzles = batch(model)
    slots = Slots.empty(model, BATCH, torch.device("cpu"))
    wrong = float((~slots.halted).sum())
    slots = slots.refill(puzzles, model.initial_state(1))
    taken = (slots.inputs, slots.labels, slots.puzzle_ids)
    wrong += sum(apart(ours, given) for ours, given in zip(taken, puzzles, strict=True))
    for z, start in zip(slots.state, (model.H_init, model.L_init), strict=True):
        wrong += apart(z, start.expand(z.shape))
    return wrong + apart(slots.steps, torch.zeros(BATCH)) + float(slots.halted.sum())


@check(
    "Refill", "000 002 004", "halted slots take the row of the same index and restart", 0.0, MODELS
)
def refill(name: str) -> float:
    """All that a slot holds, slot by slot, with half of them halted."""
    model, before = specimen(name), slots_in_use(name)
    new = batch(model, seed=6)
    after, wrong = before.refill(new, model.initial_state(1)), 0.0
    for slot, halted in enumerate(PATTERN.tolist()):
        source = new if halted else (before.inputs, before.labels, before.puzzle_ids)
        taken = (after.inputs, after.labels, after.puzzle_ids)
        wrong += sum(apart(a[slot], b[slot]) for a, b in zip(taken, source, strict=True))
        wrong += abs(int(after.steps[slot]) - (0 if halted else int(before.steps[slot])))
        starts = (model.H_init, model.L_init)
        for z, old, start in zip(after.state, before.state, starts, strict=True):
            wrong += apart(z[slot], start.expand(z[slot].shape) if halted else old[slot])
    return wrong


def q_of(generator: torch.Generator, count: int) -> Output:
    """Random values of halting and thinking on."""
    q = torch.randn(2, count, generator=generator, dtype=torch.float64)
    return Output(torch.zeros(count, 1, 1), q[0], q[1])


@check("Halting", "002 004", "steps ≥ max; or q_halt > 0 (with continue head: > q_continue)")
def halting() -> int:
    """Decisions that differ, over random q, all step counts and minima, 1 to 4 steps at most."""
    generator, wrong, count = torch.Generator().manual_seed(0), 0, 500
    for most in (1, 2, 4):
        for alone in (True, False):
            config = replace(CONFIGS["TRM"], halt_max_steps=most, no_ACT_continue=alone)
            output = q_of(generator, count)
            assert output.q_continue is not None
            steps = torch.randint(0, most, (count,), generator=generator, dtype=torch.int32)
            minimum = torch.randint(0, most + 1, (count,), generator=generator)
            empty = torch.zeros(count, 1)
            state = State(empty[..., None], empty[..., None])
            ids = torch.zeros(count, dtype=torch.int32)
            slots = Slots(state, steps, ids > 0, empty.int(), empty.int(), ids)
            after = slots.advance(state, output, config, minimum.int())
            wrong += int((after.steps != steps + 1).sum())
            for i in range(count):
                wished = output.q_halt[i] > (0 if alone else output.q_continue[i])
                taken = int(steps[i]) + 1
                expected = taken >= most or (most > 1 and bool(wished) and taken >= int(minimum[i]))
                wrong += bool(after.halted[i]) != expected
    return wrong


@check(
    "Exploration",
    "002 004",
    "with its probability, a minimum of steps drawn evenly from 2 to max inclusive, else 0",
    5.0,
)
def exploration() -> float:
    """Frequencies in 200,000 draws, as standard deviations from the expected ones."""
    count, worst = 200_000, 0.0
    for most, chance in ((16, 0.1), (4, 0.5), (2, 1.0)):
        generator = torch.Generator().manual_seed(most)
        drawn = draw_minimum_steps(count, most, chance, generator)
        expected = {0: 1 - chance} | dict.fromkeys(range(2, most + 1), chance / (most - 1))
        if not set(drawn.tolist()) <= set(expected):
            return math.inf
        for value, p in expected.items():
            share = (drawn == value).double().mean().item()
            worst = max(worst, abs(share - p) / max(math.sqrt(p * (1 - p) / count), 1e-9))
    return worst


@check("Evaluation", "002 004", "always max steps; the answer is the last one's", 0.0, MODELS)
def evaluation(name: str) -> float:
    """Steps too many or too few, with a q head that would halt at once."""
    model = specimen(name)
    assert model.q_head.bias is not None
    torch.nn.init.constant_(model.q_head.bias, 50.0)
    puzzles = batch(model)
    steps = list(think(model, puzzles.inputs, puzzles.puzzle_ids))
    state, output = model.initial_state(BATCH), None
    with torch.no_grad():
        for _ in range(4):
            state, output = model(state, puzzles.inputs, puzzles.puzzle_ids)
    assert output is not None
    return abs(len(steps) - 4) + apart(steps[-1].output.logits, output.logits)


@check(
    "Accuracies", "002", "of cells per puzzle, then over puzzles; exact: all cells", 1e-6, MODELS
)
def accuracies(name: str) -> float:
    """Compare the accuracies of an evaluation, puzzle by puzzle; ignored cells do not count."""
    model, puzzles = specimen(name), batch(specimen(name))
    labels = torch.where(puzzles.labels < 1, 0, puzzles.labels)
    with torch.no_grad():
        *_, last = think(model, puzzles.inputs, puzzles.puzzle_ids)
    labels[0] = last.answer[0]  # one puzzle solved, one in half, none with a label
    labels[1, :6] = last.answer[1, :6]
    labels[-1] = 0
    answered = PuzzleSet.assemble(
        Metadata(vocab_size=7, seq_len=12, num_puzzle_identifiers=5),
        inputs=puzzles.inputs.numpy(),
        labels=labels.numpy(),
        puzzle_identifiers=puzzles.puzzle_ids.numpy(),
        puzzle_indices=np.arange(BATCH + 1),
        group_indices=np.arange(BATCH + 1),
    )
    found = evaluate(model, answered, batch_size=4)
    cells = [
        [int(a) == int(b) for a, b in zip(answer, row, strict=True) if b > 0]
        for answer, row in zip(last.answer, labels, strict=True)
    ]
    shares = [sum(right) / len(right) for right in cells if right]
    exact = sum(share == 1 for share in shares) / len(shares)
    return abs(found.cell_accuracy - sum(shares) / len(shares)) + abs(found.exact_accuracy - exact)


@check("Target of q_continue", "004", "σ(next q_halt) at the last step, else σ(max of both)", 1e-12)
def continue_target() -> float:
    """Random values at steps 1 to 4 of 4, one by one."""
    generator = torch.Generator().manual_seed(0)
    output, steps = q_of(generator, 400), torch.arange(400) % 4 + 1
    assert output.q_continue is not None
    expected: list[float] = []
    for halt, go_on, taken in zip(
        output.q_halt.tolist(), output.q_continue.tolist(), steps.tolist(), strict=True
    ):
        value = halt if taken >= 4 else max(halt, go_on)
        expected.append(1 / (1 + math.exp(-value)))
    return apart(target_q_continue(output, steps.int(), 4), expected)
