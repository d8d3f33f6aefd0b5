"""Load users' own kinds of puzzles, from a file that they name or an installed package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points

from ostinato.data.grid import Grid
from ostinato.files import home_path

ENTRY_POINTS = "ostinato.tasks"
"""Group of the entry points by which a package adds kinds; each is a subclass of `Grid`."""


def load_kind(spec: str) -> type[Grid]:
    """Run a Python file and return the kind of puzzle in it; `spec` is "FILE.py:Class".

    Afterwards it can be found by its name. Raises ValueError if there is no such file or class.
    """
    place, _, name = spec.rpartition(":")
    path = home_path(place).resolve()
    if not path.is_file():
        raise ValueError(f"there is no {place}: give the file and the class, as in puzzle.py:Name")
    module_name = f"ostinato_own_{path.stem}"
    found = importlib.util.spec_from_file_location(module_name, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[module_name] = module
    try:
        found.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise ValueError(f"{path} cannot be run ({error}): correct it") from None
    kind = getattr(module, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Grid)):
        raise ValueError(f"{path} has no class {name} that is a ostinato.data.grid.Grid: add it")
    return kind


def own_kinds() -> Iterator[type[Grid]]:
    """Find the kinds of files that were run, the newest first, and of installed packages."""
    yield from reversed(list(_family(Grid)))
    for point in entry_points(group=ENTRY_POINTS):
        yield point.load()


def own_task(name: str) -> Grid | None:
    """Return the task of that name, such as "latin4"; None if there is none."""
    for kind in own_kinds():
        prefix = getattr(kind, "kind", None)
        size = name.removeprefix(prefix) if prefix and name.startswith(prefix) else ""
        if size.isdecimal() and int(size) in kind.sizes:
            return kind(int(size))
    return None


def _family(cls: type[Grid]) -> Iterator[type[Grid]]:
    for child in cls.__subclasses__():
        yield child
        yield from _family(child)
