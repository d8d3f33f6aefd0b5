"""`ostinato bench train`: operations counted by hand; what is printed hangs together."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from ostinato.bench import measure, training
from ostinato.bench.measure import Spread, measure_peak
from ostinato.bench.training import bench_training, puzzle_flops, random_batches, text_flops
from ostinato.cli import main
from ostinato.layers.feedforward import swiglu_width
from ostinato.models import HRM, TRM, HRMConfig, NanoChat, NanoChatConfig, TRMConfig
from ostinato.recipes import recipe_named
from ostinato.training import puzzles

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_heads": 2,
    "puzzle_emb_ndim": 32,
    "puzzle_emb_len": 2,
    "seq_len": 16,
    "forward_dtype": "float32",
}


@pytest.fixture(autouse=True)
def weak_machine(monkeypatch: pytest.MonkeyPatch):
    """The machine's speed is no matter here, so let its measurement be short."""
    monkeypatch.setattr(measure, "SQUARE", {"cpu": 64})
    monkeypatch.setattr(measure, "PEAK_SECONDS", 0.001)


def swiglu(rows: int, width: int) -> int:
    inner = swiglu_width(width, 4.0)
    return 2 * rows * width * 2 * inner + 2 * rows * inner * width


def attention(length: int, width: int) -> int:
    scores_and_sums = 2 * 2 * length * length * width
    return 2 * length * width * 3 * width + scores_and_sums + 2 * length * width * width


@pytest.mark.parametrize("mlp_t", [False, True])
@pytest.mark.parametrize("cycles", [(1, 1), (3, 4)])
def test_operations_of_trm(mlp_t: bool, cycles: tuple[int, int]):
    H_cycles, L_cycles = cycles
    config = TRMConfig(
        **SMALL,
        H_cycles=H_cycles,
        L_cycles=L_cycles,
        mlp_t=mlp_t,
        pos_encodings="none" if mlp_t else "rope",
    )
    mixing = swiglu(32, 18) if mlp_t else attention(18, 32)
    module = config.L_layers * (mixing + swiglu(18, 32))
    heads = 2 * 16 * 32 * config.vocab_size + 2 * 32 * 2
    flops = puzzle_flops(TRM(config))
    assert flops.forward_without_gradient == (H_cycles - 1) * (L_cycles + 1) * module
    assert flops.forward_with_gradient == (L_cycles + 1) * module + heads
    assert flops.backward == 2 * flops.forward_with_gradient
    assert flops.total == 3 * flops.forward_with_gradient + flops.forward_without_gradient


def test_operations_of_hrm_with_its_second_pass():
    config = HRMConfig(**SMALL, H_layers=1, L_layers=2, H_cycles=2, L_cycles=2)
    block = attention(18, 32) + swiglu(18, 32)
    heads = 2 * 16 * 32 * config.vocab_size + 2 * 32 * 2
    step = 4 * 2 * block + 2 * block
    flops = puzzle_flops(HRM(config))
    assert flops.forward_with_gradient == 3 * block + heads
    assert flops.forward_without_gradient == (step - 3 * block) + (step + heads)
    assert flops.backward == 2 * flops.forward_with_gradient


def test_the_published_model_takes_what_was_published():
    """About 33 TFLOP for a step of TRM-MLP: 768 puzzles of 97 tokens, 21 passes, 7 of them back."""
    recipe = recipe_named("sudoku-extreme-mlp")
    assert isinstance(recipe.model, TRMConfig)
    flops = puzzle_flops(TRM(replace(recipe.model, forward_dtype="bfloat16")))
    assert 32.5e12 < 768 * flops.total < 33.5e12


