"""Runs on rewards: the same bits after a kill, in several processes, and what they report."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ostinato.data.prompts import Prompt, PromptData, PromptSet
from ostinato.data.prompts.arithmetic import ArithmeticTask
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.data.text.words import load_tokenizer
from ostinato.evaluation import prompts as sampling
from ostinato.inference.rollout import Rollout
from ostinato.models import NanoChat, NanoChatConfig
from ostinato.recipes.prompts import nanochat_maze_rl, started
from ostinato.training.checkpoint import load_checkpoint
from ostinato.training.config import PromptRecipe, PromptTrainingConfig
from ostinato.training.distributed import World
from ostinato.training.prompt_state import PromptState
from ostinato.training.prompts import PromptWork, answer_tokens
from ostinato.training.run import run
from ostinato.training.run_folder import RunFolder
from tests.training.processes import CONTEXT, in_processes

MODEL = NanoChatConfig(
    vocab_size=32,
    seq_len=64,
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    num_streams=1,
    ternary=False,
)
DATA = PromptData(size=3, num_train=8, num_validation=6, num_test=6)


def tiny(**training) -> PromptRecipe:
    settings = {
        "total_steps": 6,
        "global_batch_size": 4,
        "samples": 8,
        "eval_samples": 4,
        "max_new_tokens": 6,
        "lr": 1e-2,
        "warmup_steps": 1,
        "eval_every": 3,
        "checkpoint_every": 2,
        "log_every": 1,
        "device": "cpu",
        **training,
    }
    return PromptRecipe("tiny", MODEL, DATA, PromptTrainingConfig(**settings))


def train(recipe: PromptRecipe, path: Path, **options):
    return run(recipe, path, path.parent / "data", report=lambda line: None, **options)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned right answers to eight mazes half by heart."""
    path = tmp_path_factory.mktemp("start") / "run"
    outcome = train(
        tiny(method="supervised", total_steps=80, global_batch_size=16, eval_every=80, lr=3e-2),
        path,
    )
    assert outcome.finished
    return path


def test_a_start_that_has_learnt_what_is_held_out_is_refused(start: Path, tmp_path: Path):
    """Other numbers of prompts are drawn and divided in another way."""
    recipe = replace(tiny(init_from=str(start)), data=replace(DATA, num_test=30))
    with pytest.raises(ValueError, match=r"was trained on \d+ of the \d+ \w+ prompts: take its"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def last_checkpoint(path: Path) -> dict:
    return load_checkpoint(sorted((path / "checkpoints").iterdir())[-1])


def metrics(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "metrics.jsonl").open()]


def killed_while_drawing(recipe: PromptRecipe, path: Path) -> None:
    roll_out, calls = sampling.roll_out, []

    def deadly(*arguments):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return roll_out(*arguments)

    sampling.roll_out = deadly
    train(recipe, path)


