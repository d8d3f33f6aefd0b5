"""Sudoku boards in files, in the forms that the usual programs write."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.data.puzzle_files import read_puzzles
from ostinato.data.sudoku import Sudoku, SudokuData, generate
from tests.data.test_sudoku_oracle import KNOWN_ANSWER, KNOWN_PUZZLE

ROWS = [KNOWN_PUZZLE[start : start + 9] for start in range(0, 81, 9)]
THREES = [[row[:3], row[3:6], row[6:]] for row in ROWS]


def framed(rows: list[str], rule: str, top: str = "", bottom: str = "") -> str:
    lines = [*rows[:3], rule, *rows[3:6], rule, *rows[6:]]
    return "\n".join([*[top] * bool(top), *lines, *[bottom] * bool(bottom)]) + "\n"


FORMS = {
    "nine lines": "\n".join(ROWS),
    "spaced": "\n".join(" ".join(row).replace(".", "0") for row in ROWS),
    "sdk": "\n".join(["#ANobody", "#D a comment", "[Puzzle]", *ROWS, "[State]", *["1" * 9] * 9]),
    "ss": framed(["|".join(row) for row in THREES], "-" * 11),
    "simple": framed(
        [f" |{'|'.join(row)}|" for row in THREES],
        " |---+---+---|",
        " *-----------*",
        " *-----------*",
    ),
    "qqwing": framed(
        [" " + " | ".join(" ".join(three) for three in row) + " " for row in THREES],
        "-------|-------|-------",
    ),
    "hodoku": framed(
        ["| " + " | ".join("  ".join(three) for three in row) + " |" for row in THREES],
        ":---------+---------+---------:",
        ".---------.---------.---------.",
        "'---------'---------'---------'",
    ),
    "sdm": f"{KNOWN_PUZZLE}\n",
    "bank": f"0000183b305c {KNOWN_PUZZLE.replace('.', '0')} 7.1\n",
    "kaggle": f"quizzes,solutions\n{KNOWN_PUZZLE.replace('.', '0')},{KNOWN_ANSWER}\n",
    "semicolons": f"id;Puzzle\n1;{KNOWN_PUZZLE}\n",
}
ENCODINGS = {"utf-8": "\n", "utf-8-sig": "\r\n", "utf-16": "\r\n"}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(tmp_path: Path, form: str, encoding: str):
    path = tmp_path / "puzzles.txt"
    path.write_bytes(FORMS[form].replace("\n", ENCODINGS[encoding]).encode(encoding))
    sudoku = Sudoku(9)
    (found,) = read_puzzles(path, sudoku.boards)
    assert sudoku.format(sudoku.parse(found.text)) == KNOWN_PUZZLE


@settings(max_examples=30)
@given(
    st.sampled_from([4, 6, 9]).flatmap(
        lambda size: st.lists(
            st.lists(st.integers(1, size + 1), min_size=size**2, max_size=size**2),
            min_size=1,
            max_size=3,
        )
    )
)
def test_boards_are_read_as_they_are_drawn(boards: list[list[int]]):
    sudoku = Sudoku(int(len(boards[0]) ** 0.5))
    lines = "\n\n".join(sudoku.draw(np.array(b)).replace("─", "-") for b in boards)
    lines = lines.replace("│", "|").replace("┼", "+").split("\n")
    found = [text for _, text in sudoku.boards(iter(lines))]
    assert found == [sudoku.format(np.array(board)) for board in boards]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ROWS[:5],
            "puzzles.sdk: the board before line 5 has 5 rows, not 9",
        ),
        ([*ROWS[:8], ROWS[8] + "1"], "the board before line 9 has 8 rows"),
        (["." * 81], "puzzles.sdk:1: the puzzle has several answers"),
        ([f"12345678.{'.' * 8}9{'.' * 63}"], "puzzles.sdk:1: the puzzle has no answer"),
        (["1" * 80], "puzzles.sdk:1: a 9x9 Sudoku needs 81 characters"),
    ],
)
def test_mistakes_in_files(tmp_path: Path, lines: list[str], message: str):
    path = tmp_path / "puzzles.sdk"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        Sudoku(9).read_table(path, lambda line: None)


def test_boards_without_answers_are_data_too(tmp_path: Path):
    path = tmp_path / "puzzles.sdm"
    path.write_text(f"{KNOWN_PUZZLE}\n")
    puzzles = Sudoku(9).read_table(path, lambda line: None)
    assert Sudoku(9).format(puzzles.labels[0]) == KNOWN_ANSWER
    with pytest.raises(ValueError, match="only 0 different puzzles are left for validation"):
        SudokuData(source=str(path), num_test=1, num_validation=1).prepare(
            tmp_path, lambda line: None
        )


def test_16x16_boards_are_read_in_frames():
    sudoku = Sudoku(16)
    puzzle = generate(sudoku, 1, (140, 150), seed=0)[0][0]
    drawn = sudoku.draw(puzzle).replace("│", "|").replace("─", "-").replace("┼", "+")
    for text in (drawn, drawn.lower(), sudoku.format(puzzle), drawn.replace(" ", "\t")):
        ((_, board),) = sudoku.boards(iter(text.splitlines()))
        assert (sudoku.parse(board) == puzzle).all()
