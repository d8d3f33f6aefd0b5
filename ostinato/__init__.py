"""Ostinato: small models that think by repeating themselves.

import ostinato

model = ostinato.load("runs/sudoku4-tiny")
for step in ostinato.think(model, ".1..3..12..4..3."):
    print(step)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ostinato.evaluation.puzzles import evaluate
    from ostinato.inference.generate import Piece, Sampling, generate
    from ostinato.inference.solve import Solution, solve
    from ostinato.inference.think import Step, think
    from ostinato.weights.load import load

_HOMES = {
    "load": "ostinato.weights.load",
    "think": "ostinato.inference.think",
    "Step": "ostinato.inference.think",
    "solve": "ostinato.inference.solve",
    "Solution": "ostinato.inference.solve",
    "generate": "ostinato.inference.generate",
    "Piece": "ostinato.inference.generate",
    "Sampling": "ostinato.inference.generate",
    "evaluate": "ostinato.evaluation.puzzles",
}
"""Public name → module. Imported on first use, so that `import ostinato` does not import torch."""

__all__ = [
    "Piece",
    "Sampling",
    "Solution",
    "Step",
    "evaluate",
    "generate",
    "load",
    "solve",
    "think",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ostinato' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
