"""`ostinato eval`: the puzzles it takes, what it says of them, and what it says of mistakes."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ostinato.cli import main
from ostinato.cli.eval import progress
from ostinato.cli.tables import percent, shown_steps, span
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.sudoku import Sudoku, SudokuData, generate, rate
from ostinato.evaluation.puzzles import evaluate
from ostinato.evaluation.search import evaluate_search
from ostinato.inference.search import SEARCHES, Search
from ostinato.models import TRM, TRMConfig
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.config_file import write_config
from ostinato.weights.load import load
from ostinato.weights.save import save_weights

MODEL = TRMConfig(
    task="sudoku4",
    vocab_size=6,
    seq_len=16,
    hidden_size=16,
    num_heads=2,
    H_cycles=1,
    L_cycles=1,
    L_layers=1,
    puzzle_emb_ndim=0,
    puzzle_emb_len=0,
    halt_max_steps=3,
    forward_dtype="float32",
)
DATA = SudokuData(size=4, num_train=20, num_validation=8, num_test=30)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose training has been skipped, in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = Path("runs/tiny")
    path.mkdir(parents=True)
    write_config(path / "config.json", Recipe("tiny", MODEL, DATA, TrainingConfig()))
    save_weights(path / "model.safetensors", TRM(MODEL, torch.Generator().manual_seed(0)))
    return path


def measured(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    """The object that `ostinato eval … --json` prints."""
    capsys.readouterr()
    assert main(["eval", *map(str, words), "--device", "cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def expected(path: Path, puzzles: PuzzleSet, max_steps: int | None = None) -> dict:
    """The same by way of Python."""
    result = evaluate(load(path), puzzles, max_steps=max_steps)
    content = json.loads(json.dumps(asdict(result)))
    q = result.q_calibration
    content["q_calibration"] |= {"precision": q.precision, "recall": q.recall}
    del content["puzzles_per_second"]
    return content


def part(content: dict, other: dict) -> dict:
    """Return the part of `content` that has the keys of `other`."""
    return {key: content[key] for key in other}


def test_a_run_is_measured_on_its_own_test_puzzles(run: Path, capsys):
    folder = DATA.prepare(Path("data"), print)
    wanted = expected(run, PuzzleSet.load(folder, "test"))
    found = measured(capsys, run)
    assert part(found, wanted) == wanted
    assert (found["puzzles"], found["steps"], found["split"]) == (30, 3, "test")
    assert (found["data"], found["model"], found["device"]) == (str(folder), str(run), "cpu")
    assert json.loads((run / "result.json").read_text()) == found


def test_it_thinks_in_the_dtype_that_it_is_told_to(run: Path, capsys):
    plain, rough = measured(capsys, run), measured(capsys, run, "--forward-dtype", "bfloat16")
    assert (plain["forward_dtype"], rough["forward_dtype"]) == ("float32", "bfloat16")
    assert plain["cell_accuracy"] == pytest.approx(rough["cell_accuracy"], abs=0.05)


def test_puzzles_that_are_gone_are_built_again(run: Path, capsys):
    first = measured(capsys, run)
    shutil.rmtree("data")
    again = measured(capsys, run, "--batch-size", 7)
    assert part(again, expected(run, PuzzleSet.load(Path(again["data"]), "test"))) == part(
        first, expected(run, PuzzleSet.load(Path(again["data"]), "test"))
    )


def test_another_split_and_other_steps_are_no_final_result(run: Path, capsys):
    found = measured(capsys, run, "--split", "validation", "--max-steps", 5)
    wanted = expected(run, PuzzleSet.load(Path(found["data"]), "validation"), max_steps=5)
    assert part(found, wanted) == wanted
    assert (found["puzzles"], found["steps"], found["split"]) == (8, 5, "validation")
    measured(capsys, run, "--data", found["data"])
    assert not (run / "result.json").exists()


def write_csv(path: Path, count: int, rating: str = "") -> PuzzleSet:
    sudoku = Sudoku(4)
    inputs, labels = generate(sudoku, count, (5, 9), seed=7)
    lines = ["source,question,answer,rating"]
    for question, answer in zip(inputs, labels, strict=True):
        lines.append(f"here,{sudoku.format(question)},{sudoku.format(answer)},{rating}")
    path.write_text("\n".join(lines) + "\n")
    ratings = [float(rating) if rating else rate(sudoku, question) for question in inputs]
    return PuzzleSet.of_examples("sudoku4", inputs, labels, 6, np.array(ratings))


@pytest.mark.parametrize("rating", ["", "2"])
def test_weights_alone_are_measured_on_a_table_or_a_folder_of_tables(run: Path, capsys, rating):
    weights = run / "model.safetensors"
    Path("tables").mkdir()
    wanted = expected(weights, write_csv(Path("tables/test.csv"), 40, rating))
    assert [row["ratings"] for row in wanted["exact_by_rating"]] == [rating or "0"]
    for place, split in (("tables/test.csv", None), ("tables", "test")):
        found = measured(capsys, weights, "--data", place)
        assert part(found, wanted) == wanted
        assert (found["data"], found["split"]) == ("tables/test.csv", None)
        assert split is None or Path(place).is_dir()
    write_csv(Path("tables/hard.csv"), 10)
    assert measured(capsys, weights, "--data", "tables", "--split", "hard")["puzzles"] == 10


def test_tables_for_people(run: Path, capsys):
    assert main(["eval", str(run), "--device", "cpu"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    result = json.loads((run / "result.json").read_text())
    assert "runs/tiny on 30 test puzzles of" in text and "3 steps each" in text
    accuracy, interval = result["exact_accuracy"], result["exact_interval"]
    assert f"puzzles solved (every cell right) {percent(accuracy)} {span(interval)}" in text
    assert f"cells right {percent(result['cell_accuracy'])}" in text
    assert "guesses needed puzzles solved" in text
    assert "puzzles per second on cpu" in text
    counts = result["q_calibration"]
    assert f"not sure {counts['unsure_right'] + counts['unsure_wrong']}" in text


def test_early_exit_and_search_are_measured_beside_the_fixed_steps(run: Path, capsys):
    plain = measured(capsys, run)
    assert "search" not in plain
    with_exit = measured(capsys, run, "--early-exit")
    assert part(with_exit, expected(run, PuzzleSet.load(Path(plain["data"]), "test"))) == part(
        plain, expected(run, PuzzleSet.load(Path(plain["data"]), "test"))
    )
    found = with_exit["search"]
    wanted = asdict(
        evaluate_search(
            load(run), PuzzleSet.load(Path(plain["data"]), "test"), Search(early_exit=True)
        )
    )
    del found["puzzles_per_second"], wanted["puzzles_per_second"]
    assert found == json.loads(json.dumps(wanted))
    assert (found["max_steps"], found["selected_by"], found["puzzles"]) == (3, "q", 30)
    flags = "--search cascade --rollouts 2 --sigma 0.5 --verify --max-steps 2".split()
    found = measured(capsys, run, *flags)["search"]
    settings = replace(SEARCHES["cascade"], rollouts=2, sigma=0.5, verify=True)
    assert (found["search"], found["selected_by"]) == (asdict(settings), "rules")
    assert found["max_steps"] == 2


def test_a_search_as_tables(run: Path, capsys):
    assert main(["eval", str(run), "--device", "cpu", "--early-exit"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "early exit: answers selected by the model: the largest q" in text
    assert "all 3 steps" in text and "steps per puzzle" in text
    assert "as it is, not accepted" in text and "of 30 answers keep the rules" in text
    words = ["eval", str(run), "--device", "cpu", "--search", "symmetries", "--verify"]
    assert main(words) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "answers selected by the rules of the puzzle, not by the model alone" in text
    assert text.count("guesses needed puzzles solved") == 2, "all steps and the search"
    # The rules make the guesses, so this search brings the rule check along
    assert main(["eval", str(run), "--device", "cpu", "--search", "guesses", "--guesses", "3"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "early exit, verify, guesses 3: answers selected by the rules" in text


def test_compiling_is_done_if_asked_for(run: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[bool] = []
    monkeypatch.setattr(TRM, "compile_reasoning", lambda self, dynamic: asked.append(dynamic))
    assert main(["eval", str(run), "--device", "cpu"]) == 0 and asked == []
    assert main(["eval", str(run), "--device", "cpu", "--compile"]) == 0 and asked == [True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("runs/tiny --search deep", "there is no search 'deep': choose one of depth"),
        ("runs/tiny --guesses 2", "guesses are made and judged by the rules: set verify with them"),
        ("runs/tiny --views -1", "views must be at least 0, not -1"),
        ("runs/none", "runs/none does not exist"),
        ("runs/none --samples 2", "runs/none does not exist"),
        ("runs/tiny/model.safetensors", "does not say what it was trained on: give puzzles with"),
        ("runs/tiny --data nowhere", "there is no nowhere: give a data set folder or a CSV file"),
        ("runs/tiny --split exam", "no split 'exam' (no exam/dataset.json); it has test, train, v"),
        ("runs/tiny --data tables", "tables has no test.csv but train.csv: name one of them"),
        ("runs/tiny --data tables/train.csv --split test", "is one file, without splits: leave"),
        ("runs/tiny --data nine", "the puzzles have 81 cells and 11 tokens, the model is for 16 c"),
        ("runs/tiny --data nine.csv", "nine.csv:2: question of 81 characters; a 4x4 Sudoku has"),
        ("runs/tiny --max-steps 0", "max_steps must be at least 1, not 0"),
        ("runs/tiny --batch-size 0", "batch_size must be at least 1, not 0"),
        ("runs/tiny --device abacus", "unknown device 'abacus'"),
        ("runs/tiny --bach-size 4", "unknown setting --bach-size: did you mean --batch-size?"),
        ("", "Missing from ostinato eval: RUN The model: a run folder, or a weights file"),
    ],
)
def test_mistakes_take_one_line(run: Path, capsys, words: str, message: str):
    Path("tables").mkdir()
    write_csv(Path("tables/train.csv"), 2)
    inputs, labels = generate(Sudoku(9), 1, (44, 44), seed=0)
    PuzzleSet.of_examples("sudoku9", inputs, labels, 11).save(Path("nine"), "test")
    question, answer = (Sudoku(9).format(board[0]) for board in (inputs, labels))
    Path("nine.csv").write_text(f"question,answer\n{question},{answer}\n")
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["eval", *words.split()])
    assert end.value.code == 2
    printed = capsys.readouterr()
    last = printed.err.splitlines()[-1]
    assert message in last and last.startswith("ostinato: ") and not printed.out


def test_tables_need_a_model_of_their_puzzles(run: Path, capsys):
    write_csv(Path("some.csv"), 2)
    save_weights(Path("other.safetensors"), TRM(replace(MODEL, task="", seq_len=10)))
    with pytest.raises(SystemExit):
        main(["eval", "other.safetensors", "--data", "some.csv"])
    assert "CSV files hold Sudokus or mazes, and puzzles of 10 cells" in capsys.readouterr().err


def test_progress_goes_to_standard_error(capsys, monkeypatch):
    monkeypatch.setattr("ostinato.cli.eval.PAUSE", 0.0)
    with progress(3000) as show:
        show(1000)
        show(3000)
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["1,000 of 3,000 puzzles", "3,000 of 3,000 puzzles"]
    assert not printed.out


def test_steps_that_are_shown():
    assert shown_steps(3) == [1, 2, 3]
    assert shown_steps(16) == list(range(1, 17))
    assert shown_steps(64) == [1, 2, 4, 8, 16, 32, 64]
    assert shown_steps(50) == [1, 2, 4, 8, 16, 32, 50]


def test_depths_are_shown_and_drawn(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["eval", str(run), "--depths", "2", "5"]) == 0
    shown = capsys.readouterr().out
    assert "states move by" in shown and "5 steps each" in shown
    assert not (run / "result.json").exists()
    assert main(["eval", str(run), "--depths", "5", "--json"]) == 0
    Path("depths.json").write_text(capsys.readouterr().out)
    assert main(["plot", "depths.json"]) == 0
    assert Path("depths.png").read_bytes().startswith(b"\x89PNG")


def test_measured_ratings_are_kept(run: Path, monkeypatch: pytest.MonkeyPatch):
    table = Path("puzzles.csv")
    table.write_text("question,answer\n.1..3..12..4..3.,4123324123141432\n")
    asked = ["eval", str(run), "--data", str(table), "--json"]
    assert main(asked) == 0
    monkeypatch.setattr("ostinato.data.sudoku.rules.rate", None)
    assert main(asked) == 0
    (kept,) = Path("data/ratings").iterdir()
    kept.write_bytes(b"no ratings")
    with pytest.raises(SystemExit) as error:
        main(asked)
    assert error.value.code == 2
