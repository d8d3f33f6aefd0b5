"""The loss in parts, against PyTorch's on all logits at once."""

import pytest
import torch
from torch.nn import functional as F

from ostinato.data.text.token_set import IGNORE_LABEL
from ostinato.training import cross_entropy
from ostinato.training.cross_entropy import cross_entropies, likeliest_is


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_losses_and_gradients_are_those_of_all_logits_at_once(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    """Seven tokens in parts of three; two of them do not count."""
    monkeypatch.setattr(cross_entropy, "CPU_NUMBERS", 3 * 11)
    rng = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(7, 11, generator=rng)).to(dtype)
    labels = torch.randint(11, (7,), generator=rng)
    labels[[2, 6]] = IGNORE_LABEL
    weights = torch.rand(7, generator=rng).to(torch.promote_types(dtype, torch.float32))
    found, gradients = [], []
    for losses_of in (
        cross_entropies,
        lambda x, y: F.cross_entropy(x.to(weights.dtype), y, reduction="none"),
    ):
        leaf = logits.clone().requires_grad_()
        losses = losses_of(leaf, labels)
        (losses * weights).sum().backward()
        assert leaf.grad is not None and not leaf.grad[[2, 6]].any()
        found.append(losses.detach())
        gradients.append(leaf.grad)
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*gradients)
    assert likeliest_is(logits, logits.argmax(-1)).all()
    assert not likeliest_is(logits, (logits.argmax(-1) + 1) % 11).any()
