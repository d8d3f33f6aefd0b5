"""Recipes: functions that return all the settings of a run. Their docstrings state results.

A docstring's first line says what is trained, and ends in ": for a GPU." if it needs one.
"""

import re
from collections.abc import Callable
from importlib import import_module
from typing import get_args

from ostinato.models import MODELS
from ostinato.training.config import AnyRecipe

MODULES = ("sudoku", "sudoku_extreme", "maze", "arc", "own", "hrm", "text", "prompts")
FOR_A_GPU = re.compile(r": for (a GPU|GPUs)\.$")


def all_recipes() -> dict[str, Callable[[], AnyRecipe]]:
    """Return the recipes by their names on the command line."""
    found = {}
    for name in MODULES:
        module = import_module(f"ostinato.recipes.{name}")
        for attribute, value in vars(module).items():
            types = getattr(value, "__annotations__", {})
            makes_recipe = types.keys() == {"return"} and types["return"] in get_args(AnyRecipe)
            if makes_recipe and value.__module__ == module.__name__:
                found[attribute.replace("_", "-")] = value
    return found


def recipes() -> dict[str, str]:
    """Return the first line of each recipe's docstring by its name."""
    return {name: (make.__doc__ or "").splitlines()[0] for name, make in all_recipes().items()}


def recipe_list() -> str:
    """List the recipes for people, by their models and by the machines that they need."""
    lines = []
    made = {name: make().model for name, make in all_recipes().items()}
    for model, config in MODELS.values():
        title = model.__name__.replace("NanoChat", "nanochat")
        for machine, needs_gpu in (("on a laptop, without a GPU", False), ("on a GPU", True)):
            found = [
                f"  {name:<25} {FOR_A_GPU.sub('.', summary)}"
                for name, summary in recipes().items()
                if type(made[name]) is config and bool(FOR_A_GPU.search(summary)) == needs_gpu
            ]
            if found:
                lines += [f"{title}, {machine}", *found, ""]
    return "\n".join(lines).rstrip()


def recipe_named(name: str) -> AnyRecipe:
    """Return the recipe of that name; ValueError with a suggestion if there is none."""
    import difflib

    known = all_recipes()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f": did you mean {close[0]}?" if close else f": choose one of {', '.join(known)}"
        raise ValueError(f"unknown recipe {name!r}{hint}")
    return known[name]()
