"""Pictures of thinking: one for every pass, and the state's movement."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ostinato import cli
from ostinato.data.sudoku import Sudoku
from ostinato.inference.think import think
from ostinato.plot.think import movements, plot_thinking
from tests.inference.stand_in import LookUp, steps_needed
from tests.inference.test_think import random_model

PUZZLE = ".1..3..12..4..3."


def test_an_animation_has_the_puzzle_and_every_pass(tmp_path: Path):
    path = plot_thinking(LookUp(), PUZZLE, tmp_path / "think.gif")
    with Image.open(path) as image:
        # The stand-in must halt twice on the same answer
        assert image.n_frames == 1 + steps_needed(Sudoku(4).parse(PUZZLE)) + 1


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_still_picture_is_drawn(suffix: str, tmp_path: Path):
    path = plot_thinking(LookUp(), PUZZLE, tmp_path / f"think.{suffix}")
    start = {"png": b"\x89PNG", "svg": b"<?xml"}[suffix]
    assert path.read_bytes().startswith(start)


def test_movement_is_that_of_the_state():
    # The stand-in's z_H is the number of the pass, so it moves by 1/1, 1/2, 1/3 … of itself
    moves, answers = movements(LookUp(), torch.ones(2, 16, dtype=torch.int32))
    assert moves[:, :, 0].tolist() == [pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])] * 2
    assert answers.shape == (2, 16)


def test_movement_is_that_of_a_model_with_noise():
    noisy = random_model()
    noisy.config = replace(noisy.config, noise=0.5, damping=0.9, initial_state="random")
    tokens = torch.ones(2, 16, dtype=torch.int32)
    moves, answers = movements(noisy, tokens)
    again, _ = movements(noisy, tokens)
    assert moves.equal(again)
    *_, last = think(noisy, tokens)
    assert answers.equal(last.answer)


def test_a_puzzle_that_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        cli.main(["plot", "sudoku9", "--puzzle", "123", "-o", str(tmp_path / "think.gif")])
    assert "81 characters" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["plot", "sudoku9", "--puzzle", "." * 81, "-o", str(tmp_path / "think.bmp")])
    assert ".gif" in capsys.readouterr().err
