"""`ostinato solve`: words, files and streams in; boards, lines and JSON out."""

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import ostinato
from ostinato.cli import boards, main, parse
from ostinato.cli import solve as solve_verb
from ostinato.data import sudoku
from ostinato.data.puzzle_files import WrittenPuzzle
from ostinato.inference.search import FIXED, LONGER
from ostinato.weights import FOLDER
from ostinato.weights.save import save_weights
from tests.data.test_sudoku_oracle import is_solved
from tests.inference.stand_in import LookUp
from tests.inference.test_think import random_model

SUDOKU = sudoku.Sudoku(4)
PUZZLES = [SUDOKU.format(p) for p in sudoku.generate(SUDOKU, 5, (4, 8), seed=0)[0]]
PUZZLE = ".1..3..12..4..3."
SOLVED = "4123324123141432"
BOARD = ["4 1 │ 2 3", "3 2 │ 4 1", "────┼────", "2 3 │ 1 4", "1 4 │ 3 2"]
UNSOLVABLE = "12....3........."


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of a model that has learnt nothing."""
    folder = tmp_path_factory.mktemp("run")
    save_weights(folder / "model.safetensors", random_model())
    return str(folder)


@pytest.fixture
def look_up(monkeypatch, run_folder):
    """Any run holds a model that is right."""
    monkeypatch.setattr("ostinato.weights.load.load", lambda *_, **__: LookUp())
    monkeypatch.setattr(boards, "PAUSE", 0.0)
    return run_folder


def solve(capsys, *words: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    try:
        code = main(["solve", *map(str, words)])
    except SystemExit as end:
        assert isinstance(end.code, int)
        code = end.code
    return code, *capsys.readouterr()


def test_a_board_and_a_verdict(capsys, look_up):
    code, out, err = solve(capsys, look_up, PUZZLE)
    assert (code, err) == (0, "")
    assert out.splitlines() == [*BOARD, "", "Solved in 2 steps; the model is 100% sure."]


def test_it_thinks_in_the_dtype_that_it_is_told_to(capsys, run_folder):
    sure = {}
    for dtype in ("float32", "bfloat16"):
        _, out, _ = solve(capsys, run_folder, PUZZLE, "--json", "--forward-dtype", dtype)
        model = ostinato.load(run_folder, forward_dtype=dtype)
        (expected,) = ostinato.solve(model, [PUZZLE], search=LONGER)
        sure[dtype] = json.loads(out)["confidence"]
        assert sure[dtype] == pytest.approx(expected.confidence)
    assert sure["float32"] != pytest.approx(sure["bfloat16"])


def test_it_says_when_the_model_is_wrong(capsys, run_folder):
    code, out, err = solve(capsys, run_folder, PUZZLE)
    assert (code, err) == (1, "")
    answer = re.sub(r"[^.\d]", "", "".join(out.splitlines()[:5]))
    assert len(answer) == 16 and not is_solved(answer, 4)
    *_, problem, remedy = out.splitlines()
    assert re.fullmatch(
        r"Not solved: .* (twice|changed|times) .*; the model is \d+% sure\.", problem
    )
    assert remedy == "--search guesses tries more."
    assert solve(capsys, run_folder, PUZZLE, "--no-verify")[1].endswith(
        "\n--search cascade tries more.\n"
    )
    assert "tries more" not in solve(capsys, run_folder, PUZZLE, "--search", "guesses")[1]


def test_many_puzzles_are_a_line_each(capsys, look_up, tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(["# two", *PUZZLES[:2]]))
    (tmp_path / "more").write_text(f"id,puzzle\n1,{PUZZLES[2]}\n")
    words = [PUZZLE, tmp_path / "list.txt", UNSOLVABLE, "--file", tmp_path / "more"]
    code, out, _ = solve(capsys, look_up, *words)
    assert code == 1
    *lines, summary = out.splitlines()  # and no advice to search
    assert [line.split()[0] for line in lines] == [PUZZLE, *PUZZLES[:2], UNSOLVABLE, PUZZLES[2]]
    assert lines[0] == f"{PUZZLE} {SOLVED} solved in 2 steps; the model is 100% sure"
    assert lines[3] == (
        f"{UNSOLVABLE} {UNSOLVABLE} not solved: the puzzle has no solution; the model is 0% sure"
    )
    assert summary == "4 of 5 puzzles solved"
    code, out, _ = solve(capsys, look_up, *PUZZLES)
    assert code == 0 and out.endswith("\n5 of 5 puzzles solved\n")


def test_json(capsys, look_up):
    code, out, _ = solve(capsys, look_up, "--json", PUZZLE, UNSOLVABLE)
    assert code == 1
    solved, unsolved = map(json.loads, out.splitlines())
    confidence = solved.pop("confidence")
    assert 0.999 < confidence < 1
    assert solved == {
        "puzzle": PUZZLE,
        "answer": SOLVED,
        "solved": True,
        "problem": None,
        "steps": 2,
        "way": "plain",
        "accepted_by": "rules",
        "total_steps": 2,
        "solutions": 1,
        "checked_by": "rules",
    }
    assert unsolved["solutions"] == 0
    assert not unsolved["solved"] and unsolved["problem"].startswith("row 1, column 3")
    code, out, _ = solve(capsys, look_up, "--json", PUZZLE)
    assert code == 0 and json.loads(out)["answer"] == SOLVED
    for flags, accepted_by, steps in (
        (["--no-verify", "--patience=1"], "q", 2),
        (["--no-early-exit"], "rules", 4),
        (["--no-early-exit", "--no-verify"], "q", 4),
        (["--no-verify", "--patience=2"], "q", 3),
    ):
        _, out, _ = solve(capsys, look_up, *flags, "--json", PUZZLE)
        assert json.loads(out)["accepted_by"] == accepted_by
        assert json.loads(out)["total_steps"] == steps


def test_it_says_that_a_puzzle_has_several_solutions(capsys, look_up, run_folder):
    code, out, _ = solve(capsys, look_up, "1" + "." * 15)
    assert code == 0 and "one of several solutions; the model is" in out
    for flags, solutions in (([], 2), (["--no-verify"], None)):
        _, out, _ = solve(capsys, look_up, "1" + "." * 15, "--json", *flags)
        assert json.loads(out)["solutions"] == solutions


def test_words_behind_two_dashes_keep_their_order(capsys, look_up):
    assert solve(capsys, "--json", "--", look_up, PUZZLE)[0] == 0
    assert solve(capsys, look_up, "--json", "--", PUZZLE)[0] == 0


def test_watch_prints_the_steps_one_after_another(capsys, look_up):
    code, out, _ = solve(capsys, look_up, PUZZLE, "--watch", "--no-early-exit")
    assert code == 0
    puzzle, first, second, rest, verdict = out.rstrip("\n").split("\n\n")
    assert puzzle.splitlines()[:2] == ["the puzzle", ". 1 │ . ."]
    assert first.splitlines()[:2] == ["step 1 of 4: 0% sure", "1 1 │ 2 3"]
    assert second.splitlines() == ["step 2 of 4: 100% sure", *BOARD]
    assert rest.splitlines() == [
        f"step {number} of 4: 100% sure, nothing changed" for number in (3, 4)
    ]
    assert verdict == "Solved in 2 steps; the model is 100% sure."


def test_watch_ends_when_the_puzzle_is_solved(capsys, look_up):
    code, out, _ = solve(capsys, look_up, PUZZLE, "--watch")
    assert code == 0 and "step 2 of 8" in out and "step 3" not in out
    code, out, _ = solve(capsys, look_up, PUZZLE, "--watch", "--max-steps", "4")
    assert code == 0 and "step 2 of 4" in out


def test_watch_shows_the_surest_view_as_the_puzzle_has_it(capsys, look_up):
    words = [look_up, PUZZLE, "--watch", "--max-steps", "1", "--search", "symmetries"]
    code, out, _ = solve(capsys, *words, "--views", "3")
    assert code == 0
    *_, last, _ = out.rstrip("\n").split("\n\n")
    assert last.splitlines() == ["step 2 of 2, the surest of 3 symmetric views: 100% sure", *BOARD]


@pytest.mark.parametrize("search", ["noise", "restarts", "guesses", "cascade"])
def test_every_search_can_be_watched(search: str, capsys, look_up):
    words = [look_up, UNSOLVABLE, "--watch", "--max-steps", "1", "--search", search]
    code, out, _ = solve(capsys, *words)
    assert code == 1 and "step 1 of " in out and "0% sure, nothing changed" in out


def test_a_search_goes_on_where_plain_thinking_ends(capsys, look_up):
    """The stand-in needs two steps, and is given one at first."""
    words = [look_up, PUZZLE, "--max-steps", "1", "--json"]
    assert solve(capsys, *words)[0] == 1
    for search, way in (("depth", "plain"), ("symmetries", "symmetry"), ("noise", "noise")):
        code, out, _ = solve(capsys, *words, "--search", search)
        found = json.loads(out)
        assert (code, found["way"], found["accepted_by"]) == (0, way, "rules")
    code, out, _ = solve(capsys, *words, "--search=symmetries", "--view-depth=3", "--no-verify")
    found = json.loads(out)
    assert (found["accepted_by"], found["total_steps"]) == ("q", 1 + 8 * 3)
    code, out, _ = solve(capsys, look_up, PUZZLE, "--max-steps", "1", "--search", "symmetries")
    assert code == 0 and out.endswith(
        "Solved in 2 steps in a symmetric view; the model is 100% sure.\n"
    )


def test_watch_goes_through_all_puzzles(capsys, look_up):
    code, out, _ = solve(
        capsys, look_up, "--watch", PUZZLE, UNSOLVABLE, "--max-steps", "3", "--no-early-exit"
    )
    assert code == 1
    assert out.count("step 3 of 3") == 2
    assert out.endswith(" no solution; the model is 0% sure.\n\n1 of 2 puzzles solved\n")


def test_watch_on_a_terminal(look_up):
    terminal = io.StringIO()
    screen = Console(file=terminal, force_terminal=True, width=60, height=30, color_system="256")
    boards.show(LookUp(), FIXED, WrittenPuzzle(PUZZLE, ""), None, watch=True, screen=screen)
    shown = terminal.getvalue()
    pictures = [f"step {number} of 4" for number in (1, 2, 3, 4)]
    places = [shown.index(text) for text in ("the puzzle", *pictures, "Solved in 2")]
    assert places == sorted(places)
    assert left_on_screen(shown) == [*BOARD, "", "Solved in 2 steps; the model is 100% sure."]


def left_on_screen(output: str) -> list[str]:
    """Return a terminal's last screen, by the few control sequences that an animation needs."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", output):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part[0] not in "\r\x1b":
            lines[row] += part
        else:
            assert part == "\r" or part[-1] in "mlh", f"unknown: {part!r}"
    return lines[: 1 + max(i for i, line in enumerate(lines) if line)]


