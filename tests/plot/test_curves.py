"""`ostinato plot` draws what metrics.jsonl holds."""

import json
import math
import sys

import pytest

from ostinato.plot.curves import group, plot, read_curves, smooth, time_unit


def write_run(folder, points=30):
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, points + 1):
            record = {"step": step, "time": 2.0 * step, "train/loss": 1 / step, "lr": 1e-3}
            file.write(json.dumps(record) + "\n")
            if step % 10 == 0:
                record = {"step": step, "time": 2.0 * step, "validation/exact_accuracy": 0.5}
                file.write(json.dumps(record) + "\n")
        file.write('{"step": 31, "ti')


def test_every_metric_is_drawn_with_its_label_and_unit(tmp_path):
    pytest.importorskip("matplotlib")
    write_run(tmp_path, points=300)
    output = plot(tmp_path, tmp_path / "curves.svg")
    picture = output.read_text()
    for text in (
        "train/loss",
        "validation/exact_accuracy",
        "accuracy (%)",
        "learning rate",
        "training time (min)",
    ):
        assert f"<!-- {text}" in picture
    assert plot(tmp_path) == tmp_path / "curves.png"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_curves_and_their_rows(tmp_path):
    write_run(tmp_path)
    curves = read_curves(tmp_path)
    assert curves["train/loss"][:2] == [(1, 2.0, 1.0), (2, 4.0, 0.5)]
    rows = group(curves | {"train/q_loss": [(1, 0.0, 2.0)], "train/halt_steps": [(1, 0.0, 3.0)]})
    assert {title: list(row) for title, row in rows.items()} == {
        "loss": ["train/loss", "train/q_loss"],
        "accuracy (%)": ["validation/exact_accuracy"],
        "halt steps": ["train/halt_steps"],
        "learning rate": ["lr"],
    }
    assert rows["accuracy (%)"]["validation/exact_accuracy"][0] == (10, 20.0, 50.0)


def test_a_value_that_was_not_finite_is_a_gap(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "time": 1.0, "train/loss": 2.0}\n'
        '{"step": 2, "time": 2.0, "train/loss": null}\n'
    )
    assert math.isnan(read_curves(tmp_path)["train/loss"][1][2])
    assert plot(tmp_path).exists()


def test_smoothing_keeps_a_straight_line_straight():
    line = [float(index) for index in range(1000)]
    assert smooth(line)[10:-10] == pytest.approx(line[10:-10])
    assert smooth([1.0, math.nan] * 500)[500] == 1.0


def test_time_units():
    assert [time_unit(t)[0] for t in (5.0, 119.0, 120.0, 7199.0, 7200.0)] == [
        "s",
        "s",
        "min",
        "min",
        "h",
    ]


def test_errors_name_the_remedy(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="has no metrics yet: give the folder"):
        plot(tmp_path)
    write_run(tmp_path)
    with pytest.raises(ValueError, match=r"curves\.docx: end the name in \.png, \.svg, \.pdf"):
        plot(tmp_path, tmp_path / "curves.docx")
    with pytest.raises(ValueError, match="could not write"):
        plot(tmp_path, tmp_path / "missing" / "curves.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    with pytest.raises(ValueError, match=r"pip install 'ostinato\[plot\]'"):
        plot(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step"\n{"step": 1, "time": 1.0}\n')
    with pytest.raises(ValueError, match=r"line 1 of .* is damaged"):
        read_curves(tmp_path)
