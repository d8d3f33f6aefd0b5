"""Tasks of ARC that are the same under another name."""

from collections.abc import Iterable

from ostinato.data.arc.sources import ArcTask
from ostinato.data.dihedral import transform


def twins(trained: Iterable[ArcTask], others: Iterable[ArcTask]) -> list[tuple[str, str]]:
    """Name the tasks among `others` that are trained on as another one, each with that one.

    Turned or mirrored tasks, other names of the colours 1 to 9 and another order of the pairs
    count as the same. Answers to the tests are not looked at.
    """
    known = {fingerprint(task): task.name for task in trained}
    pairs = ((task.name, known.get(fingerprint(task))) for task in others)
    return [(name, twin) for name, twin in pairs if twin is not None]


def fingerprint(task: ArcTask) -> tuple[tuple[tuple[int, ...], ...], bytes]:
    """Describe what all variants of a task share, by the least of eight views."""
    shown = [(pair.input, pair.output) for pair in task.train]
    groups = [*shown, *((pair.input,) for pair in task.test)]
    views = []
    for symmetry in range(8):
        parts = []
        for group in groups:
            grids = [transform(grid, symmetry) for grid in group if grid is not None]
            sides = tuple(side for grid in grids for side in grid.shape)
            parts.append((sides, b"".join(grid.tobytes() for grid in grids)))
        # In an order that the names of colours do not change, then all with the same new names
        parts.sort(key=lambda part: (part[0], renamed(part[1])))
        cells = renamed(b"".join(cells for _, cells in parts))
        views.append((tuple(sides for sides, _ in parts), cells))
    return min(views)


def renamed(cells: bytes) -> bytes:
    """Number the colours in the order in which they occur; black, 0, stays."""
    colours = bytes(dict.fromkeys(cells.replace(b"\0", b"")))
    return cells.translate(bytes.maketrans(colours, bytes(range(1, len(colours) + 1))))