def test_colours_tell_givens_answers_and_faults_apart():
    givens = SUDOKU.parse("12....3.........")
    answer = np.array([int(digit) + 1 for digit in "2234403131421423"])
    before = answer.copy()
    before[[2, 3]] = 2
    board = boards.paint(SUDOKU, givens, answer, before)
    assert board.plain == SUDOKU.draw(answer)
    styles = {span.start: str(span.style) for span in board.spans}
    cells = [i for i, symbol in enumerate(board.plain) if symbol in ".1234"]
    assert [styles[cell] for cell in cells[:8]] == [
        "bold red",  # a given that was changed
        "bold",  # a given
        "bold red",  # new, but there is a 3 in the box
        "yellow",  # new
        "cyan",
        "bold red",  # no digit
        "bold",
        "cyan",
    ]


def test_a_model_that_comes_with_the_package(capsys, look_up, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "ostinato.weights.load.load", lambda path, _, **__: loaded.append(path) or LookUp()
    )
    for words in ([PUZZLE], ["sudoku9", PUZZLE], [look_up, PUZZLE]):
        assert solve(capsys, *words)[0] == 0
    packaged = FOLDER / "sudoku9.safetensors"
    assert loaded == [packaged, packaged, Path(look_up)] and packaged.is_file()


def test_what_it_fails_on_is_for_the_large_model(capsys, monkeypatch):
    untrained, asked = random_model(), []

    def load(path, *_, **__):
        asked.append(path)
        return untrained

    monkeypatch.setattr("ostinato.weights.load.load", load)
    code, out, _ = solve(capsys, PUZZLE)
    assert code == 1
    assert out.endswith("\n--search guesses tries more.\n")
    assert asked == [FOLDER / "sudoku9.safetensors", FOLDER / "sudoku9-large.safetensors"]


