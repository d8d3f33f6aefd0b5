"""Recipes for Sudoku on a laptop.

Accuracies are exact matches on unseen puzzles; docs/results.md says how they were measured.
"""

from dataclasses import replace

from ostinato.data.sudoku import SudokuData
from ostinato.models import TRMConfig
from ostinato.training.config import Recipe, TrainingConfig

SMALL = TrainingConfig(
    total_steps=600,
    global_batch_size=32,
    optimizer="muon",
    lr=3e-3,
    muon_lr=3e-3,
    muon_ns_steps=3,
    weight_decay=0.05,
    puzzle_emb_lr=1e-3,
    puzzle_emb_weight_decay=0.05,
    warmup_steps=20,
    decay_start=0.3,
    decay_shape="linear",
    lr_min_ratio=0.0,
    loss_type="softmax_cross_entropy",
    ema_decay=0.99,
    eval_every=200,
    checkpoint_every=200,
)

LARGE_STEPS = replace(
    SMALL,
    muon_lr=0.02,
    muon_scale="original",
    muon_momentum=0.6,
    muon_weight_decay=0.005,
)
"""Muon as in "Speed is Confidence" (arXiv 2601.19085); it needs the normalised SwiGLU, and slots
that take turns where batches are as small as here."""

DEEP_STEPS = replace(
    LARGE_STEPS,
    slot_turns=256,
    warmup_steps=50,
    decay_start=0.05,
    depth_curriculum=(0.4, 0.7),
    ema_decay=0.995,
    eval_every=500,
    checkpoint_every=500,
)
"""For two deep steps a puzzle (`halt_max_steps`). Between them 256 batches make the weights forget;
with eight steps and 64 batches they learnt the puzzles of the moment by heart, and solved 18 % of
unseen Light Up in place of 76 %. Deep steps are cheap, as they come late."""


def sudoku4_tiny() -> Recipe:
    """4×4 Sudoku in a minute or two: the demo.

    On two CPU cores. It solves 99.9 % of 1,000 unseen puzzles (99.4 – 100.0).

    ostinato train sudoku4-tiny
    """
    return Recipe(
        name="sudoku4-tiny",
        model=TRMConfig(
            task="sudoku4",
            vocab_size=6,
            seq_len=16,
            hidden_size=64,
            num_heads=4,
            H_cycles=2,
            L_cycles=2,
            pos_encodings="none",
            mlp_t=True,
            puzzle_emb_ndim=64,
            puzzle_emb_len=1,
            halt_max_steps=8,
            forward_dtype="float32",
        ),
        data=SudokuData(
            size=4, min_givens=4, max_givens=10, num_train=1500, num_validation=200, num_test=1000
        ),
        training=SMALL,
    )


def sudoku6_tiny() -> Recipe:
    """6×6 Sudoku with boxes of 2×3.

    It is small enough for two CPU cores.

    ostinato train sudoku6-tiny
    """
    return Recipe(
        name="sudoku6-tiny",
        model=replace(sudoku4_tiny().model, task="sudoku6", vocab_size=8, seq_len=36),
        data=SudokuData(
            size=6, min_givens=12, max_givens=24, num_train=5000, num_validation=500, num_test=1000
        ),
        training=replace(SMALL, total_steps=2000),
    )


def sudoku16_tiny() -> Recipe:
    """16×16 Sudoku with boxes of 4×4 and 190 to 220 givens.

    In half an hour on a third of a CPU core with AMX, 1,307 steps under a rate that fell with the
    time, it solved 92.9 % of 1,000 unseen puzzles (91.1 – 94.3), but was sure of all its answers.

    ostinato train sudoku16-tiny --compile
    """
    return Recipe(
        name="sudoku16-tiny",
        model=replace(
            sudoku4_tiny().model,
            task="sudoku16",
            vocab_size=18,
            seq_len=256,
            L_cycles=3,
            halt_max_steps=2,
            normalize_swiglu=True,
            forward_dtype="auto",
        ),
        data=SudokuData(
            size=16,
            min_givens=190,
            max_givens=220,
            num_train=4000,
            num_validation=200,
            num_test=1000,
        ),
        training=replace(
            DEEP_STEPS,
            total_steps=1500,
            slot_turns=128,
            warmup_steps=20,
            depth_curriculum=(0.5,),
            eval_every=250,
            checkpoint_every=200,
        ),
    )


def sudoku9_easy() -> Recipe:
    """9×9 Sudoku with 32 to 44 givens, in 20 minutes to two hours.

    It solves 98.8 % of 2,000 unseen puzzles (98.2 – 99.2) after 19 minutes of two cores with AMX,
    28 of one, in bfloat16. `--total-steps 1600` gives 95 % in half the time. Without bfloat16
    instructions it takes some two hours. The settings are those of `sudoku9`; with smaller steps
    of Muon, and slots that do not take turns, an hour gave 93.5 %.

    ostinato train sudoku9-easy --compile
    """
    return Recipe(
        name="sudoku9-easy",
        model=TRMConfig(
            task="sudoku9",
            hidden_size=192,
            num_heads=6,
            H_cycles=2,
            L_cycles=3,
            pos_encodings="none",
            mlp_t=True,
            puzzle_emb_ndim=192,
            puzzle_emb_len=1,
            halt_max_steps=8,
            normalize_swiglu=True,
            forward_dtype="auto",
        ),
        data=SudokuData(
            size=9,
            min_givens=32,
            max_givens=44,
            num_train=50_000,
            num_validation=400,
            num_test=2000,
        ),
        training=replace(
            LARGE_STEPS,
            total_steps=3500,
            slot_turns=64,
            warmup_steps=50,
            decay_start=0.1,
            ema_decay=0.998,
            eval_every=1000,
            checkpoint_every=500,
        ),
    )


def sudoku9() -> Recipe:
    """9×9 Sudoku of every difficulty, in two hours.

    It solves 97.9 % of 1,000 unseen puzzles with 30 to 40 givens (96.8 – 98.6) and 15.0 % of 500 of
    Sudoku-Extreme (12.1 – 18.4), after 101 minutes on two CPU cores that also did other work. It
    trains on the training rows of Sudoku-Extreme (0 takes all; give a folder of your own with
    --source) and on generated puzzles, from easy to hard: the easy ones teach what helps with the
    hard ones. Muon with large steps needs the normalised SwiGLU, and small batches need slots that
    take turns: with the same 32 at every step, the weights learn their puzzles by heart.

    The default model of `ostinato solve` continued from this run (--init-from), at the end with
    twice the L-cycles: more thought in every step helped where more training had not. It solves
    99.3 % of 1,000 puzzles with 30 to 40 givens (98.6 – 99.7) and 21.0 % of 1,000 of Sudoku-Extreme
    (18.6 – 23.6).

    ostinato train sudoku9 --compile
    """
    return Recipe(
        name="sudoku9",
        model=replace(sudoku9_easy().model, halt_max_steps=16, forward_dtype="float32"),
        data=SudokuData(
            source="sudoku-extreme",
            num_train=31_000,
            num_validation=500,
            num_test=10_000,
            num_generated=80_000,
            min_givens=24,
            max_givens=40,
        ),
        training=replace(sudoku9_easy().training, total_steps=6300, eval_batch_size=32),
    )
