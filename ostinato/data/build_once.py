"""Folders that are built once, atomically, and then reused."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ostinato.files import flush_folder, hold, make_folder, remove_partial_files, temporary_path


def build_once(folder: Path, build: Callable[[Path], None], report: Callable[[str], None]) -> Path:
    """Return `folder`, filled by `build(place)` if it does not exist yet.

    The folder appears atomically. The remains of an interrupted build are never used, and the next
    call removes them. If several processes build the same folder, the first to finish wins.
    """
    remove_partial_files(folder.parent)
    if not folder.exists():
        make_folder(folder.parent)
        place = temporary_path(folder)
        handle = None
        try:  # already here, because a signal may arrive at any moment
            place.mkdir()
            handle = os.open(place, os.O_RDONLY)
            hold(handle)
            build(place)
            try:
                os.rename(place, folder)
            except OSError:
                if not folder.exists():
                    raise
            flush_folder(folder.parent)
        finally:
            shutil.rmtree(place, ignore_errors=True)
            if handle is not None:
                os.close(handle)
    report(f"data are in {folder}")
    return folder
