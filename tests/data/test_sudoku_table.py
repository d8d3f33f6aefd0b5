"""Faulty CSV files are refused with file, line and remedy, and leave nothing behind."""

import pytest

from ostinato.data.sudoku import SudokuData
from tests.data.test_sudoku_oracle import KNOWN_ANSWER, KNOWN_PUZZLE

QUESTION, ANSWER = KNOWN_PUZZLE, KNOWN_ANSWER
GOOD = f"x,{QUESTION},{ANSWER},"
# Row 1 begins with 5 3 4 6 and row 2 with 6 7 2 1: without any 5 and 6, these change places
SWAPPED = ANSWER.translate(str.maketrans("56", "65"))
TWO = [f"x,{ANSWER.translate(str.maketrans('56', '..'))},{answer}," for answer in (ANSWER, SWAPPED)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["source,question,rating", "x,,"], r":1: no column 'answer' in 'source,question,rating'"),
        (["source,question,answer", GOOD], r":2: 4 values for 3 columns"),
        ([f"x,{QUESTION[1:]},{ANSWER},"], r":2: question of 80 characters; a 9x9 Sudoku has 81"),
        ([GOOD, f"x,{QUESTION},{ANSWER}1,"], r":3: answer of 82 characters"),
        (["", f"x,{QUESTION[:-1]}x,{ANSWER},"], r":3: character 'x' at position 81 of question"),
        ([f"x,{QUESTION},²{ANSWER[1:]},"], r":2: character '²' at position 1 of answer"),
        (
            [GOOD, GOOD, f"x,{QUESTION},{ANSWER.translate(str.maketrans('56', '65'))},"],
            r":4: wrong answer: the given 5 in row 1, column 1 was changed to 6; correct it$",
        ),
        (
            [f"x,{'.' * 81},{ANSWER[:-1]}8,"],
            r":2: wrong answer: digit 8 stands twice in row 9; correct",
        ),
        ([f"x,{QUESTION},{ANSWER[:-1]}.,"], r":2: wrong answer: .*row 9, column 9"),
        ([f"x,{'.' * 81},{ANSWER},", GOOD], r":2: fewer than 17 givens, so that more than one"),
        ([GOOD, TWO[0], GOOD, TWO[1]], r":5: the question of .*bad.csv:3 with another answer"),
        ([f"{GOOD}hard"], r":2: rating 'hard' is no number"),
        ([], ": no rows"),
    ],
)
def test_faulty_csv_files(tmp_path, lines, message):
    if not lines or not lines[0].startswith("source"):
        lines = ["source,question,answer,rating", *lines]
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match="bad.csv" + message) as error:
        SudokuData(source=str(path)).prepare(tmp_path / "root", print)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "root").iterdir()) == []
