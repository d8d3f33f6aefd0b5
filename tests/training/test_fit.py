"""A checkpoint of another model, optimiser or batch is refused, and what differs is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from ostinato.training.run import run
from tests.tiny import tiny_recipe

RECIPE = tiny_recipe(total_steps=2, global_batch_size=4, warmup_steps=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    run(RECIPE, root / "run", root / "data", report=lambda line: None)
    return root


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model": {"hidden_size": 32}}, r"has shape \[.*16.*\], not \[.*32.*\]"),
        ({"model": {"L_layers": 2}}, r"lacks model/L_level\.layers\.1"),
        ({"training": {"optimizer": "adamw"}}, "exp_avg, exp_avg_sq is not AdamW"),
        ({"training": {"optimizer": "muon"}}, "optimizers: 1, not 2"),
        ({"training": {"ema_decay": 0.0}}, "has too much: ema/"),
        ({"training": {"global_batch_size": 8}}, r"slots/0/\w+ has shape \[4.*, not \[8"),
        ({"training": {"slot_turns": 2}}, "lacks slots/1"),
    ],
)
def test_a_checkpoint_that_does_not_fit(change: dict, problem: str, trained: Path, tmp_path: Path):
    recipe = replace(
        RECIPE, **{part: replace(getattr(RECIPE, part), **new) for part, new in change.items()}
    )
    checkpoint = str(trained / "run/checkpoints/step-00000002.safetensors")
    with pytest.raises(ValueError, match=problem) as error:
        run(recipe, tmp_path, trained / "data", resume=checkpoint, report=lambda line: None)
    assert "\n" not in str(error.value) and checkpoint in str(error.value)
