"""Mazes on the command line: trained on, measured, read from files and drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ostinato.cli import boards, main
from ostinato.data.maze import Maze, generate, labelled
from ostinato.models import Output, State
from tests.inference.stand_in import StandIn

MAZE = Maze(4)
BOARD = "S..#\n.#\n\x20\x20\x20\x20\n#..G\n"
LINE = "S..#.#......#..G"
ANSWER = "S..#o#..oo..#ooG"
DRAWN = ["S     ██", "• ██", "• •", "██• • G"]
UNDECIDED = "S.............#G"


class LookUp(StandIn):
    """Finds the path of the label, except in the one maze that it does not try to solve."""

    def __init__(self):
        super().__init__(MAZE.name, 6, 16, halt_max_steps=2)

    def reply(self, state: State, inputs: Tensor, puzzle_ids: Tensor) -> Output:
        tokens = inputs.numpy().astype(np.uint8)
        answers = np.where(tokens == 0, 1, labelled(tokens).labels)
        answers[[MAZE.format(row) == UNDECIDED for row in tokens]] = MAZE.parse(UNDECIDED)
        logits = torch.nn.functional.one_hot(torch.from_numpy(answers).long(), 6)
        return Output(logits.float(), torch.ones(len(inputs)), None)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ostinato.weights.load.load", lambda *_, **__: LookUp())
    Path("run").mkdir()
    return "run"


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    code = main(list(words))
    return code, capsys.readouterr().out.splitlines()


def test_a_maze_in_several_lines_is_drawn_with_its_path(run, capsys):
    Path("maze.txt").write_text(BOARD)
    for words in (["maze.txt"], [BOARD], [LINE], [LINE.replace(".", " ")]):
        code, lines = printed(capsys, "solve", run, *words)
        assert code == 0
        assert [line.rstrip() for line in lines[:4]] == DRAWN
        assert lines[5].startswith("Solved in 1 step; the model is 73% sure")


def test_a_file_of_many_mazes(run, capsys):
    Path("mazes.txt").write_text(f"{BOARD}\n{LINE}\n\n{BOARD}")
    Path("table.csv").write_text(f"question,answer\n{LINE.replace('.', ' ')},?\n")
    words = ["solve", run, "mazes.txt", UNDECIDED, "table.csv", "--json"]
    code, lines = printed(capsys, *words)
    found = [json.loads(line) for line in lines]
    assert code == 1
    assert [each["puzzle"] for each in found] == [LINE, LINE, LINE, UNDECIDED, LINE]
    assert [each["answer"] for each in found] == [ANSWER, ANSWER, ANSWER, UNDECIDED, ANSWER]
    assert found[3]["problem"] == "the path ends at row 1, column 1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("S..#\n....\n", "the maze before line 2 has 2 rows, not 4"),
        ("S..#\n....\n....\n....\n", "mazes.txt:1: the maze has 0 G"),
        ("\n\nS..#.#......#..GG\n", "mazes.txt:3: a 4x4 maze has 16 characters"),
        ("S.#." * 2 + "..#....#G\n" + "." * 8, "mazes.txt:1: a 4x4 maze has 16 characters"),
    ],
)
def test_mazes_that_cannot_be_read(run, capsys, content, message):
    Path("mazes.txt").write_text(content)
    with pytest.raises(SystemExit) as end:
        main(["solve", run, "mazes.txt"])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_colours_of_walls_path_and_strays():
    givens = MAZE.parse(LINE)
    answer = MAZE.tokens("S..#o#.ooo..#ooG", "#.SGo")
    before = answer.copy()
    before[8] = 2
    board = boards.paint(MAZE, givens, answer, before)
    assert board.plain == MAZE.draw(answer)
    styles = {span.start: str(span.style) for span in board.spans}
    starts = [row * 9 + 2 * col for row in range(4) for col in range(4)]
    assert [styles[start] for start in starts[:10]] == [
        *["bold"] * 4,
        "cyan",
        "bold",
        "bold",
        "bold red",  # marked, but not on the path
        "yellow",  # new
        "cyan",
    ]


def test_a_table_of_mazes_is_measured(run, capsys):
    rows = labelled(generate(MAZE, 12, 5, np.random.default_rng(0)))
    lines = ["question,answer"]
    for question, answer in zip(rows.inputs, rows.labels, strict=True):
        lines.append(f"{MAZE.format(question)},{MAZE.format(answer)}")
    Path("test.csv").write_text("\n".join(lines))
    assert main(["eval", run, "--data", "test.csv", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["puzzles"], result["exact_accuracy"]) == (12, 1)
    assert result["scores"]["shortest_path"]["share"] == 1
    assert result["scores"]["valid_path"]["interval"] == result["exact_interval"]
    assert main(["eval", run, "--data", "test.csv"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "valid path 100.0 %" in text and "shortest path 100.0 %" in text
    assert "shortest path puzzles solved" in text, "the table by rating"
