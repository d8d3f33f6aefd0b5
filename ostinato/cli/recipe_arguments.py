"""The arguments of verbs that begin with a recipe: each of its settings is a flag."""

from dataclasses import field, make_dataclass, replace
from typing import TypeVar

from ostinato.cli.arguments import read
from ostinato.recipes import recipe_named, recipes
from ostinato.training.config import AnyRecipe

T = TypeVar("T")


def read_recipe(
    kind: type[T],
    words: list[str],
    verb: str,
    parts: tuple[str, ...] = ("model", "data", "training"),
) -> tuple[T, AnyRecipe]:
    """The `kind` that the words behind RECIPE spell, and the recipe with the settings among them.

    Only settings of `parts` can be changed. Without RECIPE, the recipes are listed.
    Raises ValueError in one line, SystemExit after help or the list.
    """
    if not words or words[0] in ("-h", "--help"):
        lines = [f"  {name:<26} {summary}" for name, summary in recipes().items()]
        print(f"usage: ostinato {verb} RECIPE [--help] [settings]\n\nrecipes:")
        print("\n".join(lines))
        raise SystemExit(0 if words else 2)
    name, *settings = words
    recipe = recipe_named(name)
    # A class with the recipe's own types and values, so that no subcommands are needed
    with_settings = make_dataclass(
        kind.__name__,
        [(p, type(getattr(recipe, p)), field(default=getattr(recipe, p))) for p in parts],
        bases=(kind,),
        frozen=True,
    )
    with_settings.__doc__ = kind.__doc__
    arguments = read(with_settings, settings, verb, name)
    return arguments, replace(recipe, **{part: getattr(arguments, part) for part in parts})
