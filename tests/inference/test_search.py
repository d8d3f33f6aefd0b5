"""Settings of a search, and the selection rules against a line each."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostinato.inference.search import SEARCHES, Attempt, Search, best, search_named

NUMBERS = st.sampled_from([-2.0, -1.0, 0.5, 1.0, 3.0])


@st.composite
def attempts(draw: st.DrawFn) -> list[Attempt]:
    found = draw(
        st.lists(
            st.tuples(st.booleans(), st.sampled_from([0.5, 1.0, 1.5, 2.0]), NUMBERS, NUMBERS),
            min_size=1,
        )
    )
    return [
        Attempt("noise", np.array([place]), q, accepted, steps, steps, residual)
        for place, (accepted, steps, q, residual) in enumerate(found)
    ]


@given(attempts())
def test_selection_is_what_a_sort_by_hand_gives(found: list[Attempt]):
    """Among equals the earliest wins."""
    pool = [a for a in found if a.accepted] or found
    least = min(a.steps for a in pool)
    fastest = [a for a in pool if a.steps == least or not a.accepted]
    surest = next(a for a in pool if a.q_halt == max(b.q_halt for b in pool))
    calmest = next(a for a in pool if a.residual == min(b.residual for b in pool))
    first = next(a for a in fastest if a.q_halt == max(b.q_halt for b in fastest))
    assert best(found, "q") is surest
    assert best(found, "residual") is calmest
    assert best(found, "first") is first


def test_named_searches():
    for name, search in SEARCHES.items():
        assert search_named(name) is search and search.early_exit
        assert search.verify == (name == "guesses"), "the others are the model's own"
        assert search.tries_again
    cascade = SEARCHES["cascade"]
    assert [way for way, _, _ in cascade.stages(16)] == ["plain", "symmetry", "noise"]
    assert not Search().tries_again and Search().stages(16) == [("plain", 1, 16)]
    with pytest.raises(ValueError, match="no search 'deep': choose one of depth, symmetries"):
        search_named("deep")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "depth must be at least 1, not 0"),
        ({"views": -1}, "views must be at least 0, not -1"),
        ({"rollouts": 2, "sigma": math.inf}, "sigma must be a finite number, not inf"),
        ({"rollouts": 2, "sigma": -0.1}, "sigma is -0.1"),
        ({"views": 2, "select": "first"}, "it needs early_exit"),
        ({"sigma": 0.5}, "sigma does nothing without rollouts"),
        ({"views": 2, "noise_on": "z_H"}, "noise_on does nothing without rollouts"),
        ({"rollouts": 2, "view_depth": 3}, "view_depth does nothing without views"),
        ({"select": "residual"}, "select does nothing without views or rollouts"),
        ({"guess_steps": 2}, "guess_steps does nothing without guesses"),
        ({"guesses": 2}, "guesses are made and judged by the rules: set verify"),
        ({"patience": 3}, "patience does nothing without early_exit"),
    ],
)
def test_settings_that_cannot_be_or_would_do_nothing(settings, message):
    with pytest.raises(ValueError, match=message):
        Search(**settings)


def test_every_setting_is_kept_as_json_can_hold_it():
    search = replace(SEARCHES["cascade"], sigma=0.25, noise_on="both", search_seed=3)
    assert Search(**asdict(search)) == search


def test_every_way_has_a_name():
    from typing import get_args

    from ostinato.cli.tables import WAYS
    from ostinato.inference.search import Way

    assert set(WAYS) == set(get_args(Way))
