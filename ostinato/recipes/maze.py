"""Recipes for mazes."""

from ostinato.data.maze import MazeData
from ostinato.models import TRMConfig
from ostinato.training.config import Recipe, TrainingConfig


def maze_tiny() -> Recipe:
    """9×9 mazes within five minutes on two CPU cores.

    ostinato train maze-tiny
    """
    return Recipe(
        name="maze-tiny",
        model=TRMConfig(
            task="maze9",
            vocab_size=6,
            seq_len=81,
            hidden_size=64,
            num_heads=4,
            H_cycles=2,
            L_cycles=2,
            pos_encodings="none",
            mlp_t=True,
            puzzle_emb_ndim=64,
            puzzle_emb_len=1,
            halt_max_steps=8,
            forward_dtype="bfloat16",
        ),
        data=MazeData(
            size=9,
            num_train=20_000,
            num_validation=400,
            num_test=1000,
            augment=False,
        ),
        training=TrainingConfig(
            total_steps=1500,
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
            eval_every=300,
            checkpoint_every=300,
        ),
    )
