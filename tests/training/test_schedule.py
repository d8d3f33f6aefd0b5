"""The learning rate at points computed by hand."""

import pytest

from ostinato.models.recursive_config import Cycles
from ostinato.training.schedule import Schedule, cycles_at

LINEAR = Schedule(total_steps=100, warmup_steps=10, decay_start=0.5, min_ratio=0.0, shape="linear")


@pytest.mark.parametrize(
    ("step", "time_used", "factor"),
    [
        (1, 0.0, 0.1),
        (10, 0.0, 1.0),
        (50, 0.0, 1.0),
        (75, 0.0, 0.5),
        (100, 0.0, 0.0),
        (20, 0.4, 1.0),  # neither steps nor time have come to the decay
        (20, 0.75, 0.5),  # time is ahead
        (90, 0.75, 0.2),  # steps are
        (30, 1.0, 0.0),
        (5, 0.9, 0.5),  # the warm-up is not cut short
    ],
)
def test_factor(step: int, time_used: float, factor: float):
    assert LINEAR(step, time_used) == pytest.approx(factor)


def test_a_constant_rate_stays_constant():
    assert {Schedule(100, 0)(step, 0.9) for step in (1, 50, 100)} == {1.0}
    assert Schedule(100, 0, decay_start=1.0, min_ratio=0.0)(99, 0.99) == 1.0


def test_depth_of_the_published_curriculum():
    """CGAR's stages: (1, 2) up to 30 %, (2, 4) up to 60 %, then all."""
    full, rises = Cycles(3, 6), (0.3, 0.6)
    stages = {share: cycles_at(share, rises, full) for share in (0.0, 0.29, 0.3, 0.59, 0.6, 1.0)}
    assert stages == {
        0.0: (1, 2),
        0.29: (1, 2),
        0.3: (2, 4),
        0.59: (2, 4),
        0.6: (3, 6),
        1.0: (3, 6),
    }


def test_depth_without_a_curriculum_is_full():
    assert cycles_at(0.0, (), Cycles(2, 1)) == (2, 1)


def test_depth_is_never_less_than_there_is():
    assert cycles_at(0.0, (0.5,), Cycles(1, 1)) == (1, 1)
