"""config.json gives back an equal config, or an error that names the setting."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostinato.training.config_file import differences, read_config, write_config


@dataclass(frozen=True)
class Model:
    hidden_size: int = 512
    forward_dtype: Literal["float32", "bfloat16"] = "bfloat16"


@dataclass(frozen=True)
class Recursive(Model):
    H_cycles: int = 3
    rope_theta: float | None = 1e4


@dataclass(frozen=True)
class Sudoku:
    folder: Path = Path("data/a")
    sizes: tuple[int, ...] = (4, 6)


@dataclass(frozen=True)
class Maze:
    folder: Path = Path("data/b")
    shape: tuple[int, float] = (30, 0.5)


@dataclass(frozen=True)
class Run:
    model: Model = Recursive()
    data: Sudoku | Maze | None = Sudoku()
    name: str | None = None
    ema: bool = True
    weights: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


runs = st.builds(
    Run,
    model=st.builds(Model) | st.builds(Recursive, rope_theta=st.none() | st.floats(1, 1e9)),
    data=st.none()
    | st.builds(Sudoku, folder=st.just(Path("a/ü")), sizes=st.lists(st.integers()).map(tuple))
    | st.builds(Maze, folder=st.just(Path("/b")), shape=st.tuples(st.integers(), st.floats(0, 1))),
    name=st.none() | st.text(),
    weights=st.dictionaries(st.text(), st.floats(allow_nan=False)),
    notes=st.lists(st.text()),
)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(run=runs)
def test_round_trip(tmp_path, run):
    write_config(tmp_path / "config.json", run)
    loaded = read_config(tmp_path / "config.json", Run)
    assert loaded == run
    assert type(loaded.model) is type(run.model)


def changed(path: Path, change) -> Path:
    """config.json of the default run after `change` has been at its content."""
    write_config(path / "config.json", Run())
    content = json.loads((path / "config.json").read_text())
    change(content)
    (path / "config.json").write_text(json.dumps(content))
    return path / "config.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["model"].update(hiden_size=1),
            r"\$\.model: unknown setting 'hiden_size': did you",
        ),
        (lambda c: c["model"].pop("H_cycles"), r"\$\.model: H_cycles missing"),
        (lambda c: c["model"].update(hidden_size="512"), "hidden_size: expected `int`, got `str`"),
        (lambda c: c["model"].update(hidden_size=True), "hidden_size: expected `int`, got `bool`"),
        (lambda c: c["model"].update(hidden_size=1.0), "hidden_size: expected `int`, got `float`"),
        (lambda c: c["model"].update(rope_theta="no"), "rope_theta: expected `float . null`, got"),
        (lambda c: c["model"].update(rope_theta=True), "rope_theta: expected `float . null`, got"),
        (
            lambda c: c["model"].update(forward_dtype="int8"),
            r"\$\.model\.forward_dtype: invalid enum value 'int8': choose from float32, bfloat16",
        ),
        (lambda c: c["model"].update({"class": "Recursiv"}), "did you mean 'Recursive'"),
        (lambda c: c["model"].update({"class": []}), r"\$\.model: unknown class \[\]"),
        (lambda c: c["data"].update({"class": "Path"}), "unknown class 'Path': choose from Sudoku"),
        (
            lambda c: c["data"].update(sizes=[4, "6"]),
            r"\$\.data\.sizes\[1\]: expected `int`, got `str`",
        ),
        (lambda c: c["data"].update(folder=7), r"\$\.data\.folder: expected `str`"),
        (lambda c: c.update(data=3), r"\$\.data: it is no object of class Sudoku or Maze"),
        (lambda c: c.update(ema=1), r"\$\.ema: expected `bool`, got `int`"),
        (lambda c: c.pop("class"), r"\$: it is no object of class Run"),
    ],
)
def test_errors_name_the_setting(tmp_path, change, message):
    path = changed(tmp_path, change)
    with pytest.raises(ValueError, match=message) as caught:
        read_config(path, Run)
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value)


def test_differences():
    assert differences(Run(), Run()) == {}
    assert differences(Run(), Run(ema=False, model=replace(Recursive(), hidden_size=64))) == {
        "model.hidden_size": (512, 64),
        "ema": (True, False),
    }
    changed_class = differences(Run(), Run(model=Model()))
    assert changed_class["model.class"] == ("Recursive", "Model")
    assert changed_class["model.H_cycles"] == (3, None)
