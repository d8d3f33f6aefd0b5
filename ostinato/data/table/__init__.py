"""Data sets for puzzles that are known only from a table of questions and answers."""

from ostinato.data.table.dataset import Size, TableData
from ostinato.data.table.task import PREFIX, Table

__all__ = ["PREFIX", "Size", "Table", "TableData"]
