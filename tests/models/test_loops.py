"""Loops of nanochat: one pass is the model without them, and leaving early is only cheaper."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ostinato.inference.exits import EarlyExit
from ostinato.inference.generate import Sampling, generate
from ostinato.layers import log_exit_probabilities
from ostinato.models.nanochat import NanoChat
from ostinato.training.loops import stage_one, stage_two, token_losses
from tests.models.test_nanochat import SMALL, relative_error, text, trained

LOOPED = replace(SMALL, num_loops=4, forward_dtype="float64", stream_mode="dynamic")


def test_the_first_pass_is_the_model_without_loops_bit_for_bit():
    """Values and gradients; a new model without loops has the same weights, and no gate."""
    looped = NanoChat(replace(SMALL, num_loops=3), torch.Generator().manual_seed(0))
    plain = NanoChat(SMALL, torch.Generator().manual_seed(0))
    weights = {k: v for k, v in looped.state_dict().items() if not k.startswith("exit_gate.")}
    assert weights.keys() == plain.state_dict().keys()
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in weights.items())
    first = looped.read_out(next(iter(looped.states(text(SMALL)))))
    only = plain(text(SMALL))
    assert torch.equal(first, only) and not torch.equal(looped(text(SMALL)), only)
    for logits in (first, only):
        logits.square().sum().backward()
    theirs = dict(looped.named_parameters())
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, theirs[name].grad), name


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.9])
@torch.no_grad()
def test_leaving_early_gives_the_logits_of_the_pass_that_is_left(threshold: float):
    """All passes over the whole text, without a cache, and then the choice of one at each token."""
    model = trained(LOOPED).double()
    tokens = text(LOOPED)[:1]
    states = list(model.states(tokens))
    shares = log_exit_probabilities(torch.stack([model.exit_logits(x) for x in states])).exp()
    enough = shares.cumsum(0) >= threshold
    wanted = torch.where(enough[:-1].any(0), enough[:-1].int().argmax(0), 3)[0]
    read, depths, place = EarlyExit(model, model.new_cache(), threshold), [], 0
    for piece in tokens.split([5, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1], dim=1):
        logits, place = read(piece), place + piece.shape[1]
        depths.append(read.depth)
        assert read.depth == wanted[place - 1] + 1
        expected = model.read_out(states[read.depth - 1])[0, place - 1]
        assert relative_error(logits, expected) < 1e-5
    assert len(set(depths)) > 1


def test_a_threshold_without_loops_is_refused():
    with pytest.raises(ValueError, match="no loops to leave: set exit_threshold to 1"):
        generate(NanoChat(SMALL), [1], stand_in(), Sampling(exit_threshold=0.5))


def stand_in():
    class Letters:
        end_tokens = frozenset([0])

        def encode(self, text: str) -> list[int]:
            return [1]

        def token_bytes(self, token: int, previous: int) -> bytes:
            return b"a"

    return Letters()


def test_losses_by_hand():
    """Token by token, from the definitions."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 4, 7, generator=rng, dtype=torch.float64)
    exits = torch.randn(3, 2, 4, generator=rng, dtype=torch.float64)
    labels = torch.randint(7, (2, 4), generator=rng)
    losses = token_losses(logits, labels)
    first = second = 0.0
    for b in range(2):
        for i in range(4):
            there, chances = 1.0, exits[:, b, i].sigmoid().tolist()
            L = [F.cross_entropy(logits[t, b, i], labels[b, i]).item() for t in range(3)]
            for t, chance in enumerate([*chances[:2], 1.0]):
                p, there = there * chance, there * (1 - chance)
                first += p * L[t] + 0.1 * p * torch.tensor(p).double().log().item()
            for t in (1, 2):
                w = torch.tensor(50 * (max(0.0, L[t - 1] - L[t]) - 0.005)).sigmoid().item()
                stay = torch.tensor([1 - chances[t], chances[t]]).double().log().tolist()
                second -= (w * stay[0] + (1 - w) * stay[1]) / 2
    assert stage_one(losses, exits, 0.1).item() == pytest.approx(first, rel=1e-6)
    assert stage_two(losses, exits).item() == pytest.approx(second, rel=1e-6)


def test_certain_exits_stay_finite():
    log_p = log_exit_probabilities(torch.tensor([[1e4, -1e4], [0.0, 0.0], [5.0, 5.0]]))
    assert log_p.isfinite().all()
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(2))
