"""New tasks of ARC: only rows learn where weights are frozen, and every variant votes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ostinato.data.arc.sources import ArcTask, task_from_json
from ostinato.evaluation.arc import ArcVotes
from ostinato.models import TRM, TRMConfig
from ostinato.training.new_tasks import TestTimeTraining, learn_and_vote
from ostinato.weights.load import load
from ostinato.weights.save import save_weights

SIDE = 4
CONFIG = TRMConfig(
    vocab_size=12,
    seq_len=SIDE**2,
    hidden_size=32,
    num_heads=2,
    H_cycles=1,
    L_cycles=1,
    L_layers=1,
    puzzle_emb_ndim=32,
    puzzle_emb_len=1,
    num_puzzle_identifiers=3,
    halt_max_steps=2,
    forward_dtype="float32",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with two trained rows, as far as anybody can tell."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model = TRM(CONFIG, torch.Generator().manual_seed(0))
    assert model.puzzle_emb is not None
    model.puzzle_emb.weights[1:] = torch.tensor([[0.25], [0.75]])
    save_weights(path, model)
    return path


def recolour(name: str = "new", answered: bool = True) -> ArcTask:
    """A task of which all blue cells become red."""
    rng = np.random.default_rng(0)
    questions = [rng.integers(0, 2, rng.integers(1, 4, 2)) for _ in range(4)]
    pairs = [{"input": q.tolist(), "output": (2 * q).tolist()} for q in questions]
    if not answered:
        del pairs[-1]["output"]
    return task_from_json(name, {"train": pairs[:-1], "test": pairs[-1:]})


def learn(model: Path, folder: Path, task: ArcTask, **settings) -> ArcVotes:
    settings = {"num_aug": 6, "steps": 3, "batch_size": 8} | settings
    return learn_and_vote(
        model, [task], TestTimeTraining(**settings), folder, "cpu", lambda line: None
    )


def votes_of(votes: ArcVotes) -> int:
    return sum(c.votes for ballot in votes.ballots.values() for c in ballot.values())


def test_frozen_weights_stay_and_rows_learn_from_the_mean(model: Path, tmp_path: Path):
    votes = learn(model, tmp_path, recolour(), puzzle_emb_lr=0.01)
    assert votes_of(votes) == 7
    assert (tmp_path / "run/identifiers.json").read_text().count("new") == 7
    before, after = load(model).state_dict(), load(tmp_path / "run").state_dict()
    rows = after.pop("puzzle_emb.weights")
    mean = before.pop("puzzle_emb.weights").mean(0)
    assert rows.shape == (8, 32)
    moved = (rows - mean).abs()
    assert moved.max() <= 0.03 + 1e-6  # three steps of sign-SGD
    assert (moved[1:].amax(1) > 0).any() and (moved[0] == 0).all()  # the blank row is no puzzle's
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


def test_everything_learns_with_a_rate_for_the_weights(model: Path, tmp_path: Path):
    learn(model, tmp_path, recolour(), lr=1e-3)
    before, after = load(model).state_dict(), load(tmp_path / "run").state_dict()
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])


def test_the_same_call_gives_the_same_votes(model: Path, tmp_path: Path):
    one, other = (learn(model, tmp_path / name, recolour()) for name in "ab")
    assert one.to_json() == other.to_json()
    again = learn(model, tmp_path / "a", recolour())  # nothing is left to train
    assert again.to_json() == one.to_json()


def test_what_the_model_has_learnt_before_is_not_asked(model: Path, tmp_path: Path):
    """Its answers are wanted, not a score on tasks that it has not seen."""
    said = []
    settings = TestTimeTraining(num_aug=2, steps=1, batch_size=4)
    learn_and_vote(model, [recolour()], settings, tmp_path, "cpu", said.append)
    assert said and not [line for line in said if "it may have learnt" in line]


def test_tasks_without_answers_are_answered(model: Path, tmp_path: Path):
    votes = learn(model, tmp_path, recolour(answered=False))
    assert votes_of(votes) == 7
    (test,) = votes.submission()["new"]
    assert test.keys() == {"attempt_1", "attempt_2"}


def test_a_new_task_is_learnt(model: Path, tmp_path: Path):
    settings = {"steps": 250, "batch_size": 32, "lr": 3e-3, "num_aug": 4}
    votes = learn(model, tmp_path, recolour(), **settings)
    assert votes.pass_at([1]) == {1: 1.0}


def test_what_does_not_fit_is_refused(model: Path, tmp_path: Path):
    big = task_from_json(
        "big", {"train": [{"input": [[0] * 5], "output": [[0]]}], "test": [{"input": [[0]]}]}
    )
    with pytest.raises(ValueError, match="task big has a grid of 5"):
        learn(model, tmp_path, big)
    sudoku = tmp_path / "sudoku.safetensors"
    save_weights(sudoku, TRM(TRMConfig(hidden_size=16, num_heads=2, puzzle_emb_ndim=0)))
    with pytest.raises(ValueError, match="is no model of ARC"):
        learn(sudoku, tmp_path, recolour())
    with pytest.raises(ValueError, match="steps must be at least 1"):
        TestTimeTraining(steps=0)


def test_other_settings_need_another_folder(model: Path, tmp_path: Path):
    learn(model, tmp_path, recolour(), steps=2)
    with pytest.raises(ValueError, match=r"was begun with training.total_steps = 2, not 3: use"):
        learn(model, tmp_path, recolour(), steps=3)
