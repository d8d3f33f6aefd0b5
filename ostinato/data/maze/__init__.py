"""Mazes of any size: rules, symmetries, shortest paths, a generator, data sets."""

from ostinato.data.maze.dataset import MazeData
from ostinato.data.maze.generator import generate
from ostinato.data.maze.paths import shortest_path
from ostinato.data.maze.rules import Maze

__all__ = ["Maze", "MazeData", "generate", "shortest_path"]
