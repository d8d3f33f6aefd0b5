"""Building blocks shared by all models: one idea per file, torch only."""

from ostinato.layers.attention import Attention
from ostinato.layers.causal_attention import CausalAttention, KeyValueCache
from ostinato.layers.embedding import Embedding, SparseEmbedding
from ostinato.layers.exits import exit_depths, log_exit_probabilities
from ostinato.layers.feedforward import SwiGLU
from ostinato.layers.hyper_connections import HyperConnection, Residual
from ostinato.layers.initialization import truncated_normal_
from ostinato.layers.linear import Linear
from ostinato.layers.norm import RMSNorm, rms_norm
from ostinato.layers.ragged_cache import RaggedCache
from ostinato.layers.relaxation import REPLACE, Relaxation
from ostinato.layers.rotary import RotaryEmbedding, apply_rotary
from ostinato.layers.ternary import PackedTernaryLinear, Ternary, TernaryLinear

__all__ = [
    "REPLACE",
    "Attention",
    "CausalAttention",
    "Embedding",
    "HyperConnection",
    "KeyValueCache",
    "Linear",
    "PackedTernaryLinear",
    "RMSNorm",
    "RaggedCache",
    "Relaxation",
    "Residual",
    "RotaryEmbedding",
    "SparseEmbedding",
    "SwiGLU",
    "Ternary",
    "TernaryLinear",
    "apply_rotary",
    "exit_depths",
    "log_exit_probabilities",
    "rms_norm",
    "truncated_normal_",
]
