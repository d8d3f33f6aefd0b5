"""The estimators, exactly: every outcome of a small bandit is enumerated."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from ostinato.evaluation.prompts import pass_at
from ostinato.models import NanoChat, NanoChatConfig
from ostinato.training.policy import Policy, Weighted, advantages

MODEL = NanoChatConfig(
    vocab_size=7, seq_len=12, hidden_size=16, num_layers=2, num_heads=2, group_size=16
)


def expected_gradient(samples: int, p: float, estimator) -> float:
    """E[Σ A_i ∇ log π(y_i) / N] for one weight θ with p = sigmoid(θ), over all 2^N outcomes."""
    total = 0.0
    for outcome in itertools.product((0.0, 1.0), repeat=samples):
        rewards = torch.tensor([outcome], dtype=torch.float64)
        chance = p ** sum(outcome) * (1 - p) ** (samples - sum(outcome))
        scores = [1 - p if right else -p for right in outcome]  # of log p and of log (1 - p)
        weights = advantages(rewards, estimator)[0].tolist()
        total += chance * sum(a * s for a, s in zip(weights, scores, strict=True)) / samples
    return total


@pytest.mark.parametrize("samples", [2, 3, 5])
@pytest.mark.parametrize("p", [0.03, 0.4, 0.9])
def test_the_mean_of_each_estimator_is_the_gradient_it_is_said_to_be(samples: int, p: float):
    slope = p * (1 - p)
    maxrl = slope * sum((1 - p) ** (k - 1) for k in range(1, samples))
    assert expected_gradient(samples, p, "maxrl") == pytest.approx(maxrl, rel=1e-12)
    reinforce = slope * (samples - 1) / samples
    assert expected_gradient(samples, p, "reinforce") == pytest.approx(reinforce, rel=1e-12)


def group(weights: list[list[float]]) -> Weighted:
    generator = torch.Generator().manual_seed(1)
    shape = len(weights), len(weights[0]), 5
    lengths = torch.randint(1, 6, shape[:2], generator=generator)
    return Weighted(
        torch.randint(7, (len(weights), 4), generator=generator),
        torch.randint(7, shape, generator=generator),
        torch.arange(5) < lengths[..., None],
        torch.tensor(weights),
    )


def gradients(groups: list[Weighted], model: NanoChat) -> list[Tensor]:
    model.zero_grad()
    Policy(model)(groups).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("estimator", ["maxrl", "reinforce"])
@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_prompts_that_are_all_right_or_all_wrong_change_nothing(estimator, reward: float):
    model = NanoChat(MODEL, torch.Generator().manual_seed(0))
    idle = torch.full((2, 3), reward)
    assert not advantages(idle, estimator).any()
    whole = group(advantages(idle, estimator).tolist())
    assert len(whole.without_idle_prompts().prompts) == 0
    for groups in ([whole], [whole.without_idle_prompts()], []):
        found = gradients(groups, model)
        assert len(found) == len(list(model.parameters()))
        assert not any(gradient.any() for gradient in found)


@pytest.mark.parametrize("settings", [{}, {"ternary": False, "num_streams": 1, "num_kv_heads": 1}])
def test_the_loss_is_that_of_whole_texts_read_one_by_one(settings: dict):
    model = NanoChat(NanoChatConfig(**{**vars(MODEL), **settings})).double()
    nn.init.normal_(model.embed_tokens.weight, generator=torch.Generator().manual_seed(2))
    some = group([[0.5, -1.0], [0.0, 2.0], [1.0, -0.25]])
    found = gradients([some], model)
    model.zero_grad()
    for prompt, completions, written, weights in zip(
        some.prompts, some.completions, some.written, some.weights, strict=True
    ):
        for tokens, kept, weight in zip(completions, written, weights, strict=True):
            text = torch.cat([prompt, tokens[kept]])
            logarithms = model(text[None, :-1])[0].double().log_softmax(-1)
            chosen = logarithms.gather(1, text[1:, None])[len(prompt) - 1 :]
            (-weight * chosen.sum()).backward()
    for one, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-4, atol=1e-6)


def test_pass_at_k_is_the_share_of_choices_with_a_right_one():
    for samples, right, k in ((4, 1, 1), (6, 2, 4), (5, 0, 2), (5, 4, 3)):
        outcomes = [1] * right + [0] * (samples - right)
        choices = [max(chosen) for chosen in itertools.combinations(outcomes, k)]
        assert pass_at(k, samples, right) == pytest.approx(sum(choices) / len(choices))
