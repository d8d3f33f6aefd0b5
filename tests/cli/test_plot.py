"""`ostinato plot` draws where it is told, and says where."""

import json
from pathlib import Path

import pytest

from ostinato.cli import main
from ostinato.decoding import convert
from ostinato.plot.search import CaseSpeed, lines_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    lines = [json.dumps({"step": step, "time": step, "train/loss": 1 / step}) for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_curves_are_drawn(run: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("matplotlib")
    assert main(["plot", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'curves.png'}\n"
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert main(["plot", str(run), "--output", str(run / "a.svg")]) == 0
    assert "train/loss" in (run / "a.svg").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere", "nowhere does not exist: give the folder of a run"),
        ("RUN --output a.txt", "cannot draw a.txt: end"),
    ],
)
def test_mistakes_take_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
):
    pytest.importorskip("matplotlib")
    with pytest.raises(SystemExit) as end:
        main(["plot", *words.replace("RUN", str(run)).split()])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def solved(mode: str, steps: float, share: float, puzzles: int = 50, by: str = "q") -> dict:
    case = {"mode": mode, "puzzles": puzzles}
    return {
        "case": case, "steps_per_puzzle": steps, "exact_accuracy": share, "selected_by": by
    }  # fmt: skip


def test_searches_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("matplotlib")
    cases = [solved("fixed", 16, 0.5), solved("noise", 90, 0.8), solved("noise", 40, 0.7)]
    file = tmp_path / "solve.json"
    file.write_text(json.dumps({"cases": cases}))
    assert main(["plot", str(file)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'solve.png'}\n"
    assert (tmp_path / "solve.png").read_bytes().startswith(b"\x89PNG")


def test_lines_of_searches():
    cases = [
        solved("noise", 90, 0.8),
        solved("noise", 40, 0.7),
        solved("noise", 40, 0.7),
        solved("noise", 60, 0.9, by="rules"),
        solved("fixed", 16, 0.5, puzzles=9),
    ]
    lines = lines_of([convert(case, CaseSpeed, "case") for case in cases])
    assert [point[:2] for point in lines["noise"]] == [(40, 70), (90, 80)]
    assert [point[:2] for point in lines["noise, chosen by the rules"]] == [(60, 90)]
    assert len(lines) == 2
    for points in lines.values():
        assert all(low < share < high for _, share, low, high in points)


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        ("[1]", "", "give what ostinato bench solve --json prints"),
        ("{}", "--tasks all", "--tasks needs"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    flags: str,
    message: str,
):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(SystemExit) as end:
        main(["plot", str(tmp_path / "a.json"), *flags.split()])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
