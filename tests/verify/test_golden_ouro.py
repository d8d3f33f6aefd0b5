"""Ouro's recorded passes, and that a wrong loop, norm, gate or loss would be noticed."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from ostinato.verify.golden import GoldenResult, read_golden, verify_folder, verify_golden
from tests.verify.mutants import MUTANTS
from tests.verify.mutate import apply

FILE = Path(__file__).parents[1] / "golden/ouro.safetensors"
KINDS = ["logits", "exit logit", "exit probabilities", "stage1 loss"]


def test_every_number_agrees():
    """Up to the rounding of four passes: all but a few of the last one within 1e-5."""
    comparisons = verify_golden(FILE)
    assert [c.kind for c in comparisons] == KINDS
    for comparison in comparisons:
        assert comparison.passed, comparison
        assert comparison.strict + comparison.limited == comparison.numbers
        assert comparison.strict > 0.9 * comparison.numbers
        assert comparison.tolerance == 1e-5
        assert comparison.floor < 1e-3


@pytest.mark.parametrize(
    ("mutant", "missed"),
    [
        ("the embedding added before every pass", KINDS),
        ("no norm behind attention", KINDS),
        ("the last pass leaves by its gate too", KINDS[2:]),
        ("the entropy of exits added to the loss", KINDS[3:]),
    ],
)
def test_a_wrong_one_is_noticed(mutant: str, missed: list[str], monkeypatch: pytest.MonkeyPatch):
    apply(next(each for each in MUTANTS if each.name == mutant), monkeypatch)
    assert [c.kind for c in verify_golden(FILE) if not c.passed] == missed


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"head_dim": 16}, "head_dim 16"), ({"early_exit": 1}, "early_exit"), ({}, "exit_gate")],
)
def test_what_has_no_counterpart_is_an_error(settings: dict, message: str, tmp_path: Path):
    golden, metadata = read_golden(FILE)
    metadata["config"] = json.dumps(json.loads(metadata["config"]) | settings)
    del golden["init/model.early_exit_gate.bias"]
    save_file(golden, tmp_path / "file.safetensors", metadata)
    (result,) = verify_folder(tmp_path)
    assert isinstance(result, GoldenResult) and message in result.error
