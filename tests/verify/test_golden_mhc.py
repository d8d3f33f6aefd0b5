"""The recorded hyper-connections of the paper's code, and that a wrong one would be noticed."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ostinato.layers import HyperConnection
from ostinato.verify.golden import verify_folder, verify_golden

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = [GOLDEN / f"mhc_lite_dynamic_n{n}.safetensors" for n in (2, 4)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_number_agrees(path: Path):
    comparisons = verify_golden(path)
    assert {c.kind for c in comparisons} == {"outputs", "gradients", "initial values"}
    for comparison in comparisons:
        assert comparison.passed, comparison
        assert comparison.strict == comparison.numbers
        assert comparison.tolerance == (1e-4 if comparison.kind == "gradients" else 1e-5)


def test_the_other_orientation_is_noticed(monkeypatch: pytest.MonkeyPatch):
    mixing = HyperConnection.mixing

    def transposed(self: HyperConnection, streams: torch.Tensor):
        right = mixing(self, streams)
        return right._replace(matrix=right.matrix.mT)

    monkeypatch.setattr(HyperConnection, "mixing", transposed)
    outputs = next(c for c in verify_golden(FILES[1]) if c.kind == "outputs")
    assert not outputs.passed


def test_a_file_that_lacks_a_tensor_is_refused(tmp_path: Path):
    with safe_open(FILES[0], "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    del tensors["grad/static_beta"]
    save_file(tensors, tmp_path / "cut.safetensors", metadata)
    (result,) = verify_folder(tmp_path)
    assert not result.passed
    assert "grad/static_beta" in result.error
