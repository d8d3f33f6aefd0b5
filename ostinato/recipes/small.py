"""What the recipes for a CPU have in common: small batches, Muon, and a rate that falls to zero."""

from dataclasses import replace

from ostinato.training.config import TrainingConfig

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
