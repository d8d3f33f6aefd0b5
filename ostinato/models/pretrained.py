"""The old home of loading and saving; use `ostinato.weights` instead. It goes with version 0.3."""

import warnings
from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    for home in ("ostinato.weights.load", "ostinato.weights.fitting", "ostinato.weights.save"):
        module = import_module(home)
        if hasattr(module, name):
            warnings.warn(f"import {name} from {home}", DeprecationWarning, stacklevel=2)
            return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
