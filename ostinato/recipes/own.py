"""Recipes for puzzles of your own, in tables or with rules in a file, and two examples."""

from ostinato.data.generated import GeneratedData
from ostinato.data.table import TableData
from ostinato.recipes.sizes import SIZES, tiny_recipe
from ostinato.training.config import Recipe


def table() -> Recipe:
    """Puzzles of your own: a table with questions and answers (docs/tables.md).

    What they look like is found in the table. --size tiny (the default) is for minutes of two CPU
    cores, small for hours, full for a GPU.

    ostinato train table --data mine.csv
    ostinato train table --data mine.csv --size small --symmetries square,tokens:1-9
    """
    model, training = SIZES["tiny"]
    return Recipe("table", model, TableData(), training)


def puzzle() -> Recipe:
    """Puzzles of your own: rules and a generator in one file (docs/own-puzzle.md).

    ostinato train puzzle --task my_puzzle.py:MyPuzzle
    ostinato train puzzle --task futoshiki7 --size small
    """
    model, training = SIZES["tiny"]
    return Recipe("puzzle", model, GeneratedData(), training)


def lightup7_tiny() -> Recipe:
    """Light Up (Akari) of 7×7, for two CPU cores.

    An example of a kind in one file, not yet a good solver: a larger model solved 18 % of unseen
    puzzles after 12 minutes of one core.

    ostinato train lightup7-tiny
    """
    return tiny_recipe("lightup7", total_steps=6000)


def futoshiki5_tiny() -> Recipe:
    """Futoshiki of 5×5, for two CPU cores.

    An example of a kind in one file, not yet a good solver: it solves a third of unseen puzzles
    after four minutes of one core.

    ostinato train futoshiki5-tiny
    """
    return tiny_recipe("futoshiki5", total_steps=4000)
