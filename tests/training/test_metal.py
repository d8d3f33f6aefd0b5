"""Apple's Metal has no float64: no tensor of a model's device may be one.

Only a Mac has such a device, so two memories are played on the CPU: what `Tensor.cpu` returns, and
what is made without naming a device, is on the host; all else is on the device.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ostinato.cli import main
from ostinato.inference import rollout
from ostinato.inference.generate import generate
from ostinato.inference.sampling import Sampling
from ostinato.models import RECURSIVE_MODELS, NanoChat
from ostinato.training.run import ignore, run
from ostinato.weights.load import load
from tests.tiny import MODELS, tiny_recipe
from tests.training import test_prompts


def keep_on_host(tensor: Tensor) -> Tensor:
    """Mark a tensor."""
    tensor.on_host = True  # pyright: ignore[reportAttributeAccessIssue]
    return tensor


class Metal(TorchFunctionMode):
    """Raise TypeError when a tensor on the device becomes float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        tensors = [value for value in given if isinstance(value, Tensor)]
        named = any(isinstance(value, torch.device) for value in given)
        on_host = all(hasattr(tensor, "on_host") for tensor in tensors) and not named
        result = func(*args, **kwargs)
        if func is Tensor.cpu:
            result, on_host = result.view_as(result), True
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                if on_host:
                    keep_on_host(tensor)
                elif tensor.dtype == torch.float64:
                    raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return result


def test_the_stand_in_tells_the_memories_apart():
    weights = torch.ones(3)
    with Metal():
        assert weights.cpu().double().sum() == torch.zeros(2, dtype=torch.float64).sum() + 3
        with pytest.raises(TypeError, match="float64"):
            weights.double()
        with pytest.raises(TypeError, match="float64"):
            torch.zeros(1, dtype=torch.float64, device=weights.device)


@pytest.mark.parametrize("name", MODELS)
def test_models_train_and_are_scored_without_float64(name: str, tmp_path: Path):
    folder = tmp_path / "run"
    with Metal():
        run(tiny_recipe(name, tmp_path / "corpus"), folder, tmp_path / "data", report=ignore)
        assert main(["eval", str(folder), "--data-root", str(tmp_path / "data")]) == 0
        if name in RECURSIVE_MODELS:
            ways = ["--views", "2", "--rollouts", "2", "--restarts", "2"]
            main(["solve", str(folder), ".1..3..12..4..3.", "--no-verify", *ways])
        else:
            assert main(["generate", str(folder), "low", "--max-tokens", "4"]) == 0


def test_loops_train_and_are_scored_without_float64(tmp_path: Path):
    recipe = tiny_recipe("nanochat", tmp_path / "corpus", gate_start=0.5)
    recipe = replace(recipe, model=replace(recipe.model, num_loops=2))
    folder = tmp_path / "run"
    with Metal():
        run(recipe, folder, tmp_path / "data", report=ignore)
        assert main(["eval", str(folder), "--data-root", str(tmp_path / "data")]) == 0
        model, sampling = load(folder, kind=NanoChat), Sampling(exit_threshold=0.5)
        assert list(generate(model, "low", sampling=sampling, max_tokens=3, product="float"))


@pytest.mark.parametrize("method", ["maxrl", "supervised"])
def test_prompts_train_and_are_scored_without_float64(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = torch.from_numpy  # which no mode sees
    monkeypatch.setattr(torch, "from_numpy", lambda array: keep_on_host(made(array)))
    monkeypatch.setattr(rollout, "widest_dtype", lambda device: torch.float32)
    folder = tmp_path / "run"
    with Metal():
        test_prompts.train(test_prompts.tiny(method=method), folder)
        assert main(["eval", str(folder), "--data-root", str(tmp_path / "data")]) == 0
