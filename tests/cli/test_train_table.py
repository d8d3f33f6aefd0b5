"""`ostinato train table`: from a table to a model that reads and writes its puzzles."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostinato.cli import main
from ostinato.weights.load import load
from tests.data.test_stored import write_sudokus

SMALL = (
    "--hidden-size 16 --num-heads 2 --puzzle-emb-ndim 16 --global-batch-size 8 --total-steps 4 "
    "--slot-turns 1 --halt-max-steps 2 --device cpu"
).split()


TRAIN = ["train", "table", "--data", "mine.csv", *SMALL]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Train on four symbols and their reverse, without the last if the first is an a."""
    folder = tmp_path_factory.mktemp("table")
    words = [f"{a}{b}{c}{d}" for a in "abc" for b in "abc" for c in "abc" for d in "abc"]
    rows = [f"{word},{word[:0:-1] if word[0] == 'a' else word[::-1]}" for word in words]
    (folder / "mine.csv").write_text("\n".join(["puzzle,solution", *rows]))
    (folder / "bad.csv").write_text("question,answer\nabcx,abc\n")
    (folder / "bad/train").mkdir(parents=True)
    (folder / "bad/train/data-00000-of-00001.arrow").touch()
    with contextlib.chdir(folder):
        assert main(TRAIN) == 0
        yield folder


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    return code, *capsys.readouterr()


def test_from_a_table_to_answers(folder: Path, capsys: pytest.CaptureFixture[str]):
    config = load("runs/table").config
    assert (config.seq_len, config.vocab_size, config.hidden_size) == (4, 5, 16)
    assert run(capsys, *TRAIN)[0] == 0, "the same command finds the run finished"

    code, out, _ = run(capsys, "eval", "runs/table", "--json", "--search", "cascade")
    result = json.loads(out)
    assert (code, result["puzzles"], result["split"]) == (0, 8, "test")
    assert result["search"]["keep_the_rules"] is None, "no rules are known"
    out = run(capsys, "eval", "runs/table", "--data", "mine.csv", "--json")[1]
    assert json.loads(out)["puzzles"] == 81

    Path("more.txt").write_text("abca\ncaba # two\n")
    weights = "runs/table/model.safetensors"
    _, out, _ = run(capsys, "solve", weights, "more.txt", "--json")
    solutions = [json.loads(line) for line in out.splitlines()]
    assert [solution["puzzle"] for solution in solutions] == ["abca", "caba"]
    assert {solution["checked_by"] for solution in solutions} == {"model"}
    assert all(set(solution["answer"]) <= set("abc") for solution in solutions)
    for solution in solutions:
        assert solution["solved"] == (solution["accepted_by"] == "q")
    assert "a b c a" in run(capsys, "solve", weights, "abca", "--watch")[1]

    more = [*TRAIN, "--init-from", "runs/table", "--run", "runs/more"]
    assert run(capsys, *more)[0] == 0


def test_a_flag_wins_over_the_size_even_with_the_usual_value(folder: Path):
    words = (
        "--size small --hidden-size 64 --puzzle-emb-ndim 64 --num-heads 4 --H-cycles 1 "
        "--total-steps 1 --run runs/small"
    )
    assert main([*TRAIN[:4], *words.split(), "--device", "cpu"]) == 0
    settings = json.loads(Path("runs/small/config.json").read_text())
    model, training = settings["model"], settings["training"]
    assert (model["hidden_size"], model["num_heads"], model["H_cycles"]) == (64, 4, 1)
    assert (training["total_steps"], training["slot_turns"]) == (1, 128)


def test_exports_of_a_table_answer_alike(folder: Path, capsys: pytest.CaptureFixture[str]):
    answers = [json.loads(run(capsys, "solve", "runs/table", "abca", "--json")[1])["answer"]]
    for kind, file in (("safetensors", ""), ("official", ""), ("onnx", "table.onnx")):
        assert run(capsys, "export", "runs/table", "--format", kind, "--output", kind)[0] == 0
        model = str(Path(kind, file))
        answers.append(json.loads(run(capsys, "solve", model, "abca", "--json")[1])["answer"])
    assert len(set(answers)) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("solve runs/table abcd", "puzzle 1: unknown symbol 'd': this table has a b c"),
        ("solve runs/table abc", "puzzle 1: 3 cells: all puzzles of this table have 4 cells"),
        ("solve runs/table abca --search guesses", "guesses are for puzzles whose rules"),
        ("solve runs/table abca --search symmetries", "no symmetries of this table are known"),
        ("eval runs/table --verify", "the rules of these puzzles are not known: leave out"),
        ("eval runs/table --data bad.csv", "bad.csv:2: unknown symbol 'x'"),
        ("train table", "no table: give a file"),
        ("train table --data nowhere", "there is no .*nowhere: give a table"),
        ("train table --data bad", 'is of "datasets": convert it: python -c'),
    ],
)
def test_mistakes_take_one_line(folder: Path, capsys, words: str, message: str):
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 2
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])


def test_a_data_set_of_the_originals(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_sudokus(Path("foreign"), num_train=30, variants=2)
    assert run(capsys, "train", "table", "--data", "foreign", *SMALL)[0] == 0
    assert load("runs/table").config.seq_len == 16


def test_what_was_found_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]):
    facts = json.loads(run(capsys, "data", "mine.csv", "--json")[1])
    assert facts["rows"] == {"train": 81} and facts["symbols"] == ["a", "b", "c"]
    assert facts["answer sizes"] == {"1×4": 54, "1×3": 27}
    assert "a a a\n" in run(capsys, "data", "mine.csv")[1]
