"""A run keeps its best weights, and says which they are."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ostinato.data.puzzles import PuzzleSet
from ostinato.data.sudoku import SudokuData
from ostinato.evaluation.puzzles import evaluate
from ostinato.models import RecursiveModel
from ostinato.recipes import recipe_named
from ostinato.training.checkpoint import load_checkpoint
from ostinato.training.run import run
from ostinato.weights.load import load
from tests.tiny import tiny_recipe


def test_the_later_of_equally_good_weights_are_kept(tmp_path: Path):
    recipe = recipe_named("sudoku4-tiny")
    recipe = replace(
        recipe,
        data=SudokuData(size=4, num_train=20, num_validation=4, num_test=1),
        training=replace(
            recipe.training, total_steps=4, eval_every=2, global_batch_size=4, device="cpu"
        ),
    )
    outcome = run(recipe, tmp_path / "run", tmp_path / "data", report=lambda line: None)
    assert outcome.best == 0, "nothing is learnt in four steps, so that all scores are equal"
    assert json.loads((tmp_path / "run" / "result.json").read_text())["step"] == 4


def test_they_are_the_averages_with_the_puzzle_rows_as_they_are(tmp_path: Path):
    """Both the file and its score are of the averages, at a rate at which the two are far apart."""
    recipe = tiny_recipe(total_steps=4, lr=0.1, ema_decay=0.9, eval_every=4, puzzle_emb_lr=0.1)
    run(recipe, tmp_path / "run", tmp_path / "data", report=lambda line: None)
    tree = load_checkpoint(next((tmp_path / "run" / "checkpoints").glob("*-00000004.*")))
    kept = load(tmp_path / "run")
    for name, average in tree["ema"].items():
        assert torch.equal(kept.state_dict()[name], average)
        assert not torch.equal(average, tree["model"][name])
    rows = tree["model"]["puzzle_emb.weights"]
    assert torch.equal(kept.state_dict()["puzzle_emb.weights"], rows) and rows.any()

    scored = json.loads((tmp_path / "run" / "result.json").read_text())
    puzzles = PuzzleSet.load(next((tmp_path / "data").glob("sudoku4-*")), "validation")
    assert isinstance(kept, RecursiveModel)
    assert scored["drift_by_step"] == pytest.approx(evaluate(kept, puzzles).drift_by_step)
    kept.load_state_dict(tree["model"])
    assert scored["drift_by_step"] != pytest.approx(evaluate(kept, puzzles).drift_by_step)
