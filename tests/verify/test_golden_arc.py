"""The recorded data set of ARC, and that other tasks, grids and votes would be noticed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ostinato.evaluation.arc import Candidate
from ostinato.verify.golden import verify_folder

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(GOLDEN / "arc", tmp_path / "arc")


def failed(folder: Path) -> set[str]:
    """The kinds of numbers that do not agree."""
    (result,) = verify_folder(folder)
    assert not result.error
    assert result.passed == all(row.passed for row in result.comparisons)
    return {row.kind for row in result.comparisons if not row.passed}


@pytest.mark.parametrize("parent", [False, True])
def test_every_number_agrees(folder: Path, parent: bool):
    (result,) = verify_folder(folder.parent if parent else folder)
    assert result.passed and result.file == "arc"
    numbers = {row.kind: row.numbers for row in result.comparisons}
    assert numbers["train grids"] == 2 * 168 * 900 and numbers["test grids"] == 2 * 49 * 900
    assert numbers["pass@K"] == numbers["pass@K ×2"] == 5
    assert numbers["attempts"] == numbers["attempts ×2"] > 0


def test_another_cell_of_the_data_set_is_noticed(folder: Path):
    path = folder / "built" / "train" / "all__labels.npy"
    labels = np.load(path)
    labels[3, 40] = 11 - labels[3, 40]
    np.save(path, labels)
    assert failed(folder) == {"train grids"}


def test_another_score_and_another_attempt_are_noticed(folder: Path):
    scores = json.loads((folder / "expected_pass_at_k.json").read_text())
    (folder / "expected_pass_at_k.json").write_text(json.dumps(scores | {"ARC/pass@1": 0.6}))
    submission = json.loads((folder / "submission.json").read_text())
    next(iter(submission.values()))[0]["attempt_2"] = [[1]]
    (folder / "submission.json").write_text(json.dumps(submission))
    assert failed(folder) == {"pass@K", "pass@K ×2", "attempts", "attempts ×2"}


@pytest.mark.parametrize(
    "rank",
    [
        lambda self: (-self.votes, self.confidence / self.votes, self.first),
        lambda self: (-self.confidence, -self.votes, self.first),
    ],
    ids=["the least sure first", "by the sum of confidence"],
)
def test_another_ranking_is_noticed(folder: Path, rank, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Candidate, "rank", property(rank))
    assert "attempts" in failed(folder)


@pytest.mark.parametrize("file", ["predictions.npz", "submission.json", "built/identifiers.json"])
def test_a_missing_file_is_said(folder: Path, file: str):
    (folder / file).unlink()
    (result,) = verify_folder(folder)
    assert not result.passed and Path(file).name in result.error