@pytest.mark.parametrize("method", ["maxrl", "reinforce"])
def test_a_run_killed_while_it_draws_goes_on_to_the_same_bits(method, start: Path, tmp_path: Path):
    recipe = tiny(method=method, init_from=str(start))
    train(recipe, tmp_path / "whole")
    process = CONTEXT.Process(target=killed_while_drawing, args=(recipe, tmp_path / "parts"))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 0 < last_checkpoint(tmp_path / "parts")["step"] < 6
    assert train(recipe, tmp_path / "parts").finished
    one, other = last_checkpoint(tmp_path / "whole"), last_checkpoint(tmp_path / "parts")
    assert one["step"] == other["step"] == 6
    before = load_checkpoint(sorted((start / "checkpoints").iterdir())[-1])["model"]
    assert any(not torch.equal(before[name], one["model"][name]) for name in before)
    for name, tensor in one["model"].items():
        assert torch.equal(tensor, other["model"][name]), name
    name = "model.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    timed = {"time", "tokens_per_second"}
    lines = [
        [{key: line[key] for key in line.keys() - timed} for line in metrics(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert lines[0] == lines[1]
    assert lines[0][0].keys() >= {
        "train/reward",
        "train/none_right",
        "train/all_right",
        "train/entropy",
        "train/length",
    }
    assert any("validation/pass@4" in line for line in lines[0])


def weights_after(recipe: PromptRecipe, path: Path) -> dict[str, torch.Tensor]:
    train(recipe, path)
    return last_checkpoint(path)["model"]


def test_two_processes_draw_the_same_samples_as_one(start: Path, tmp_path: Path):
    recipe = tiny(init_from=str(start), total_steps=2)
    one = weights_after(recipe, tmp_path / "one")
    both = in_processes(2, weights_after, recipe, tmp_path / "two")
    rewards = [
        [line["train/reward"] for line in metrics(tmp_path / name) if "train/reward" in line]
        for name in ("one", "two")
    ]
    assert rewards[0] == rewards[1]
    for name, tensor in one.items():
        assert torch.equal(both[0][name], both[1][name]), name
        torch.testing.assert_close(both[0][name], tensor, rtol=0, atol=2e-3)


def work_from(start: Path, **training) -> PromptWork:
    recipe = tiny(init_from=str(start), **training)
    state = PromptState.start(recipe, torch.device("cpu"), World())
    train_set = PromptSet.load(recipe.data.prepare(start.parent / "data", print), "train")
    tokenizer = load_tokenizer(start / "tokenizer.json")
    return PromptWork(recipe, RunFolder(start), train_set, train_set, tokenizer, state)


@pytest.mark.parametrize("reward", [0.0, 1.0])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_rewards_that_tell_nothing_change_nothing(
    optimizer: str, reward: float, start: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever momentum is left from updates before."""
    work = work_from(start, optimizer=optimizer, lr=1e-3)
    assert all(work.update(0.0)["grad_norm"] > 0 for _ in range(2))
    before = {name: tensor.clone() for name, tensor in work.state.model.state_dict().items()}
    judge = work.sampler.judge
    alike = lambda *asked: torch.full_like(judge(*asked), reward)  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr(work.sampler, "judge", alike)
        assert work.update(0.0)["grad_norm"] == 0
    for name, tensor in work.state.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert work.state.step == 3
    work.update(0.0)
    after = work.state.model.state_dict()
    assert any(not torch.equal(tensor, before[name]) for name, tensor in after.items())


@pytest.mark.parametrize("clip", [0.0, 1e-3])
@pytest.mark.parametrize("method", ["maxrl", "reinforce"])
def test_an_update_goes_by_the_mean_over_prompts_of_that_over_samples(
    method: str, clip: float, start: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also what is logged of the samples; each step draws by other random numbers."""
    work = work_from(start, method=method, accumulation=2, grad_clip=clip)
    state = work.state
    seen, asked, draw = [], [], work.sampler.draw

    def watched(prompts, places, samples, key):
        asked.append((places, key))
        for judged in draw(prompts, places, samples, key):
            seen.append(judged)
            yield judged

    monkeypatch.setattr(work.sampler, "draw", watched)
    (adam,) = state.optimizers
    monkeypatch.setattr(adam, "step", lambda: None)
    monkeypatch.setattr(adam, "zero_grad", lambda set_to_none: None)
    sums = work.update(0.0)
    found = {name: p.grad.clone() for name, p in state.model.named_parameters()}
    state.model.zero_grad()
    rewards = []
    for judged in seen:
        for row, prompt in enumerate(judged.prompts):
            rewards.append(judged.rewards[row])
            mean = judged.rewards[row].mean().item()
            for sample in range(8):
                advantage = judged.rewards[row, sample].item() - mean
                if method == "maxrl":
                    advantage = advantage / mean if mean else 0.0
                kept = judged.rollout.written[row, sample]
                text = torch.cat([prompt, judged.rollout.tokens[row, sample][kept]])
                logarithms = state.model(text[None, :-1])[0].log_softmax(-1)
                chosen = logarithms.gather(1, text[1:, None])[len(prompt) - 1 :]
                (-advantage / 8 / 4 * chosen.sum()).backward()
    shares = torch.stack(rewards).mean(1)
    assert len(shares) == 4 and ((shares > 0) & (shares < 1)).any()
    assert sums["reward"] == pytest.approx(shares.sum().item())
    assert [sums["none_right"], sums["all_right"]] == [(shares == 0).sum(), (shares == 1).sum()]
    norm = torch.stack([p.grad.norm() for p in state.model.parameters()]).norm().item()
    assert sums["grad_norm"].item() == pytest.approx(norm, rel=1e-4)
    share = min(1.0, clip / norm) if clip else 1.0
    for name, parameter in state.model.named_parameters():
        torch.testing.assert_close(found[name], share * parameter.grad, rtol=1e-3, atol=1e-6)
    work.update(0.0)
    assert [places for places, _ in asked] == [[0, 1], [2, 3]] * 2
    assert asked[0][1] == asked[1][1] != asked[2][1] == asked[3][1]


def rollout(finished: list[list[bool]]) -> Rollout:
    """Completions of a token each."""
    ends = torch.tensor(finished)
    ones = torch.ones(*ends.shape, 1, dtype=torch.long)
    return Rollout(ones, ones.bool(), ends, torch.zeros(ends.shape))


def test_a_right_answer_that_is_cut_off_earns_nothing(start: Path):
    tokenizer = load_tokenizer(start / "tokenizer.json")
    sampler = sampling.Sampler(NanoChat(MODEL), ArithmeticTask(2), tokenizer, 1)
    prompt = Prompt("40+2=", "42")
    rewards = sampler.judge([prompt], rollout([[True, False, True]]), ["42", "42", "24"])
    assert rewards.tolist() == [[1, 0, 0]]
    assert PromptTrainingConfig().grad_clip == 1.0


def test_scores_of_prompts_are_counted_by_hand():
    rewards = torch.tensor([[0.0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]])

    class Fixed(sampling.Sampler):
        def __init__(self): ...

        def draw(self, prompts, places, samples, key):
            ended = rollout([[True] * samples] * len(places))
            yield sampling.Judged(places, ended.tokens[:, 0], ended, rewards[places], [])

    scores = sampling.evaluate(Fixed(), [Prompt("")] * 5, 4, 2, (0, 1))
    wanted = {"pass@1": 7 / 20, "pass@4": 3 / 5, "none_right": 2 / 5, "all_right": 1 / 5}
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted)
    assert scores["length"] == 1 and "pass@16" not in scores


def test_right_answers_end_with_the_token_that_ends_texts():
    tokenizer = BytePairTokenizer.train([], 257)
    tokens = answer_tokens(tokenizer, "42")
    assert tokens[-1] in tokenizer.end_tokens and tokenizer.decode(tokens[:-1]) == "42"


def test_a_run_goes_on_in_a_new_folder(start: Path, tmp_path: Path):
    for recipe in (tiny(method="supervised", total_steps=2), tiny(init_from=str(start))):
        train(replace(recipe, training=replace(recipe.training, total_steps=2)), tmp_path / "old")
        checkpoint = str(sorted((tmp_path / "old/checkpoints").iterdir())[-1])
        assert train(recipe, tmp_path / "new", resume=checkpoint).finished
        texts = [(tmp_path / name / "tokenizer.json").read_text() for name in ("old", "new")]
        assert texts[0] == texts[1]
        for name in ("old", "new"):
            shutil.rmtree(tmp_path / name)


def test_the_model_takes_the_shape_of_the_weights_it_starts_from(start: Path, tmp_path: Path):
    wide = nanochat_maze_rl()
    recipe = replace(wide, training=replace(wide.training, init_from=str(start)))
    assert started(recipe, tmp_path / "run").model == MODEL
    assert started(wide, tmp_path / "run") == wide


def test_what_cannot_be_trained_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="use --vocab-size 32"):
        train(replace(tiny(), model=replace(MODEL, vocab_size=40)), tmp_path / "run")
    with pytest.raises(ValueError, match="larger --seq-len"):
        train(replace(tiny(), model=replace(MODEL, seq_len=10)), tmp_path / "other")
    with pytest.raises(ValueError, match="leave out --compile"):
        train(tiny(compile=True), tmp_path / "third")


@pytest.mark.parametrize("method", ["maxrl", "supervised"])
def test_what_is_longer_than_the_model_reads_is_left_out_and_said(method: str, start: Path):
    short, long = Prompt("UP " * 10, "DOWN DONE"), Prompt("UP " * 65, "DOWN DONE")
    middle = Prompt("UP " * 64, "DOWN DONE")  # no place to read DOWN
    prompts = PromptSet([short, long, middle], load_tokenizer(start / "tokenizer.json"), "")
    recipe = tiny(method=method, init_from=str(start))
    state = PromptState.start(recipe, torch.device("cpu"), World())
    work = PromptWork(recipe, RunFolder(start), prompts, prompts, prompts.tokenizer, state)
    expected = [short] if method == "supervised" else [short, middle]
    assert work.train_set.prompts == expected
    assert work.validation_set.prompts == [short, middle]
    (line,) = work.remarks()
    assert f"{4 - len(expected)} prompts with more than the 64 tokens of --seq-len" in line
    if method == "supervised":
        work.update(0.0)
