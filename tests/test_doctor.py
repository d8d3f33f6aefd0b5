"""`ostinato doctor` finds what is wrong, and exits accordingly."""

import json
from typing import Any

import pytest
import torch

from ostinato import doctor
from ostinato.cli import main
from ostinato.models import NanoChat


def test_a_sound_machine(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["versions"]["torch"] == torch.__version__
    found = {(each["device"], each["dtype"]): each["error"] for each in content["findings"]}
    assert found[("cpu", "float32")] == found[("cpu", "bfloat16")] == ""


def test_a_broken_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def read_out(self: NanoChat, streams: torch.Tensor) -> Any:
        logits = original(self, streams)
        return logits if logits.dtype == torch.float64 else 1.1 * logits

    original = NanoChat.read_out
    monkeypatch.setattr(NanoChat, "read_out", read_out)
    assert main(["doctor"]) == 1
    assert "the forward pass is off by 0.1" in capsys.readouterr().out


def test_weights_that_do_not_survive_a_file(monkeypatch: pytest.MonkeyPatch):
    def spoiled(path: Any, device: Any, kind: Any) -> NanoChat:
        model = original(path, device, kind=kind)
        with torch.no_grad():
            model.final_norm.weight[0] += 1
        return model

    original = doctor.load
    monkeypatch.setattr(doctor, "load", spoiled)
    errors = [finding.error for finding in doctor.examine()]
    assert errors and all(
        error == "final_norm.weight is not read as it was written" for error in errors
    )
