"""The trained models that come with the package: a safetensors file and a model card for each."""

from pathlib import Path

FOLDER = Path(__file__).parent
DEFAULTS = ("sudoku9", "sudoku9-large")
"""The models that `ostinato solve` takes where none is given: the second one solves what the first
one does not."""


def packaged() -> dict[str, Path]:
    """Name → weights, in the order of names."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}
