"""Mazes: rules, shortest paths, a generator, data sets."""

from ostinato.data.maze.dataset import MazeData
from ostinato.data.maze.generator import generate, labelled
from ostinato.data.maze.paths import shortest_path
from ostinato.data.maze.rules import SIZES, Maze

__all__ = ["SIZES", "Maze", "MazeData", "generate", "labelled", "shortest_path"]
