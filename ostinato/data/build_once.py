"""Folders that are built once and used again: whole, or not there at all."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BUILDING = ".building-"
LOCK = "lock"


def build_once(folder: Path, build: Callable[[Path], None], report: Callable[[str], None]) -> Path:
    """`folder`, filled by `build(place)` if it does not exist yet.

    The folder appears at once and complete. What is left of an interrupted build is never used, and
    removed by the next call; of several processes that build the same at a time the first to be
    ready wins.
    """
    remove_interrupted(folder.parent)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with building_site(folder.parent) as place:
            building = place / "data"
            building.mkdir()
            build(building)
            try:
                os.rename(building, folder)
            except OSError:
                if not folder.exists():
                    raise
    report(f"data are in {folder}")
    return folder


@contextmanager
def building_site(root: Path) -> Iterator[Path]:
    """A new folder in `root`, for as long as this process holds its lock."""
    with (
        tempfile.TemporaryDirectory(prefix=BUILDING, dir=root) as name,
        open(Path(name) / f"{LOCK}-new", "w") as lock,
    ):
        # The lock gets its name when it is held, so that `remove_interrupted` never finds it free
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(lock.name, Path(name) / LOCK)
        yield Path(name)


def remove_interrupted(root: Path) -> None:
    """Remove what kills during builds have left in `root`: folders whose lock nobody holds."""
    for path in root.glob(f"{BUILDING}*/{LOCK}"):
        with suppress(OSError), open(path, "r+") as lock:  # another's, in use or just finished
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.parent)
