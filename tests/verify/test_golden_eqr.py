"""EqR's recorded steps, and that a wrong damping or residual would be noticed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ostinato.layers import Relaxation
from ostinato.verify import golden_eqr
from ostinato.verify.golden import verify_golden

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = [GOLDEN / f"eqr_{name}.safetensors" for name in ("mlp", "attention")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_number_agrees(path: Path):
    comparisons = verify_golden(path)
    assert {c.kind for c in comparisons} == {"outputs", "carry", "residual"}
    for comparison in comparisons:
        assert comparison.passed, comparison
        assert comparison.strict + comparison.limited == comparison.numbers
        assert comparison.floor < 1e-4
        assert comparison.tolerance == 1e-5


def test_another_damping_is_noticed(monkeypatch: pytest.MonkeyPatch):
    call = Relaxation.__call__
    monkeypatch.setattr(
        Relaxation, "__call__", lambda self, h, u: call(replace(self, damping=0.96), h, u)
    )
    assert not any(comparison.passed for comparison in verify_golden(FILES[0]))


def test_a_residual_of_all_steps_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(golden_eqr, "RESIDUAL_STEPS", 4)
    failed = [c.kind for c in verify_golden(FILES[0]) if not c.passed]
    assert failed == ["residual"]


def test_noise_is_drawn_anew_for_every_row_by_its_own_generator():
    """A row does not depend on who else is in the batch, and a row without generator has none."""
    zero = torch.zeros(3, 4, 5)
    seeds = [torch.Generator().manual_seed(1), None, torch.Generator().manual_seed(2)]
    noise = torch.tensor([0.5, 0.0, 0.5])[:, None, None]
    moved = Relaxation(1.0, noise, seeds)(zero, zero)
    alone = Relaxation(1.0, 0.5, [torch.Generator().manual_seed(2)])(zero[:1], zero[:1])
    torch.testing.assert_close(moved[2:], alone, rtol=0, atol=0)
    assert moved[0].std() > 0.2 and not moved[1].any()
