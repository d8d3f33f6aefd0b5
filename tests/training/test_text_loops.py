"""Runs of looped models: stage I, then the gate alone, and the same bits after a stop."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ostinato.data.text.token_set import IGNORE_LABEL
from ostinato.models import NanoChatConfig
from ostinato.training import text
from ostinato.training.distributed import World
from ostinato.training.loops import Passes, looped_loss
from ostinato.training.text_state import TextState
from ostinato.verify import reference_text
from ostinato.weights.load import load
from tests.training.test_text import (
    CPU,
    MODEL,
    corpus,
    last_checkpoint,
    metrics,
    tiny,
    train,
    windows,
)

__all__ = ["corpus"]
LOOPED = replace(MODEL, num_loops=3, sandwich_norm=True)


def test_the_gate_is_trained_at_the_end_and_alone(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = tiny(corpus, LOOPED, gate_start=0.5, eval_every=12, checkpoint_every=12)
    step, seen = text.train_step, []

    def stopped(*arguments):
        result = step(*arguments)
        seen.append({k: v.clone() for k, v in arguments[0].model.state_dict().items()})
        if len(seen) in (24 + 7, 24 + 15):
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(text, "train_step", stopped)
    assert train(recipe, tmp_path / "whole").finished
    before, middle, after = seen[0], seen[11], seen[23]
    for name in after:
        assert not torch.equal(before[name], middle[name]), name
        assert torch.equal(middle[name], after[name]) != name.startswith("exit_gate."), name
    kept = load(tmp_path / "whole")
    assert torch.equal(kept.exit_gate.weight, after["exit_gate.weight"])

    by_hand = [
        0.1 + 0.9 * (1 + torch.tensor(k / 2.4 * torch.pi).cos().item()) / 2 for k in (0.4, 1.4, 2.4)
    ]
    rates = metrics(tmp_path / "whole", "lr")
    assert rates[9:12] == pytest.approx([1e-2 * f for f in by_hand])
    assert rates[12:] == [1e-2] * 12
    assert 1 < min(metrics(tmp_path / "whole", "train/exit_pass")) < 3

    assert [train(recipe, tmp_path / "parts").step for _ in range(3)] == [7, 15, 24]
    one, other = last_checkpoint(tmp_path / "whole"), last_checkpoint(tmp_path / "parts")
    assert all(torch.equal(v, other["model"][k]) for k, v in one["model"].items())


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (MODEL, {"gate_start": 0.5}, "set num_loops above 1"),
        (LOOPED, {"entropy_bonus": 0.1}, "entropy_bonus is for a model without loops"),
        (LOOPED, {"gate_start": 0.5, "decay_by": "time"}, "set decay_by to steps"),
    ],
)
def test_settings_that_do_not_fit_loops_are_refused(
    model: NanoChatConfig, settings: dict, message: str, corpus: Path, tmp_path: Path
):
    with pytest.raises(ValueError, match=message):
        train(tiny(corpus, model, **settings), tmp_path / "run")


def test_the_weight_of_the_entropy_falls_in_a_line(corpus: Path):
    config = tiny(corpus, LOOPED, total_steps=22, gate_start=0.5).training
    found = [config.exit_entropy_at(step) for step in (1, 6, 11, 22)]
    assert found == pytest.approx([0.1, 0.075, 0.05, 0.05])


@pytest.mark.parametrize("step", [0, 11, 23])
def test_the_loss_of_an_update_has_the_weight_of_its_number(step: int, corpus: Path):
    """Σ p_t L_t - β H(p), with β falling from 0.1 in the first update to 0.05 in the last."""
    recipe = tiny(corpus, LOOPED)
    state = TextState.start(recipe, CPU, World())
    state.step = step
    loss, _ = state.loss(windows(), windows()[:, 1:], recipe.training, gate_only=False)
    states = list(state.model.states(windows()[:, :-1]))
    exits = torch.stack([state.model.exit_logits(x) for x in states])
    logits = torch.stack([state.model.read_out(x) for x in states])
    wanted = reference_text.stage_one(logits, exits, windows()[:, 1:], 0.1 - 0.05 * step / 23)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize("smooth", [0.0, 0.1])
def test_labels_alone_count_and_the_plain_loss_of_the_last_pass_is_logged(smooth: float):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 4, 7, generator=rng, dtype=torch.float64)
    exits = torch.randn(3, 2, 4, generator=rng, dtype=torch.float64)
    inputs, labels = torch.randint(7, (2, 2, 4), generator=rng)
    logits[2, 1, 3, inputs[1, 3]] = logits[2, 0, 1, inputs[0, 1]] = 9.0
    labels[0, :3] = IGNORE_LABEL
    loss, sums = looped_loss(Passes(logits, exits), inputs, labels, 0.1, smooth, gate_only=False)
    counted = labels >= 0
    logs, shares = logits[:, counted].log_softmax(-1), reference_text.exit_shares(exits[:, counted])
    plain = -torch.stack([log.gather(1, labels[counted][:, None])[:, 0] for log in logs])
    entropy = -(shares * shares.log()).sum()
    losses = (1 - smooth) * plain - smooth * logs.mean(-1)
    assert loss.item() == pytest.approx(((shares * losses).sum() - 0.1 * entropy).item())
    wanted = {
        "loss": loss.item(),
        "cross_entropy": plain[2].sum().item(),
        "copied": (logs[2].argmax(-1) == inputs[counted]).sum().item(),
        "tokens": 5,
        "exit_pass": sum((t * shares[t - 1]).sum().item() for t in (1, 2, 3)),
        "exit_entropy": entropy.item(),
    }
    assert {name: value.item() for name, value in sums.items()} == pytest.approx(wanted)
    assert wanted["copied"] > 0


def test_a_trained_model_gets_its_gate_alone(corpus: Path, tmp_path: Path):
    train(tiny(corpus, LOOPED, total_steps=2), tmp_path / "first")
    recipe = tiny(corpus, LOOPED, total_steps=4, gate_start=0.0, init_from=str(tmp_path / "first"))
    train(recipe, tmp_path / "second")
    before, after = (load(tmp_path / name).state_dict() for name in ("first", "second"))
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"exit_gate.weight", "exit_gate.bias"}
