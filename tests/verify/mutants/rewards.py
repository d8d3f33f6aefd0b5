"""Wrong implementations that rows of "Rewards" notice."""

from tests.verify.mutate import Mutant

MUTANTS = [
    Mutant(
        "advantages divided by the deviation",
        "training.policy:advantages",
        {"(rewards - mean) / mean": "(rewards - mean) / rewards.std(1, keepdim=True)"},
        "MaxRL",
    ),
    Mutant(
        "REINFORCE without its baseline",
        "training.policy:advantages",
        {"return rewards - mean": "return rewards"},
        "REINFORCE",
    ),
    Mutant(
        "a walk out of the maze and back",
        "data.prompts.maze:is_walk",
        {"not inside or cells": "inside and cells"},
        "Mazes as text",
    ),
    Mutant(
        "a walk without an end",
        "data.prompts.maze:MazeTask.is_right",
        {"last == END and is_walk": "is_walk"},
        "Mazes as text",
    ),
]
