"""Find Sudoku boards in text files, as the usual programs write them.

one a line          .sdm; also with more in the line: hash, puzzle and rating
a line a row        nine lines; with spaces or | between boxes and rules of dashes (.ss,
                    QQWing, HoDoKu)
with headers        # and [Puzzle] (.sdk); other sections, such as [State], are left out
"""

from __future__ import annotations

import re
from collections.abc import Iterator

RULE = re.compile(r"[-+|.:'*=_ \t]*---[-+|.:'*=_ \t]*")
"""A line between boxes, or around the board."""
SECTION = re.compile(r"\[(.*)\]")


def sudoku_boards(lines: Iterator[str], size: int) -> Iterator[tuple[int, str]]:
    """Find the boards of a size, each on one line, with the number of its first line.

    A line that is neither a puzzle nor a row is yielded as it is: it is a mistake. Raises
    ValueError for a board that ends early.
    """
    row = re.compile(rf"[0-9A-Za-z.]{{{size}}}")
    whole = re.compile(rf"[0-9A-Za-z.]{{{size**2}}}")
    board: list[str] = []
    first = number = 0
    left_out = False
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if section := SECTION.fullmatch(text):
            left_out = section[1].strip().lower() not in ("puzzle", "sudoku")
            continue
        if left_out or not text or RULE.fullmatch(text):
            continue
        cells = re.sub(r"[\s|]", "", text)
        if row.fullmatch(cells):
            first = number if not board else first
            board.append(cells)
            if len(board) == size:
                yield first, "".join(board)
                board = []
        elif board:
            break
        else:
            words = [word for word in text.split() if whole.fullmatch(word)]
            yield number, words[0] if len(words) == 1 else cells if whole.fullmatch(cells) else text
    if board:
        raise ValueError(
            f"the board before line {number} has {len(board)} rows, not {size}: complete it"
        )
