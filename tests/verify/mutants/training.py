"""Wrong implementations that rows of "Training step" notice."""

from tests.verify.mutate import Mutant

NO_GRAD = {"with torch.no_grad():": "if True:"}

MUTANTS = [
    Mutant(
        "the same exploration at every step",
        "training.puzzles:train_step",
        {"        state.exploration,\n": "        torch.Generator().manual_seed(0),\n"},
        "Exploration over steps",
    ),
    Mutant(
        "gradient not divided by the batch",
        "training.puzzles:train_step",
        {"world.size / config.global_batch_size": "world.size"},
        "Gradient of a training step",
        "TRM",
    ),
    Mutant(
        "loss of a micro-batch divided by its own size",
        "training.puzzles:train_step",
        {"world.size / config.global_batch_size": "world.size / size"},
        "Other settings",
        "TRM",
    ),
    Mutant(
        "bootstrap from the old state",
        "training.puzzles:supervision_step",
        {
            "thought, output = state.wrapped(": (
                "old = slots.state\n    thought, output = state.wrapped("
            ),
            "_, following = state.model(thought,": "_, following = state.model(old,",
        },
        "Gradient of a training step",
        "HRM",
    ),
    Mutant(
        "bootstrap with gradient",
        "training.puzzles:supervision_step",
        NO_GRAD,
        "Gradient of a training step",
        "HRM",
    ),
    Mutant(
        "new puzzles at every step",
        "training.puzzles:train_step",
        {"    state.end_turn(slots)\n": ""},
        "Carry across training steps",
        "TRM",
    ),
    Mutant(
        "the q head outside the optimiser",
        "training.optimizers:make_optimizers",
        {
            "AdamATan2(model.parameters(), **adam)": (
                "AdamATan2([p for n, p in model.named_parameters() if 'q_head' not in n], **adam)"
            )
        },
        "Optimisers in a training step",
        "TRM",
    ),
    Mutant(
        "the rate of the update before",
        "training.puzzles:train_step",
        {"state.step + 1, time_used": "max(1, state.step), time_used"},
        "Optimisers in a training step",
        "HRM",
    ),
    Mutant(
        "puzzle rows without a warm-up",
        "training.weight_state:WeightState.set_learning_rate",
        {"base * factor": "base * (factor if 'params' in group else 1.0)"},
        "Optimisers in a training step",
        "TRM",
    ),
    Mutant(
        "the average taken before the update",
        "training.puzzles:train_step",
        {
            "    for optimizer in state.optimizers:": (
                "    if state.ema is not None:\n        state.ema.update()\n"
                "    for optimizer in state.optimizers:"
            ),
            "        state.ema.update()\n    state.end_turn": "        pass\n    state.end_turn",
        },
        "Optimisers in a training step",
        "TRM-MLP",
    ),
    Mutant(
        "no noise in training",
        "training.puzzles:train_step",
        {"                state.model.relaxation(state.generator(number + 1)),\n": ""},
        "Noise and random starts in use (EqR)",
        "TRM",
    ),
    Mutant(
        "the same noise at every step",
        "training.puzzles:train_step",
        {"state.generator(number + 1)": "torch.Generator().manual_seed(number)"},
        "Noise and random starts in use (EqR)",
        "HRM",
    ),
    Mutant(
        "the same random starts at every step",
        "training.state:TrainState.initial_state",
        {"self.generator(0)": "torch.Generator().manual_seed(0)"},
        "Noise and random starts in use (EqR)",
        "TRM-MLP",
    ),
    Mutant(
        "one random start for all slots",
        "training.state:TrainState.initial_state",
        {"len(self.slots.steps)": "1"},
        "Noise and random starts in use (EqR)",
        "TRM",
    ),
    Mutant(
        "no noise in evaluation",
        "inference.think:think",
        {"float(number), relax=relax": "float(number)"},
        "Noise and random starts in use (EqR)",
        "TRM",
    ),
    Mutant(
        "an update every other step",
        "training.puzzles:train_step",
        {
            "for optimizer in state.optimizers:": (
                "for optimizer in state.optimizers[state.step % 2 :]:"
            )
        },
        "One update a supervision step",
        "TRM",
    ),
]
