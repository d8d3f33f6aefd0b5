"""Files of puzzles, as people and spreadsheets write them."""

import os
from pathlib import Path

import pytest

from ostinato.data.puzzle_files import read_puzzles


@pytest.fixture
def write(tmp_path: Path):
    def write(content: str | bytes, name: str = "puzzles.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def read(path: Path) -> list[tuple[str, int]]:
    """Text and line number of every puzzle."""
    puzzles = list(read_puzzles(path))
    places = [puzzle.place.rpartition(":") for puzzle in puzzles]
    assert all(name == str(path) for name, _, _ in places)
    return [(puzzle.text, int(line)) for puzzle, (_, _, line) in zip(puzzles, places, strict=True)]


def test_one_a_line(write):
    path = write("# mine\n\n12..\n  3.4. # hard\r\n#....\n\t\n1 2 3 4")
    assert read(path) == [("12..", 3), ("3.4.", 4), ("1 2 3 4", 7)]


@pytest.mark.parametrize("column", ["question", "puzzle", "Puzzle"])
def test_a_table(write, column):
    path = write(f'source,{column},answer\n"a, b",12..,1234\n\n,"3.4.",3142\n', "puzzles.csv")
    assert read(path) == [("12..", 2), ("3.4.", 4)]


def test_a_table_below_a_comment(write):
    assert read(write("# from the net\n\nquestion\n12..\n")) == [("12..", 4)]


def test_what_spreadsheets_do(write):
    content = b"\xef\xbb\xbfid,puzzle\r\n1,12..\r\n2,34..\r\n"
    assert read(write(content)) == [("12..", 2), ("34..", 3)]
    assert read(write(b"\xef\xbb\xbf12..\r\n")) == [("12..", 1)]


def test_a_stream_is_read_line_by_line():
    reader, writer = os.pipe()
    puzzles = read_puzzles(Path(f"/dev/fd/{reader}"))
    for text in ("12..", "34.."):  # the second is not there yet when the first is wanted
        os.write(writer, f"{text}\n".encode())
        assert next(puzzles).text == text
    os.close(writer)
    assert list(puzzles) == []
    os.close(reader)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "puzzles.txt holds no puzzle: write one a line"),
        ("# nothing\n\n", "puzzles.txt holds no puzzle"),
        ("question,answer\n", "puzzles.txt holds no puzzle"),
        ("#\n12..,1234\n", "puzzles.txt:2: the table has no column question or puzzle"),
        ("question,answer\n12..,1234\n12..\n", "puzzles.txt:3: 1 values for 2 columns"),
        (
            "question,answer\n" + "1" * 200_000 + ",1",
            "puzzles.txt:2: no CSV .field larger than",
        ),
    ],
)
def test_files_without_puzzles(write, content, message):
    with pytest.raises(ValueError, match=message):
        list(read_puzzles(write(content)))


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .* \(Is a directory\): give another file"):
        list(read_puzzles(tmp_path))


def test_bytes_that_are_no_text_stay_visible(write):
    assert read(write(b"\xff12.\n")) == [("\N{REPLACEMENT CHARACTER}12.", 1)]
