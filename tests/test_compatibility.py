"""A run that version 0.1 wrote: it loads, answers as it did, and resumes on the same data."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import ostinato
from ostinato.cli import main
from ostinato.files import Notice
from ostinato.inference.search import FIXED

RUN = Path(__file__).parent / "golden" / "run_0_1"
LOSS_OF_0_1 = 2.0826759338378906
"""Loss of steps 9 to 12, when 0.1 went on from there."""


def test_it_answers_as_it_did():
    model = ostinato.load(RUN)
    expected = [json.loads(line) for line in (RUN / "answers.jsonl").open()]
    puzzles = [answer["puzzle"] for answer in expected]
    for found, answer in zip(
        ostinato.solve(model, puzzles, 1, search=FIXED), expected, strict=True
    ):
        assert (found.answer, found.problem) == (answer["answer"], answer["problem"])
        assert found.confidence == pytest.approx(answer["confidence"], abs=1e-4)


def test_it_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its data set is built again, and has to be the same: the run refuses another."""
    shutil.copytree(RUN, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    command = json.loads((RUN / "environment.json").read_text())[0]["command"][1:]
    command[command.index("--total-steps") + 1] = "12"
    command[command.index("--run") + 1] = "run"
    assert main([*command, "--extend"]) == 0
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert metrics[-1]["step"] == 12
    losses = [line["train/lm_loss"] for line in metrics if "train/lm_loss" in line]
    assert losses[-1] == pytest.approx(LOSS_OF_0_1, abs=1e-3)


def test_the_old_home_of_loading_still_works():
    with pytest.deprecated_call(match=r"load from ostinato\.weights\.load"):
        from ostinato.models.pretrained import load
    with pytest.deprecated_call(match=r"save_weights from ostinato\.weights\.save"):
        from ostinato.models.pretrained import save_weights
    assert (load.__module__, save_weights.__module__) == (
        "ostinato.weights.load",
        "ostinato.weights.save",
    )


def test_without_its_best_weights_it_is_its_newest_checkpoint(tmp_path: Path):
    """The best weights are those of the last step, averaged."""
    ignore = shutil.ignore_patterns("model.safetensors")
    shutil.copytree(RUN, tmp_path / "run", ignore=ignore)
    with pytest.warns(Notice, match="step 8"):
        found = ostinato.load(tmp_path / "run").state_dict()
    for name, tensor in ostinato.load(RUN).state_dict().items():
        assert torch.equal(found[name], tensor), name