def test_counting_leaves_the_model_alone():
    model = TRM(TRMConfig(**SMALL))
    puzzle_flops(model)
    assert not any(p.grad is not None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_peak_is_that_of_the_product(monkeypatch: pytest.MonkeyPatch):
    """With a clock that gives every product a second, and the first is not counted."""
    spent = []
    monkeypatch.setattr(measure, "seconds_of", lambda work, device: spent.append(work()) or 1.0)
    monkeypatch.setattr(measure, "PEAK_SECONDS", 2.5)
    assert measure_peak(torch.float32, torch.device("cpu")) == 2 * 64**3
    assert [tuple(product.shape) for product in spent] == [(64, 64)] * 4


@pytest.mark.parametrize(("flops", "side"), [(1e9, 256), (1e13, 2048)])
def test_measuring_the_peak_takes_bounded_time(
    flops: float, side: int, monkeypatch: pytest.MonkeyPatch
):
    """With a clock that tells what a machine of that speed would take."""
    products: list[tuple[int, float]] = []

    def seconds_of(work: Any, device: torch.device) -> float:
        products.append((len(work.args[0]), 2 * len(work.args[0]) ** 3 / flops))
        return products[-1][1]

    monkeypatch.setattr(measure, "SQUARE", {"cpu": 2048})
    monkeypatch.setattr(measure, "seconds_of", seconds_of)
    monkeypatch.setattr(measure, "PEAK_SECONDS", 0.1)
    assert measure_peak(torch.float32, torch.device("cpu")) == pytest.approx(flops)
    assert products[-1][0] == side
    assert sum(seconds for _, seconds in products) < 4 * 0.1


def test_random_batches_fit_the_model():
    config = TRMConfig(**SMALL, vocab_size=7, num_puzzle_identifiers=3)
    batches = random_batches(config, 50, torch.device("cpu"))
    first, second = next(batches), next(batches)
    assert not torch.equal(first.inputs, second.inputs)
    for tokens in (first.inputs, first.labels):
        assert tokens.shape == (50, 16) and set(tokens.unique().tolist()) == set(range(7))
    assert set(first.puzzle_ids.tolist()) == {0, 1, 2}


def test_spread():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert Spread.of([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)


WORDS = (
    "bench train sudoku4-tiny --hidden-size 32 --puzzle-emb-ndim 32 --global-batch-size 4 "
    "--device cpu --steps 2 --repeat 3"
).split()


def test_quantities_hang_together(capsys: pytest.CaptureFixture[str]):
    assert main([*WORDS, "--json"]) == 0
    printed = capsys.readouterr()
    speed = json.loads(printed.out)
    assert (speed["recipe"], speed["batch_size"], speed["tokens"]) == ("sudoku4-tiny", 4, 17)
    assert (speed["steps"], speed["repetitions"], speed["dtype"]) == (2, 3, "float32")
    assert "3 of 3" in printed.err
    total = sum(speed["flops_per_unit"].values())
    for name in ("seconds_per_step", "flops_per_second", "share_of_peak", "peak_flops_per_second"):
        assert 0 < speed[name]["low"] <= speed[name]["median"] <= speed[name]["high"]
    median = speed["units_per_second"]["median"]
    assert speed["seconds_per_step"]["median"] == pytest.approx(4 / median)
    assert speed["flops_per_second"]["median"] == pytest.approx(total * median)
    assert speed["peak_memory_bytes"] > 10_000_000
    model = recipe_named("sudoku4-tiny").model
    assert isinstance(model, TRMConfig)
    small = TRM(replace(model, hidden_size=32, puzzle_emb_ndim=32))
    assert speed["parameters"] == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize("ternary", [True, False])
def test_operations_of_a_language_model(ternary: bool):
    config = NanoChatConfig(
        vocab_size=50,
        seq_len=20,
        hidden_size=32,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        group_size=32,
        num_streams=1,
        ternary=ternary,
    )
    matrices = sum(p.numel() for name, p in NanoChat(config).named_parameters() if "_proj." in name)
    scores_and_sums = 2 * 20 * 32
    forward = 2 * (matrices + config.num_layers * scores_and_sums + 50 * 32)
    flops = text_flops(NanoChat(config))
    assert (flops.forward_without_gradient, flops.forward_with_gradient) == (0, forward)
    assert flops.backward == 2 * forward


def test_language_models_are_counted_in_tokens(capsys: pytest.CaptureFixture[str]):
    words = (
        "bench train nanochat-tiny --hidden-size 128 --num-layers 1 --seq-len 16 "
        "--global-batch-size 4 --device cpu --steps 1 --repeat 2"
    )
    assert main([*words.split(), "--json"]) == 0
    speed = json.loads(capsys.readouterr().out)
    assert (speed["unit"], speed["batch_size"], speed["tokens"]) == ("token", 4, 16)
    assert speed["seconds_per_step"]["high"] * speed["units_per_second"]["low"] == pytest.approx(64)
    assert main(words.split()) == 0
    assert "tokens/s" in capsys.readouterr().out


def test_table(capsys: pytest.CaptureFixture[str]):
    assert main([*WORDS]) == 0
    text = capsys.readouterr().out
    for line in ("sample-steps/s", "matmul peak, GFLOP/s", "share of the peak", "backward"):
        assert line in text


def test_training_is_the_real_one(monkeypatch: pytest.MonkeyPatch):
    """The weights move, and by as many steps as were asked for."""
    seen = []
    step = puzzles.train_step
    monkeypatch.setattr(
        puzzles, "train_step", lambda state, *rest: seen.append(state) or step(state, *rest)
    )
    recipe = recipe_named("sudoku4-tiny")
    recipe = replace(
        recipe,
        model=replace(recipe.model, hidden_size=32, puzzle_emb_ndim=32),
        training=replace(recipe.training, global_batch_size=4),
    )
    bench_training(recipe, torch.device("cpu"), steps=2, repetitions=3, report=lambda line: None)
    assert len(seen) == training.WARM_UP_STEPS + 6 == seen[-1].step
    assert isinstance(recipe.model, TRMConfig)
    fresh = TRM(recipe.model, torch.Generator().manual_seed(recipe.training.seed))
    assert not torch.equal(seen[-1].model.lm_head.weight, fresh.lm_head.weight)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("bench trian", "there is no bench 'trian': did you mean train?"),
        ("bench train sudoku4-tinny", "unknown recipe 'sudoku4-tinny': did you mean sudoku4-tiny?"),
        ("bench train sudoku4-tiny --repeat 0", "repeat must be at least 1, not 0"),
        ("bench train sudoku4-tiny --stps 3", "unknown setting --stps: did you mean --steps?"),
        ("bench train sudoku4-tiny --num-train 3", "unknown setting --num-train"),
    ],
)
def test_mistakes_take_one_line(capsys: pytest.CaptureFixture[str], words: str, message: str):
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ("bench --help", "usage: ostinato bench KIND"),
        ("bench train --help", "usage: ostinato bench train RECIPE"),
        ("bench train sudoku4-tiny -h", "usage: ostinato bench train"),
    ],
)
def test_help(capsys: pytest.CaptureFixture[str], words: str, usage: str):
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 0
    assert usage in capsys.readouterr().out