def test_the_model_is_a_folder_or_a_file(capsys, run_folder):
    by_folder = solve(capsys, run_folder, PUZZLE)
    assert by_folder == solve(capsys, f"{run_folder}/model.safetensors", PUZZLE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUN", "123"], "puzzle 1: a 4x4 Sudoku needs 16 characters"),
        (["RUN", PUZZLE, "." * 81], "puzzle 2: .* is a sudoku9, the model was trained on sudoku4"),
        (["RUN", ".1..3..12..4..5."], r"puzzle 1: character '5' at position 15 .* digits 1 to 4"),
        (["RUN", "11.............."], "puzzle 1: the givens contradict each other: .* correct one"),
        (["RUN", "no/puzzles"], "no/puzzles does not exist: give a puzzle, or a file"),
        (["RUN", "no.csv"], "no.csv does not exist: give a puzzle, or a file"),
        (["RUN", "--file", "none"], "none does not exist: give a file of puzzles"),
        (["RUN", "--file", "RUN"], "cannot read .* give another file"),
        (["RUN", PUZZLE, "RUN"], "is no puzzle: the model is the first word"),
        (["RUN"], "standard input holds no puzzle: write one a line"),
        (["RUN", "EMPTY"], "holds no puzzle: write one a line"),
        (["RUN", "TABLE"], r"TABLE:1: the table has no column question or puzzle"),
        (["RUN", "BAD"], r"BAD:3: a 4x4 Sudoku needs 16 characters .* not 15"),
        (["runs/none", PUZZLE], "runs/none does not exist: give a run folder"),
        (["none.safetensors", PUZZLE], "none.safetensors does not exist: give a run folder"),
        (["none", PUZZLE], "none does not exist: give a run folder, or a file of puzzles"),
        (["sudoku9-lagre", PUZZLE], "sudoku9-lagre does not exist: did you mean sudoku9-large?"),
        (["sudoku4-mine", PUZZLE], "sudoku4-mine does not exist: did you mean runs/sudoku4-mine?"),
        (["step_600", PUZZLE], "step_600 does not exist: give"),
        (["last.ckpt", PUZZLE], "last.ckpt is damaged, or holds more"),
        (["g.gguf", PUZZLE], "g.gguf is "),
        (
            ["step_7", PUZZLE],
            "step_7 does not say which puzzles .* ostinato export step_7 .* sudoku4",
        ),
        (["RUN", "step_7"], "step_7 is no puzzle: the model is the first word"),
        (["RUN", "sudoku9"], "sudoku9 is no puzzle: the model is the first word"),
        (["xx3...", PUZZLE], "puzzle 1: a 9x9 Sudoku needs 81 characters"),
        ([PUZZLE], "puzzle 1: .* is a sudoku4, the model was trained on sudoku9"),
        (["EMPTY_FOLDER", PUZZLE], "holds no model.safetensors"),
        (["RUN", PUZZLE, "--json", "--watch"], "choose one of them"),
        (["RUN", PUZZLE, "--max-steps", "0"], "max_steps must be at least 1"),
        (["RUN", PUZZLE, PUZZLE, "--batch-size", "0"], "batch_size must be at least 1"),
        (["RUN", PUZZLE, "--device", "cuda:99"], "no cuda:99 device .* use --device cpu"),
        (["RUN", PUZZLE, "--device", "gpu"], "unknown device 'gpu'"),
        (["RUN", PUZZLE, "--wacth"], "unknown setting --wacth: did you mean --watch?"),
        (["RUN", PUZZLE, "--search", "deep"], "no search 'deep': choose one of depth, symm"),
        (["RUN", PUZZLE, "--search"], "there is no search"),
        (["RUN", PUZZLE, "--sigma", "0.5"], "sigma does nothing without rollouts"),
        (["RUN", PUZZLE, "--max-steps", "many"], "--max-steps.*'many'"),
    ],
)
def test_bad_input(capsys, run_folder, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    Path("EMPTY").write_text("# nothing yet\n")
    Path("TABLE").write_text(f"id,board\n1,{PUZZLE}\n")
    Path("BAD").write_text(f"{PUZZLE}\n\n{PUZZLE[1:]}\n")
    Path("EMPTY_FOLDER").mkdir()
    Path("runs/sudoku4-mine").mkdir(parents=True)
    Path("last.ckpt").write_text("no tensors")
    Path("g.gguf").write_bytes(b"GGUF\0\0")
    model = random_model()
    model.config = replace(model.config, task="")
    save_weights(Path("step_7"), model)
    words = [run_folder if word == "RUN" else word for word in words]
    code, out, err = solve(capsys, *words)
    assert (code, out) == (2, "")
    assert re.fullmatch(f"ostinato: .*{message}.*\n", err), err


def test_a_terminal_is_not_read_unless_asked_for(capsys, run_folder, monkeypatch):
    monkeypatch.setattr(os, "isatty", lambda file: file == 0)
    code, _, err = solve(capsys, run_folder)
    assert code == 2 and "no puzzle: give one" in err


def test_words_may_stand_in_any_order():
    expected = solve_verb.Solve(words=("a", "-", "b"), watch=True, max_steps=3)
    for line in ("a - b --watch --max-steps 3", "--watch a --max-steps=3 - b", "a --watch - b"):
        words = line.split()
        words += [] if "3" in line else ["--max-steps", "3"]
        assert parse(["solve", *words]).__self__ == expected  # pyright: ignore


def test_a_process_of_its_own(run_folder, tmp_path):
    (tmp_path / "list.txt").write_text(PUZZLES[0])
    (tmp_path / "table.csv").write_text(f"question,answer\n{PUZZLES[1]},?\n{PUZZLES[2]},?\n")
    words = ["table.csv", PUZZLES[3], "-", "list.txt", "--max-steps", "2", "--json"]
    result = subprocess.run(
        [sys.executable, "-m", "ostinato", "solve", run_folder, *words],
        input=f"# typed\n{PUZZLES[4]}\n",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (1, "")
    solutions = [json.loads(line) for line in result.stdout.splitlines()]
    assert [solution["puzzle"] for solution in solutions] == [PUZZLES[i] for i in (1, 2, 3, 4, 0)]
    assert not any(solution["solved"] for solution in solutions)
