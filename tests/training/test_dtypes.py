"""A run chooses its dtypes where it starts, and keeps them wherever it is resumed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ostinato.recipes import all_recipes
from ostinato.training.config import Recipe, TrainingConfig
from ostinato.training.run import run
from ostinato.training.state import TrainState
from ostinato.weights.load import load
from tests.tiny import DATA, tiny_config

MODEL = tiny_config("trm", mlp_t=True, pos_encodings="none", forward_dtype="auto")
TRAINING = TrainingConfig(
    global_batch_size=4, optimizer="muon", eval_every=2, checkpoint_every=2, device="cpu"
)


@pytest.fixture
def on_machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Make this processor look as if it were fast in bfloat16, or were not."""

    def pretend(fast: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": fast})
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)

    return pretend


def train(folder: Path, steps: int, recipe: Recipe | None = None) -> str:
    """Return the output of a session that takes a run up to so many steps."""
    said: list[str] = []
    recipe = recipe or Recipe("tiny", MODEL, DATA, TRAINING)
    recipe = replace(recipe, training=replace(recipe.training, total_steps=steps))
    run(recipe, folder, folder.parent / "data", extend=True, report=said.append)
    return "\n".join(said)


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def dtypes(folder: Path) -> tuple[str, str]:
    """Return the dtypes of the model and of Muon, as recorded; the weights have the same."""
    found = config(folder)
    assert load(folder).config.forward_dtype == found["model"]["forward_dtype"]
    return found["model"]["forward_dtype"], found["training"]["muon_dtype"]


@pytest.mark.parametrize("fast", [False, True])
def test_a_run_keeps_the_dtypes_of_the_machine_it_began_on(
    fast: bool, tmp_path: Path, on_machine: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
):
    used, start = [], TrainState.start

    def watched(*arguments: Any, **options: Any) -> TrainState:
        state = start(*arguments, **options)
        used.append((state.model.H_init.dtype, state.optimizers[0].dtype))  # pyright: ignore
        return state

    monkeypatch.setattr(TrainState, "start", watched)
    dtype = "bfloat16" if fast else "float32"
    on_machine(fast)
    assert "warning" not in train(tmp_path / "run", 2)
    on_machine(not fast)
    said = train(tmp_path / "run", 4)
    assert f"in {dtype} on cpu" in said
    assert ("has --forward-dtype bfloat16 and --muon-dtype bfloat16" in said) == fast
    assert dtypes(tmp_path / "run") == (dtype, dtype)
    assert used == 2 * [2 * (getattr(torch, dtype),)]


def test_a_run_from_before_muon_had_a_dtype_goes_on_in_bfloat16(
    tmp_path: Path, on_machine: Callable[[bool], None]
):
    on_machine(True)
    train(tmp_path / "run", 2)
    old = config(tmp_path / "run")
    del old["training"]["muon_dtype"]
    (tmp_path / "run/config.json").write_text(json.dumps(old))
    on_machine(False)
    train(tmp_path / "run", 4)
    assert dtypes(tmp_path / "run") == ("bfloat16", "bfloat16")
    other = replace(TRAINING, muon_dtype="float32")
    with pytest.raises(ValueError, match=r"training\.muon_dtype = bfloat16, not float32"):
        train(tmp_path / "run", 6, Recipe("tiny", MODEL, DATA, other))


@pytest.mark.parametrize("name", all_recipes())
def test_no_recipe_is_slow_by_itself(name: str):
    recipe = all_recipes()[name]()
    assert recipe.model.forward_dtype in ("auto", "float32")
    assert recipe.training.muon_dtype in ("auto", "float32")
