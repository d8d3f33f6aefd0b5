"""The trained models that come with the package: a safetensors file and a model card for each."""

from pathlib import Path

FOLDER = Path(__file__).parent
DEFAULTS = ("sudoku9", "sudoku9-large")
"""The models that `ostinato solve` uses by default: the second tries what the first leaves
unsolved."""


def packaged() -> dict[str, Path]:
    """Return the weights of each packaged model by name, sorted by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}
