"""Building blocks shared by all models: one idea a file, torch only."""

from ostinato.layers.attention import Attention
from ostinato.layers.embedding import Embedding, SparseEmbedding
from ostinato.layers.feedforward import SwiGLU
from ostinato.layers.initialization import truncated_normal_
from ostinato.layers.linear import Linear
from ostinato.layers.norm import rms_norm
from ostinato.layers.rotary import RotaryEmbedding, apply_rotary

__all__ = [
    "Attention",
    "Embedding",
    "Linear",
    "RotaryEmbedding",
    "SparseEmbedding",
    "SwiGLU",
    "apply_rotary",
    "rms_norm",
    "truncated_normal_",
]
