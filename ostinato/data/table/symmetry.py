"""Read declared symmetries: "square,tokens:1-9" allows turning, mirroring and renaming."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ostinato.data.group import Group
from ostinato.data.symmetries import sources

TURNS = {"square": range(8), "turns": range(4)}
"""Name → symmetries of the square, numbered as in `dihedral`."""


def declared(spec: str, symbols: Sequence[str], rows: int, cols: int) -> Group:
    """Read a declaration; `symbols` are those of the tokens, in order.

    Raises ValueError for a symmetry or a symbol that does not exist, and for turning a board
    that is not a square.
    """
    cells = np.arange(rows * cols).reshape(rows, cols)
    moves, names = cells.reshape(1, -1), []
    for word in filter(None, (word.strip() for word in spec.split(","))):
        if word in TURNS:
            if rows != cols:
                raise ValueError(
                    f"symmetries {word!r} need a square board, not {rows}×{cols}: leave it "
                    "out, or give the cells of a row as width"
                )
            moves = sources(rows)[list(TURNS[word])]
        elif word == "mirror":  # left and right change places
            moves = np.stack([cells.ravel(), cells[:, ::-1].ravel()])
        elif word.startswith("tokens:"):
            names.append(_tokens(word.removeprefix("tokens:"), symbols))
        else:
            raise ValueError(
                f"unknown symmetry {word!r}: choose from square, turns, mirror and tokens:1-9"
            )
    if len({token for group in names for token in group}) < sum(map(len, names)):
        raise ValueError(f"a symbol stands in two groups of {spec!r}: leave it out of one")
    return Group.of_moves(moves, len(symbols), *names)


def _tokens(text: str, symbols: Sequence[str]) -> tuple[int, ...]:
    """Read "1-9", or symbols with | between them."""
    first, dash, last = text.partition("-")
    ends = (first, last) if dash and first and last else None
    words = text.split("|") if "|" in text or ends is None else list(ends)
    for word in words:
        if word not in symbols:
            raise ValueError(
                f"there is no symbol {word!r} in the table to be renamed: write tokens:1-9, or "
                "symbols with | between them"
            )
    places = [symbols.index(word) for word in words]
    if ends is not None and "|" not in text:
        places = list(range(min(places), max(places) + 1))
    return tuple(places)
