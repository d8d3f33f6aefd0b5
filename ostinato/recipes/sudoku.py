"""Recipes for Sudoku.

Accuracies are exact matches on unseen puzzles; where they were measured stands in docs/results.md.
"""

from ostinato.data.sudoku import SudokuData
from ostinato.models import TRMConfig
from ostinato.training.config import Recipe, TrainingConfig


def sudoku4_tiny() -> Recipe:
    """4×4 Sudoku in two minutes on two CPU cores: the demo.

    ostinato train sudoku4-tiny
    """
    return Recipe(
        name="sudoku4-tiny",
        model=TRMConfig(
            task="sudoku4",
            vocab_size=6,
            seq_len=16,
            hidden_size=128,
            num_heads=4,
            H_cycles=2,
            L_cycles=2,
            pos_encodings="none",
            mlp_t=True,
            puzzle_emb_ndim=128,
            puzzle_emb_len=1,
            halt_max_steps=8,
            forward_dtype="float32",
        ),
        data=SudokuData(
            size=4, min_givens=4, max_givens=10, num_train=1500, num_validation=200, num_test=1000
        ),
        training=TrainingConfig(
            total_steps=1500,
            global_batch_size=128,
            optimizer="muon",
            lr=3e-3,
            muon_lr=3e-3,
            weight_decay=0.05,
            puzzle_emb_lr=1e-3,
            puzzle_emb_weight_decay=0.05,
            warmup_steps=50,
            decay_start=0.7,
            decay_shape="linear",
            lr_min_ratio=0.0,
            loss_type="softmax_cross_entropy",
            ema_decay=0.99,
            eval_every=250,
            checkpoint_every=250,
        ),
    )


def sudoku9_easy() -> Recipe:
    """9×9 Sudoku with 32 to 44 givens, within an hour on two CPU cores.

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
            forward_dtype="float32",
        ),
        data=SudokuData(
            size=9,
            min_givens=32,
            max_givens=44,
            num_train=50_000,
            num_validation=400,
            num_test=2000,
        ),
        training=TrainingConfig(
            total_steps=3400,
            global_batch_size=32,
            optimizer="muon",
            lr=3e-3,
            muon_lr=3e-3,
            muon_ns_steps=3,
            weight_decay=0.05,
            puzzle_emb_lr=1e-3,
            puzzle_emb_weight_decay=0.05,
            warmup_steps=50,
            decay_start=0.6,
            decay_shape="linear",
            lr_min_ratio=0.0,
            loss_type="softmax_cross_entropy",
            ema_decay=0.99,
            eval_every=500,
            checkpoint_every=500,
        ),
    )
