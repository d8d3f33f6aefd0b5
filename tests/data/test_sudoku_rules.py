"""Tokens and rules against counting by hand and boards written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostinato.data.sudoku import Sudoku, sudoku_of
from tests.data.test_sudoku_oracle import KNOWN_ANSWER, KNOWN_PUZZLE, is_solved, peers

SIZES = pytest.mark.parametrize("size", [4, 6, 9, 16])
LETTERS = "123456789ABCDEFG"
GRIDS = {
    4: "1234341221434321",
    6: "123456456123231564564231312645645312",
    9: KNOWN_ANSWER,
    16: "".join(LETTERS[(4 * row + row // 4 + col) % 16] for row in range(16) for col in range(16)),
}


def boards(size: int) -> st.SearchStrategy[str]:
    digits = "123456789"[:size]
    return st.text(alphabet="." + digits, min_size=size**2, max_size=size**2)


@SIZES
def test_cells_share_a_unit_exactly_if_they_are_peers(size):
    sudoku = Sudoku(size)
    assert sorted(map(len, sudoku.units)) == [size] * (3 * size)
    for cell in range(sudoku.seq_len):
        mates = {mate for unit in sudoku.units if cell in unit for mate in unit.tolist()}
        assert mates == peers(size)[cell] | {cell}
        assert {u for u, unit in enumerate(sudoku.units) if cell in unit} == set(
            sudoku.cell_units[cell].tolist()
        )


def test_tokens_are_those_of_the_papers():
    tokens = Sudoku(4).parse("10.3 ..2.\n 4... .1..")
    assert tokens.dtype == np.uint8
    assert tokens.tolist() == [2, 1, 1, 4, 1, 1, 3, 1, 5, 1, 1, 1, 1, 2, 1, 1]


@SIZES
def test_format_writes_what_parse_read(size):
    sudoku = Sudoku(size)
    board = GRIDS[size].replace("2", ".")
    spaced = "\n ".join(board.replace(".", "0"))
    assert sudoku.format(sudoku.parse(spaced)) == board
    assert sudoku.format(sudoku.parse(spaced.lower())) == board
    assert sudoku.format(np.arange(-300, sudoku.seq_len - 300)) == "." * sudoku.seq_len


@pytest.mark.parametrize(
    ("size", "text", "message"),
    [
        (9, KNOWN_PUZZLE[:-1], "9x9 Sudoku needs 81 characters .* not 80"),
        (4, "1" * 36, "4x4 Sudoku needs 16 characters .* not 36"),
        (
            4,
            "....|...........",
            r"'\|' at position 5 \(row 2, column 1\).*digits 1 to 4, and \. or 0",
        ),
        (4, "...............5", r"'5' at position 16 \(row 4, column 4\)"),
        (6, "²" + "." * 35, r"'²' at position 1 \(row 1, column 1\)"),
        (
            16,
            "H" + "." * 255,
            r"'H' at position 1 .*: use the digits 1 to 9 and A to G, and . or 0",
        ),
        (16, "c" + "." * 14 + "C" + "." * 240, "digit C stands twice in row 1"),
        (4, "3..3............", "digit 3 stands twice in row 1"),
        (6, "....5." + "." * 24 + "....5.", "digit 5 stands twice in column 5"),
        (6, "." * 15 + "4......4" + "." * 13, "digit 4 stands twice in box 4"),
    ],
)
def test_parse_names_what_is_wrong(size, text, message):
    with pytest.raises(ValueError, match=message) as error:
        Sudoku(size).parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [4, 6])
@given(data=st.data())
def test_conflicts_are_exactly_the_repeated_digits(size, data):
    board = data.draw(boards(size))
    sudoku = Sudoku(size)
    box_rows, box_cols = {4: (2, 2), 6: (2, 3)}[size]
    groups: dict[str, list[str]] = {}
    for cell, digit in enumerate(board):
        row, col = divmod(cell, size)
        box = row // box_rows * (size // box_cols) + col // box_cols
        for name in (f"row {row + 1}", f"column {col + 1}", f"box {box + 1}"):
            groups.setdefault(name, []).append(digit)
    times = {2: "twice"} | {n: f"{n} times" for n in range(3, size + 1)}
    expected = {
        f"digit {digit} stands {times[group.count(digit)]} in {name}"
        for name, group in groups.items()
        for digit in set(group) - {"."}
        if group.count(digit) > 1
    }
    tokens = np.array([1 if symbol == "." else int(symbol) + 1 for symbol in board])
    conflicts = sudoku.conflicts(tokens)
    assert set(conflicts) == expected
    assert len(conflicts) == len(expected)


@pytest.mark.parametrize("size", [4, 6, 9])
@given(data=st.data())
def test_check_accepts_solved_boards_only(size, data):
    sudoku, solution = Sudoku(size), GRIDS[size]
    givens = data.draw(st.sets(st.integers(0, size**2 - 1)))
    puzzle = sudoku.parse("".join(d if i in givens else "." for i, d in enumerate(solution)))
    answer = sudoku.parse(solution)
    assert sudoku.check(puzzle, answer) is None

    cell = data.draw(st.integers(0, size**2 - 1))
    answer[cell] = data.draw(st.integers(0, sudoku.vocab_size - 1))
    verdict = sudoku.check(puzzle, answer)
    unchanged = all(answer[given] == puzzle[given] for given in givens)
    assert (verdict is None) == (unchanged and is_solved(sudoku.format(answer), size))


def test_check_says_what_is_wrong():
    sudoku = Sudoku(4)
    puzzle = sudoku.parse("1..............1")
    answer = sudoku.parse("1234341243212143".replace("3", "."))
    assert sudoku.check(puzzle, answer) == "the given 1 in row 4, column 4 was changed to no digit"
    empty = sudoku.parse("." * 16)
    answer = sudoku.parse(GRIDS[4])
    answer[5] = 1
    assert sudoku.check(empty, answer) == "row 2, column 2 holds no digit"
    answer[[6, 9]] = 0
    assert sudoku.check(empty, answer) == "row 2, column 2 and 2 more cells hold no digit"
    answer[[5, 6, 9]] = 3
    assert sudoku.check(empty, answer) == "digit 2 stands 3 times in row 2"
    answer[0] = 3
    assert (
        sudoku.check(sudoku.parse("1" + "." * 15), answer)
        == "the given 1 in row 1, column 1 was changed to 2"
    )


@SIZES
def test_sudoku_of_finds_the_size(size):
    assert sudoku_of(" \n".join(GRIDS[size])) == Sudoku(size)


def test_sudoku_of_names_the_possible_lengths():
    with pytest.raises(ValueError, match=r"16 \(4x4\), 36 \(6x6\), 81 \(9x9\) or 256 .*not 80"):
        sudoku_of("." * 80)


def test_unknown_size():
    with pytest.raises(ValueError, match="choose 4, 6, 9 or 16"):
        Sudoku(12)


@pytest.mark.parametrize("size", [4, 6])
@given(data=st.data())
def test_faults_are_the_cells_that_break_a_rule(size, data):
    sudoku, solution = Sudoku(size), GRIDS[size]
    kept = data.draw(st.sets(st.integers(0, size**2 - 1)))
    puzzle = "".join(d if i in kept else "." for i, d in enumerate(solution))
    # A few cells of a solved board are changed, so that most have no fault
    changes = data.draw(
        st.dictionaries(
            st.integers(0, size**2 - 1), st.sampled_from("." + solution[:size]), max_size=4
        )
    )
    answer = "".join(changes.get(i, d) for i, d in enumerate(solution))
    expected = [
        answer[i] == "."
        or (
            answer[i] != puzzle[i]
            if i in kept
            else answer[i] in {answer[p] for p in peers(size)[i]}
        )
        for i in range(size**2)
    ]
    tokens = np.array([1 if symbol == "." else int(symbol) + 1 for symbol in answer])
    givens = sudoku.parse(puzzle)
    assert sudoku.faults(givens, tokens).tolist() == expected
    assert any(expected) == (sudoku.check(givens, tokens) is not None)


def test_draw():
    assert Sudoku(4).draw(Sudoku(4).parse("1234............")) == "\n".join(
        ["1 2 │ 3 4", ". . │ . .", "────┼────", ". . │ . .", ". . │ . ."]
    )
    assert Sudoku(6).draw(Sudoku(6).parse(GRIDS[6])).splitlines()[1:4] == [
        "4 5 6 │ 1 2 3",
        "──────┼──────",
        "2 3 1 │ 5 6 4",
    ]
    nine = Sudoku(9).draw(Sudoku(9).parse(GRIDS[9])).splitlines()
    assert len(nine) == 11 and {len(line) for line in nine} == {21}
    assert [i for i, line in enumerate(nine) if "┼" in line] == [3, 7]


def test_marked_cells_are_drawn_in_place():
    sudoku = Sudoku(4)
    tokens = sudoku.parse("1234............")
    marked = sudoku.draw(tokens, lambda cell, symbol: f"<{symbol}>" if cell in (1, 6) else symbol)
    assert marked.splitlines()[:2] == ["1 <2> │ 3 4", ". . │ <.> ."]
