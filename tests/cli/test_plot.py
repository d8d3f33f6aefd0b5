"""`ostinato plot` draws where it is told, and says where."""

import json
from pathlib import Path

import pytest

from ostinato.cli import main


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
    [("nowhere", "nowhere has no metrics yet"), ("RUN --output a.txt", "cannot draw a.txt: end")],
)
def test_mistakes_take_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
):
    pytest.importorskip("matplotlib")
    with pytest.raises(SystemExit) as end:
        main(["plot", *words.replace("RUN", str(run)).split()])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
