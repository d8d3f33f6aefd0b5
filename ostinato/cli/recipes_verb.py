"""`ostinato recipes`."""

from dataclasses import dataclass

from ostinato.cli import Command
from ostinato.cli.arguments import read


@dataclass(frozen=True)
class Recipes:
    """List the recipes: what they train, how long that takes and what came out."""

    def run(self) -> int:
        from ostinato.recipes import recipes

        for name, summary in recipes().items():
            print(f"{name:<26} {summary}")
        return 0


def parse(words: list[str]) -> Command:
    """The words behind `ostinato recipes`."""
    return read(Recipes, words, "recipes").run
