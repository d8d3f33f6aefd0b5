"""Training, validation and test rows that are no symmetric copies of each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt64

from ostinato.data.sudoku.generator import generate
from ostinato.data.sudoku.rules import Sudoku
from ostinato.data.sudoku.symmetry import signature
from ostinato.data.sudoku.table import Rows, join, read_csv

CHUNK = 8192  # puzzles generated between two lines of the report
SATURATED = 1 / 1000  # of a chunk is new: practically all different puzzles have been found


def generated_splits(
    sudoku: Sudoku,
    counts: dict[str, int],
    givens: tuple[int, int],
    seed: int,
    report: Callable[[str], None],
) -> dict[str, Rows]:
    """Random puzzles, all different under the symmetries.

    Raises ValueError if there are not as many different ones.
    """
    rng = np.random.default_rng(seed)
    rows = _generated(sudoku, sum(counts.values()), givens, rng, np.zeros(0, np.uint64), report)
    pieces = np.split(np.arange(len(rows)), np.cumsum(list(counts.values()))[:-1])
    return {split: rows.take(piece) for split, piece in zip(counts, pieces, strict=True)}


def _generated(
    sudoku: Sudoku,
    wanted: int,
    givens: tuple[int, int],
    rng: np.random.Generator,
    seen: UInt64[np.ndarray, " seen"],
    report: Callable[[str], None],
) -> Rows:
    """Random puzzles in random order that copy neither each other nor those `seen`."""
    parts: list[Rows] = []
    found = number = 0
    while found < wanted:
        number = min(max(wanted - found, 2 * number), CHUNK)
        puzzles, solutions = generate(sudoku, number, givens, int(rng.integers(2**63)))
        rows = Rows(sudoku, puzzles, solutions, np.full(number, np.nan, np.float32))
        fresh, signatures = _fresh(rows, np.arange(number), seen)
        parts.append(rows.take(fresh))
        seen = np.concatenate([seen, signatures[fresh]])
        found += len(fresh)
        report(f"generated {min(found, wanted)} of {wanted} {sudoku.name} puzzles")
        if found < wanted and number == CHUNK and len(fresh) < SATURATED * CHUNK:
            raise ValueError(
                f"found only {found} different {sudoku.name} puzzles with {givens[0]} to "
                f"{givens[1]} givens, not {wanted}: ask for fewer or widen the range of givens"
            )
    # Rare kinds tend to be found late, so mix before any of them is left out.
    return join(parts).take(rng.permutation(found)[:wanted])


def csv_splits(
    sudoku: Sudoku,
    files: dict[str, Path],
    counts: dict[str, int],
    seed: int,
    report: Callable[[str], None],
    num_generated: int = 0,
    givens: tuple[int, int] = (0, 0),
) -> dict[str, Rows]:
    """A random choice of the rows in CSV files, which are given by split; 0 asks for all rows.

    `num_generated` random puzzles with so many givens join the training rows.

    A split without a file is taken from training rows. Symmetric copies are dropped: of test rows
    from validation, and of test, validation or other training rows from training.
    Raises ValueError if too few rows are left.
    """
    rng = np.random.default_rng(seed)
    splits = {}
    seen = np.zeros(0, np.uint64)
    for split in ("test", "validation"):
        if split in files:
            rows = read_csv(sudoku, files[split], report)
            # All rows of the file count as seen, so that choosing more of them later is safe.
            fresh, signatures = _fresh(rows, np.arange(len(rows)), seen)
            seen = np.concatenate([seen, signatures])
            _report_copies(report, split, len(rows) - len(fresh))
            _check_enough(split, counts[split], len(fresh))
            chosen = rng.permutation(fresh)[: counts[split] or None]
            splits[split] = rows.take(np.sort(chosen))

    rows = read_csv(sudoku, files["train"], report)
    order = rng.permutation(len(rows))
    for split in ("test", "validation"):
        if split not in files:
            if not counts[split]:
                raise ValueError(f"there is no {split}.csv: set num_{split} to at least 1")
            # From the back, so that the training rows do not depend on how many are held out.
            chosen, seen, passed = _take(rows, order[::-1], counts[split], seen, split)
            splits[split] = rows.take(chosen)
            order = order[: len(order) - passed]
    chosen, seen, passed = _take(rows, order, counts["train"], seen, "train")
    splits["train"] = rows.take(chosen)
    _report_copies(report, "train", passed - len(chosen))
    if num_generated:
        generated = _generated(sudoku, num_generated, givens, rng, seen, report)
        splits["train"] = join([splits["train"], generated])
    return {split: splits[split] for split in counts}


def _take(
    rows: Rows,
    order: Integer[np.ndarray, " rows"],
    count: int,
    seen: UInt64[np.ndarray, " seen"],
    split: str,
) -> tuple[Integer[np.ndarray, " chosen"], UInt64[np.ndarray, " seen+chosen"], int]:
    """The first `count` rows in order that are no copies, and how many were passed to get them."""
    wanted = count or len(order)
    window = wanted
    while True:
        window = min(len(order), window + window // 8 + 64)
        fresh, signatures = _fresh(rows, order[:window], seen)
        if len(fresh) >= wanted or window == len(order):
            break
    _check_enough(split, count, len(fresh))
    fresh = fresh[:wanted]
    passed = int(fresh[-1]) + 1 if count else len(order)
    return order[fresh], np.concatenate([seen, signatures[fresh]]), passed


def _fresh(
    rows: Rows, order: Integer[np.ndarray, " rows"], seen: UInt64[np.ndarray, " seen"]
) -> tuple[Integer[np.ndarray, " fresh"], UInt64[np.ndarray, " rows"]]:
    """The places in `order` of rows that copy neither `seen` nor an earlier row; all signatures."""
    signatures = signature(rows.sudoku, rows.inputs[order], rows.labels[order])
    _, first = np.unique(np.concatenate([seen, signatures]), return_index=True)
    return np.sort(first[first >= len(seen)]) - len(seen), signatures


def _check_enough(split: str, count: int, available: int) -> None:
    if available < max(count, 1):
        asked, lower = (f", not {count}", f"lower num_{split} or ") if count else ("", "")
        raise ValueError(
            f"only {available} different puzzles are left for {split}{asked}: {lower}give a file "
            "with more rows"
        )


def _report_copies(report: Callable[[str], None], split: str, dropped: int) -> None:
    if dropped:
        report(f"{split}: dropped {dropped} rows, symmetric copies of others")
