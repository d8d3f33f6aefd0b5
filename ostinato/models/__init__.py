"""The models: one file each, with its configuration, its state and its recursion written out."""

from ostinato.models.hrm import HRM, HRMConfig
from ostinato.models.recursive import Output, RecursiveConfig, RecursiveModel, State
from ostinato.models.trm import TRM, TRMConfig

MODELS = {"trm": (TRM, TRMConfig), "hrm": (HRM, HRMConfig)}
"""Name → (class, configuration). A new model is one file and one line here."""

__all__ = [
    "HRM",
    "MODELS",
    "TRM",
    "HRMConfig",
    "Output",
    "RecursiveConfig",
    "RecursiveModel",
    "State",
    "TRMConfig",
]
