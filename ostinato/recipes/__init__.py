"""Recipes: functions that return all the settings of a run. Their docstrings are claims."""

from collections.abc import Callable
from importlib import import_module

from ostinato.training.config import AnyRecipe

MODULES = ("sudoku", "hrm", "maze", "arc", "own", "text")


def all_recipes() -> dict[str, Callable[[], AnyRecipe]]:
    """Name, as on the command line → function."""
    found = {}
    for name in MODULES:
        module = import_module(f"ostinato.recipes.{name}")
        for attribute, value in vars(module).items():
            if callable(value) and getattr(value, "__module__", "") == module.__name__:
                found[attribute.replace("_", "-")] = value
    return found


def recipes() -> dict[str, str]:
    """Name → the first line of the recipe's docstring."""
    return {name: (make.__doc__ or "").splitlines()[0] for name, make in all_recipes().items()}


def recipe_named(name: str) -> AnyRecipe:
    """The recipe of that name; ValueError with a suggestion if there is none."""
    import difflib

    known = all_recipes()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f": did you mean {close[0]}?" if close else f": choose one of {', '.join(known)}"
        raise ValueError(f"unknown recipe {name!r}{hint}")
    return known[name]()
