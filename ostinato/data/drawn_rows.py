"""Token rows of ARC that are drawn from the grids of the tasks on access.

A thousand variants of a task show the same few grids. So only the grids are stored, plus about ten
bytes per example instead of the 1800 of its two canvases:

    all__grids.npy         colours of all grids, one after the other
    all__shapes.npy        rows and columns of each; pair k has the grids 2k, its input, and 2k+1
    all__first_pairs.npy   the first pair of puzzle p
    all__symmetries.npy    the symmetry of puzzle p, a number of `ostinato.data.symmetries`
    all__colours.npy       the new names of the ten colours in puzzle p
    all__corners.npy       row and column of example i on the canvas

These files replace `all__inputs.npy` and `all__labels.npy`.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from jaxtyping import Int, Int64, Integer, UInt8

from ostinato.data.grids import FIRST_COLOUR, Grid, place
from ostinato.data.symmetries import TURNING, transform
from ostinato.decoding import rises


@dataclass(frozen=True, eq=False)
class Drawings:
    """Hold the arrays that the rows of a split are drawn from, under the names of their files."""

    grids: UInt8[np.ndarray, " cells"]
    shapes: UInt8[np.ndarray, "grids 2"]
    first_pairs: Int[np.ndarray, " puzzles"]
    symmetries: UInt8[np.ndarray, " puzzles"]
    colours: UInt8[np.ndarray, "puzzles 10"]
    corners: UInt8[np.ndarray, "examples 2"]

    def files(self) -> dict[str, np.ndarray]:
        """Return the arrays by the names of their files."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def fault(self, puzzle_indices: np.ndarray, side: int) -> str | None:
        """Say what is wrong with the arrays; None if nothing is."""
        puzzles, examples = len(self.first_pairs), len(self.corners)
        bounds = puzzle_indices.astype(np.int64)
        if len(bounds) != puzzles + 1 or not rises(bounds, examples):
            return f"puzzle_indices does not increase from 0 to {examples}"
        sizes, counts = self.shapes.astype(np.int64), np.diff(bounds)
        if len(self.grids) != sizes.prod(1).sum() or sizes.max() > side:
            return f"the shapes of the grids do not fit the cells, or a canvas of {side}×{side}"
        if self.grids.max() > 9 or self.symmetries.max() > 7:
            return "a colour is not one of 0 to 9, or a symmetry not one of 0 to 7"
        if (np.sort(self.colours, axis=1) != np.arange(10)).any():
            return "the new names of the colours are not a permutation"
        firsts = self.first_pairs.astype(np.int64)  # checked too: the sum may have overflowed
        if firsts.min() < 0 or max(firsts.max(), 2 * (firsts + counts).max()) > len(sizes):
            return "a puzzle has pairs that do not exist"
        owners = np.repeat(np.arange(puzzles), counts)
        pairs = (firsts - bounds[:-1])[owners] + np.arange(examples)
        extents = np.maximum(self.shapes[2 * pairs], self.shapes[2 * pairs + 1])
        turned = np.isin(self.symmetries, TURNING)[owners]
        extents[turned] = extents[turned, ::-1]
        if (self.corners.astype(np.uint16) + extents).max() > side:
            return f"a grid leaves the canvas of {side}×{side}"
        return None

    @cached_property
    def each(self) -> list[Grid]:
        """Return the grids as views."""
        sizes = self.shapes.astype(np.int64)
        starts = np.cumsum(sizes.prod(1))[:-1]
        pieces = np.split(np.asarray(self.grids), starts)
        return [piece.reshape(shape) for piece, shape in zip(pieces, sizes, strict=True)]


@dataclass(frozen=True, eq=False)
class DrawnRows:
    """Act as an array of tokens, [examples, seq], as far as batches need it."""

    drawings: Drawings
    puzzle_indices: Integer[np.ndarray, " puzzles_plus_1"]
    output: bool
    """Show the output of each pair; False: its input."""
    side: int
    """Number of rows of the canvas."""

    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.side**2

    def __len__(self) -> int:
        return len(self.drawings.corners)

    def __getitem__(
        self, examples: int | slice | Integer[np.ndarray, " rows"]
    ) -> UInt8[np.ndarray, "*rows cells"]:
        if isinstance(examples, int):
            return self[np.array([examples])][0]
        if isinstance(examples, slice):
            examples = np.arange(*examples.indices(len(self)))
        puzzles, grids = self._owners(examples)
        draw = self.drawings
        tokens = draw.colours[puzzles] + np.uint8(FIRST_COLOUR)
        canvases = np.zeros((len(examples), self.side, self.side), np.uint8)
        rows = zip(
            canvases,
            tokens,
            grids.tolist(),
            draw.symmetries[puzzles].tolist(),
            draw.corners[examples].tolist(),
            strict=True,
        )
        for canvas, names, grid, symmetry, (row, col) in rows:
            place(canvas, names[transform(draw.each[grid], symmetry)], row, col)
        return canvases.reshape(len(examples), -1)

    def _owners(
        self, examples: Integer[np.ndarray, " rows"]
    ) -> tuple[Int64[np.ndarray, " rows"], Int64[np.ndarray, " rows"]]:
        """Return the puzzle and the grid of each example."""
        # With equal dtypes searchsorted does not convert the whole array each time
        examples = examples.astype(self.puzzle_indices.dtype)
        puzzles = np.searchsorted(self.puzzle_indices, examples, side="right") - 1
        pairs = self.drawings.first_pairs[puzzles] + examples - self.puzzle_indices[puzzles]
        return puzzles, 2 * pairs.astype(np.int64) + self.output


FILES = tuple(field.name for field in fields(Drawings))


def drawn_rows(
    files: dict[str, np.ndarray], puzzle_indices: np.ndarray, side: int
) -> tuple[DrawnRows, DrawnRows]:
    """Return inputs and labels of a split. Raises ValueError if the arrays do not fit together."""
    puzzles, examples = len(files["first_pairs"]), len(files["corners"])
    shapes = {"symmetries": (puzzles,), "colours": (puzzles, 10), "corners": (examples, 2)}
    for name, array in files.items():
        kind = array.dtype.kind if name == "first_pairs" else array.dtype.str[1:]
        shape = shapes.get(name, (len(array), 2) if name == "shapes" else (len(array),))
        if array.shape != shape or not array.size or kind not in ("i", "u1"):
            fit = f"{name} of dtype {array.dtype} and shape {array.shape} does not fit the others"
            raise ValueError(f"{fit}; build the data set again")
    draw = Drawings(**files)
    fault = draw.fault(puzzle_indices, side)
    if fault:
        raise ValueError(f"{fault}; build the data set again")
    inputs, labels = (DrawnRows(draw, puzzle_indices, output, side) for output in (False, True))
    return inputs, labels
