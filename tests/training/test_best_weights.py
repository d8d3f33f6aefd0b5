"""Which weights a run keeps."""

import json
from dataclasses import replace
from pathlib import Path

from ostinato.data.sudoku import SudokuData
from ostinato.recipes import recipe_named
from ostinato.training.run import run


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
