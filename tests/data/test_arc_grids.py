"""Grids, variants and their names against the data set that TRM's builder made of nine tasks."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostinato.data.arc.sources import SAME_COLOURS, ArcTask, Variant, read_folder, task_from_json
from ostinato.data.grids import CANVAS, crops, place
from ostinato.data.puzzles import PuzzleSet

GOLDEN = Path(__file__).parents[1] / "golden" / "arc"

grids = st.integers(1, 30).flatmap(
    lambda rows: st.integers(1, 30).flatmap(
        lambda cols: st.binary(min_size=rows * cols, max_size=rows * cols).map(
            lambda cells: np.frombuffer(cells, np.uint8).reshape(rows, cols) % 10
        )
    )
)
variants = st.builds(
    lambda symmetry, others: Variant("a", symmetry, "0" + "".join(others)),
    st.integers(0, 7),
    st.permutations("123456789"),
)


@pytest.fixture(scope="module")
def tasks() -> dict[str, ArcTask]:
    by_role = read_folder(GOLDEN)
    return by_role["training"] | by_role["evaluation"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_variant_is_reproduced_from_its_name(split: str, tasks: dict[str, ArcTask]):
    built = PuzzleSet.load(GOLDEN / "built", split)
    names = json.loads((GOLDEN / "built" / "identifiers.json").read_text())
    evaluated = {name for name in tasks if name.startswith("ev")}
    moved = 0
    for puzzle, identifier in enumerate(built.puzzle_identifiers):
        variant = Variant.named(names[identifier])
        assert str(variant) == names[identifier]
        task = tasks[variant.task]
        pairs = {"test": task.test}.get(split, task.train)
        if split == "train" and task.name not in evaluated:
            pairs = task.pairs
        begin, end = built.puzzle_indices[puzzle : puzzle + 2]
        assert end - begin == len(pairs)
        for example, pair in zip(range(begin, end), pairs, strict=True):
            recorded = built.inputs[example].reshape(CANVAS, CANVAS)
            corner = tuple(int(axis.min()) for axis in np.nonzero(recorded))
            moved += corner != (0, 0)
            for grid, tokens in ((pair.input, built.inputs), (pair.output, built.labels)):
                canvas = np.zeros((CANVAS, CANVAS), np.uint8)
                place(canvas, variant.apply(grid) + 2, *corner)
                assert (canvas.ravel() == tokens[example]).all()
    assert (moved > 0) == (split == "train")


@given(grids, variants)
def test_a_variant_is_undone(grid: np.ndarray, variant: Variant):
    assert Variant.named(str(variant)) == variant
    assert (variant.undo(variant.apply(grid)) == grid).all()
    assert (variant.apply(variant.undo(grid)) == grid).all()


@given(grids)
def test_a_grid_is_cropped_from_its_canvas(grid: np.ndarray):
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    place(canvas, grid + 2, 0, 0)
    (cropped,) = crops(canvas.reshape(1, -1))
    assert cropped.shape == grid.shape and (cropped == grid).all()


@given(st.binary(min_size=25, max_size=25))
def test_the_crop_is_the_largest_rectangle_of_colours(cells: bytes):
    tokens = np.frombuffer(cells, np.uint8) % 4 + np.frombuffer(cells, np.uint8) % 3 % 2
    canvas = tokens.reshape(5, 5)
    best, shape = 0, (0, 0)
    for rows in range(1, 6):
        for cols in range(1, 6):
            if rows * cols > best and (canvas[:rows, :cols] >= 2).all():
                best, shape = rows * cols, (rows, cols)
    (cropped,) = crops(tokens[None])
    assert cropped.shape == shape
    assert (cropped + 2 == canvas[: shape[0], : shape[1]]).all()


@pytest.mark.parametrize("name", ["a|||t8|||0123456789", "a|||t1|||0123456788", "|||", ""])
def test_what_is_no_name_of_a_variant(name: str):
    with pytest.raises(ValueError, match="is not a variant"):
        Variant.named(name)


def test_the_task_itself_has_no_suffix():
    assert str(Variant("a")) == "a" and Variant.named("a") == Variant("a", 0, SAME_COLOURS)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([[10]], r"\$\.test\[0\]\.input\[0\]\[0\]: expected `int` <= 9"),
        ([[1], [1, 2]], "rectangle"),
        ([], r"\$\.test\[0\]\.input: expected `array` of length >= 1"),
        ([[0] * 31], r"\$\.test\[0\]\.input\[0\]: expected `array` of length <= 30"),
    ],
)
def test_what_is_no_grid(grid: list, message: str):
    with pytest.raises(ValueError, match=rf"task a: .*{message}"):
        task_from_json("a", {"train": [], "test": [{"input": grid}]})


def test_task_folders_are_read_like_kaggle_files(tmp_path: Path, tasks: dict[str, ArcTask]):
    for name, task in tasks.items():
        place_ = tmp_path / ("training" if name.startswith("tr") else "evaluation")
        place_.mkdir(exist_ok=True)
        (place_ / f"{name}.json").write_text(json.dumps(task.to_json()))
    by_role = read_folder(tmp_path)
    assert sorted(by_role) == ["evaluation", "training"]
    again = by_role["training"] | by_role["evaluation"]
    assert {n: t.to_json() for n, t in again.items()} == {n: t.to_json() for n, t in tasks.items()}
