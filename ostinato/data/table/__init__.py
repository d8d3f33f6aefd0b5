"""Data sets for puzzles that are known only from a table of questions and answers."""

from ostinato.data.table.dataset import Size, TableData
from ostinato.data.table.gym import GymTable
from ostinato.data.table.task import Table

__all__ = ["GymTable", "Size", "Table", "TableData"]
