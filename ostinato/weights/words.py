"""Find which model a word of the command line means, without loading anything."""

import difflib
import os
from pathlib import Path

from ostinato.weights import packaged

SUFFIXES = (".safetensors", ".gguf", ".onnx", ".pt", ".pth", ".bin", ".ckpt")
"""Ends of the names of files that hold weights, or are meant to."""
IN_PUZZLES = "SGo"
"""Letters of written mazes."""


def names_model(word: str) -> bool:
    """Tell whether a word names a model: a folder, a file of weights, a packaged one, or the Hub's.

    Model files differ from lists of puzzles by their names, and by bytes that no text has.
    """
    if os.path.isfile(word):
        return word.endswith(SUFFIXES) or b"\0" in first_bytes(Path(word))
    return os.path.isdir(word) or word in packaged() or word.startswith("hf:")


def first_bytes(path: Path) -> bytes:
    """Read the beginning of a file; empty if it cannot be read, which is reported elsewhere."""
    try:
        with path.open("rb") as file:
            return file.read(1024)
    except OSError:
        return b""


def is_meant_as_model(word: str) -> bool:
    """Tell whether a word that names nothing is a mistyped model rather than a mistyped puzzle.

    A puzzle has no letters but those of mazes, or a single one that stands for blanks.
    """
    letters = {symbol for symbol in word if symbol.isalpha()} - {*IN_PUZZLES}
    return len(letters) > 1


def unknown_model(word: str, remedy: str) -> ValueError:
    """Return the error for a word that names no model; the nearest one, if any, is the remedy."""
    names = {name: name for name in packaged()}
    for folder in {Path("runs"), Path(word).parent} - {Path()}:
        if folder.is_dir():
            names |= {path.name: str(path) for path in folder.iterdir()}
    near = difflib.get_close_matches(Path(word).name, names, n=1)
    hint = f"did you mean {names[near[0]]}?" if near else remedy
    return ValueError(f"{word} does not exist: {hint}")
