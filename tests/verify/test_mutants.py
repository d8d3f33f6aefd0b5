"""Every row of the report can fail: wrong implementations are noticed, by rows and recordings."""

import pytest

from ostinato.verify.check import Check
from ostinato.verify.rows import TOPICS, checks_of
from tests.verify.mutants import MUTANTS
from tests.verify.mutate import Mutant, apply
from tests.verify.recordings import measured

CHECKS = {check.name: check for topic in TOPICS for check in checks_of(topic)}
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.name} -> {m.caught_by}")
def test_a_wrong_implementation_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch):
    check = CHECKS[mutant.caught_by]
    apply(mutant, monkeypatch)
    assert not all(
        passes(check, model) for model in ([mutant.model] if mutant.model else models(check))
    )


def models(check: Check) -> tuple[str, ...]:
    return check.models or ("",)


def passes(check: Check, model: str) -> bool:
    return (check.measure(model) if model else check.measure()) <= check.tolerance


def test_mutants_are_many_and_differ():
    assert len(BY_NAME) == len(MUTANTS) >= 20


def test_every_row_that_measures_code_has_a_mutant():
    spared = CHECKS.keys() - {mutant.caught_by for mutant in MUTANTS}
    assert spared == {"Defaults", "Names of outputs, carry and metrics"}, "these compare tables"


RECORDED = {
    "trm_attention": [
        "gate and up swapped",
        "half rotation with the other sign",
        "causal attention",
        "pre-norm",
        "embedding scale missing",
        "puzzle row at the end of its tokens",
        "q read at the last position",
        "all cycles of TRM with gradient",
        "no gradient but in TRM's last call for z_L and z_H",
        "the question forgotten in TRM's z_L",
        "refill of unhalted slots",
        "softmax for stablemax",
        "loss on halted slots only",
        "accuracies of all slots",
        "decay after the step",
        "m corrected inside atan2",
        "sign before sum",
    ],
    "trm_mlp": ["norm over channels in mlp_t", "norm without epsilon"],
    "trm_learned_positions": ["positions added without 1/√2"],
    "hrm_act_v1": [
        "all calls of HRM's last cycle with gradient",
        "both levels of HRM by one module",
        "q_halt alone where there is a continue head",
        "target of q_continue without the maximum",
        "target of q_continue at the last step like any other",
    ],
}
"""Recording → mutants that it notices by itself."""


@pytest.mark.parametrize("name", RECORDED)
def test_a_wrong_implementation_does_not_reproduce_the_recording(name: str):
    recording, missed = measured(name), []
    for mutant in RECORDED[name]:
        with pytest.MonkeyPatch.context() as monkeypatch:
            apply(BY_NAME[mutant], monkeypatch)
            try:
                noticed = recording.replayed()
            except AssertionError:  # an assertion of the implementation's own noticed it
                continue
            if not noticed:
                missed.append(mutant)
    assert missed == []
    assert recording.replayed() == []
