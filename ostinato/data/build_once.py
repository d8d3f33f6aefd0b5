"""Folders that are built once and used again: whole, or not there at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def build_once(folder: Path, build: Callable[[Path], None], report: Callable[[str], None]) -> Path:
    """`folder`, filled by `build(place)` if it does not exist yet.

    The folder appears at once and complete. What is left of an interrupted build is never used, and
    of several processes that build the same at a time the first to be ready wins.
    """
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as place:
            building = Path(place) / "data"
            building.mkdir()
            build(building)
            try:
                os.rename(building, folder)
            except OSError:
                if not folder.exists():
                    raise
    report(f"data are in {folder}")
    return folder
