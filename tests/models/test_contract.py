"""Every model of `MODELS` keeps this contract: a new one is tested here by its line there."""

import os
import signal
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from torch import Tensor

import ostinato
from ostinato.cli import main
from ostinato.cli.export import Export
from ostinato.models import MODELS, RECURSIVE_MODELS, NanoChat
from ostinato.training.run import run
from ostinato.training.tracking import Tracker
from ostinato.weights.fitting import load_weights
from ostinato.weights.save import Model, save_weights
from tests.tiny import assert_same_bits, assert_same_model, tiny_model, tiny_recipe

EVERY = pytest.mark.parametrize("name", MODELS)
FORMATS = get_args(get_type_hints(Export, vars(ostinato))["format"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of every model."""
    root = tmp_path_factory.mktemp("trained")
    for name in MODELS:
        train(name, root)
    return root


def train(name: str, root: Path, run_name: str = ""):
    recipe = tiny_recipe(name, root / "corpus")
    return run(recipe, root / (run_name or name), root / "data", report=lambda line: None)


def answers(model: Model) -> list[Tensor]:
    """All that a model says about some tokens, step by step."""
    tokens = torch.randint(1, 6, (2, 16), generator=torch.Generator().manual_seed(2))
    if isinstance(model, NanoChat):
        return [model(tokens)]
    steps = ostinato.think(model, tokens)
    return [part for s in steps for part in (*s.state, *s.output) if part is not None]


@EVERY
def test_the_seed_gives_its_weights(name: str):
    model, again, other = (tiny_model(name, seed) for seed in (1, 1, 2))
    assert_same_model(model, again)
    with pytest.raises(AssertionError):
        assert_same_model(model, other)


@EVERY
def test_its_rows_do_not_see_each_other(name: str):
    model, tokens = tiny_model(name).eval(), torch.arange(32).view(2, 16) % 6
    if isinstance(model, NanoChat):
        both, alone = model(tokens), model(tokens[1:])
    else:
        both, alone = (
            model(model.initial_state(len(t)), t, torch.zeros(len(t), dtype=torch.int32))[1].logits
            for t in (tokens, tokens[1:])
        )
    torch.testing.assert_close(both[1:], alone)
    assert not torch.allclose(both[0], both[1])


@pytest.mark.parametrize("name", RECURSIVE_MODELS)
def test_its_h_cycles_are_alike_and_only_the_last_has_a_gradient(name: str):
    model, tokens = tiny_model(name).eval(), torch.arange(32).view(2, 16) % 6
    ids, state = torch.zeros(2, dtype=torch.int32), model.initial_state(2)
    whole, output = model(state, tokens, ids, H_cycles=2)
    half, _ = model(state, tokens, ids, H_cycles=1)
    again, same = model(half, tokens, ids, H_cycles=1)
    torch.testing.assert_close((whole, output), (again, same))
    assert not any(z.requires_grad for z in whole)
    weight = next(model.reasoning_modules()[0].parameters())
    first, second = (torch.autograd.grad(o.logits.sum(), weight)[0] for o in (output, same))
    torch.testing.assert_close(first, second)
    assert first.abs().max() > 0


@EVERY
def test_a_file_gives_it_back_and_one_with_other_tensors_is_refused(name: str, tmp_path: Path):
    model = tiny_model(name)
    save_weights(tmp_path / "model.safetensors", model, step=3)
    loaded = ostinato.load(tmp_path)
    assert_same_model(loaded, model)
    assert not loaded.training
    tensors = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for key, tensor in tensors.items():
        others = {k: v for k, v in tensors.items() if k != key}
        wide = torch.cat([tensor, tensor[..., :1]], dim=-1)
        for changed, problem in (
            (others, f"lacks the tensor {key}"),
            (tensors | {f"{key}_2": tensor}, f"does not know: {key}_2"),
            (others | {key: wide}, f"{key} has shape "),
            (others | {key: tensor.to(torch.int32)}, f"{key} is torch.int32"),
            (others | {key: tensor * torch.nan}, f"{key} is not finite"),
        ):
            with pytest.raises(ValueError, match=r"^FILE") as error:
                load_weights(model, changed, "FILE")
            assert problem in str(error.value)


@EVERY
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    name: str, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    advance = Tracker.advance

    def stop(tracker: Tracker, step: int) -> None:
        advance(tracker, step)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "advance", stop)
        stopped = train(name, trained, f"{name}-parts")
    assert (stopped.step, stopped.finished) == (3, False)
    assert train(name, trained, f"{name}-parts").finished
    assert_same_bits(trained / name, trained / f"{name}-parts")


TRACED = {"onnx", "web"}


@EVERY
@pytest.mark.parametrize(
    "form", [pytest.param(f, marks=[pytest.mark.compile] * (f in TRACED)) for f in FORMATS]
)
def test_every_format_gives_its_answers_or_says_what_to_use(
    name: str, form: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["export", str(trained / name), "--format", form, "--output", str(tmp_path / "out")]
    try:
        main(words)
    except SystemExit as end:
        message = capsys.readouterr().err
        assert end.code == 2 and message.count("\n") == 1 and form != "safetensors"
        assert ": use " in message or ": choose " in message
        return
    path = Path(capsys.readouterr().out.strip())
    if form == "web":
        assert path.exists()
        return
    model = ostinato.load(trained / name)
    torch.testing.assert_close(answers(ostinato.load(path)), answers(model), atol=1e-4, rtol=1e-4)
