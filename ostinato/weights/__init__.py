"""The trained models that come with the package: a safetensors file and a model card for each."""

from pathlib import Path

FOLDER = Path(__file__).parent
DEFAULT = "sudoku9"
"""What `ostinato solve` takes where no model is given."""
LARGE = "sudoku9-large"
"""What it names to those whose puzzles are too hard for that."""


def packaged() -> dict[str, Path]:
    """Name → weights, in the order of names."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}
