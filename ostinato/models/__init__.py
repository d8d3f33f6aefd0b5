"""The models, one file each: its configuration, its state and its recursion written out."""

from ostinato.models.hrm import HRM, HRMConfig
from ostinato.models.nanochat import NanoChat, NanoChatConfig
from ostinato.models.recursive import Output, RecursiveConfig, RecursiveModel, State
from ostinato.models.trm import TRM, TRMConfig

RECURSIVE_MODELS = {"trm": (TRM, TRMConfig), "hrm": (HRM, HRMConfig)}
"""Models that solve puzzles: name → (class, configuration)."""

MODELS = {**RECURSIVE_MODELS, "nanochat": (NanoChat, NanoChatConfig)}
"""Name → (class, configuration). A new model is one file and one line here."""

__all__ = [
    "HRM",
    "MODELS",
    "RECURSIVE_MODELS",
    "TRM",
    "HRMConfig",
    "NanoChat",
    "NanoChatConfig",
    "Output",
    "RecursiveConfig",
    "RecursiveModel",
    "State",
    "TRMConfig",
]
