"""Wrong implementations that rows of "Halting and slots" notice."""

from tests.verify.mutate import Mutant

MUTANTS = [
    Mutant(
        "slots start in use",
        "training.slots:Slots.empty",
        {"torch.ones_like(counts, dtype=torch.bool)": "torch.zeros_like(counts, dtype=torch.bool)"},
        "First call",
    ),
    Mutant(
        "refill of unhalted slots",
        "training.slots:Slots.refill",
        {"torch.where(fresh_row, batch.inputs, self.inputs)": "batch.inputs"},
        "Refill",
    ),
    Mutant(
        "steps counted on after a refill",
        "training.slots:Slots.refill",
        {"torch.where(fresh, 0, self.steps)": "self.steps"},
        "Refill",
    ),
    Mutant(
        "thoughts kept for the next puzzle",
        "training.slots:Slots.refill",
        {"torch.where(fresh_cell, new, z)": "z"},
        "Refill",
    ),
    Mutant(
        "one step too many before the end",
        "training.slots:Slots.advance",
        {"steps >= config.halt_max_steps": "steps > config.halt_max_steps"},
        "Halting",
    ),
    Mutant(
        "halting by the step count alone",
        "training.slots:Slots.advance",
        {"halted | (": "halted & ("},
        "Halting",
    ),
    Mutant(
        "minimum of steps exclusive",
        "training.slots:Slots.advance",
        {"steps >= minimum_steps": "steps > minimum_steps"},
        "Halting",
    ),
    Mutant(
        "q_halt alone where there is a continue head",
        "models.recursive:wants_to_halt",
        {"output.q_halt > output.q_continue": "output.q_halt > 0"},
        "Halting",
    ),
    Mutant(
        "exploration range from 1",
        "training.slots:draw_minimum_steps",
        {"2, halt_max_steps + 1": "1, halt_max_steps + 1"},
        "Exploration",
    ),
    Mutant(
        "exploration range without its end",
        "training.slots:draw_minimum_steps",
        {"2, halt_max_steps + 1": "2, max(3, halt_max_steps)"},
        "Exploration",
    ),
    Mutant(
        "target of q_continue without the maximum",
        "training.slots:target_q_continue",
        {"torch.maximum(next_output.q_halt, next_output.q_continue)": "next_output.q_continue"},
        "Target of q_continue",
    ),
    Mutant(
        "target of q_continue at the last step like any other",
        "training.slots:target_q_continue",
        {"torch.where(steps >= halt_max_steps, next_output.q_halt, best)": "best"},
        "Target of q_continue",
    ),
    Mutant(
        "early exit in evaluation",
        "inference.think:think",
        {
            "        yield step\n": (
                "        if number > 1 and (step.q_halt > 0).all():\n"
                "            return\n"
                "        yield step\n"
            )
        },
        "Evaluation",
    ),
    Mutant(
        "ignored cells count as wrong",
        "evaluation.puzzles:evaluate",
        {"valid = labels != IGNORE_LABEL": "valid = labels == labels"},
        "Accuracies",
    ),
]
