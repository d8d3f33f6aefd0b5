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
    """Light Up (Akari) of 7×7, in 22 minutes of one shared CPU core with AMX.

    It solves 76.2 % of 1,000 unseen puzzles (73.5 – 78.7), from which no number can be left out.

    ostinato train lightup7-tiny --compile
    """
    return tiny_recipe("lightup7", total_steps=6000, muon_lr=0.02)


def futoshiki5_tiny() -> Recipe:
    """Futoshiki of 5×5, in 29 minutes of one shared CPU core with AMX.

    It solves 73.7 % of 1,000 unseen puzzles (70.9 – 76.3), from which no digit can be left out.

    ostinato train futoshiki5-tiny --compile
    """
    return tiny_recipe("futoshiki5", total_steps=4000, muon_lr=0.01)
