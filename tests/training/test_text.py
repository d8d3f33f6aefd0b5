"""Text runs: as many updates as asked for, each with its rate, and the same after a stop."""

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import ostinato
from ostinato.data.text import TextData, TokenSet
from ostinato.data.text.token_set import IGNORE_LABEL, WindowOrder
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.files import Notice
from ostinato.models import NanoChat, NanoChatConfig
from ostinato.training import text
from ostinato.training.checkpoint import load_checkpoint
from ostinato.training.config import TextRecipe, TextTrainingConfig
from ostinato.training.distributed import World
from ostinato.training.loop import TrainingError
from ostinato.training.optimizers import Lion
from ostinato.training.run import run
from ostinato.training.run_folder import RunFolder
from ostinato.training.text import train_step
from ostinato.training.text_state import TextState, make_optimizers, next_token_loss
from ostinato.training.tracking import Tracker

MODEL = NanoChatConfig(
    vocab_size=270, seq_len=16, hidden_size=16, num_layers=1, num_heads=2, group_size=16
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small files, so short that a few updates are an epoch."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    words = ["low", "lower", "new", "newest", "größer", "wide", "wider"]
    for number in range(12):
        (folder / f"{number}.txt").write_text(" ".join(rng.choice(words, 40)))
    return folder


def tiny(corpus: Path, model: NanoChatConfig = MODEL, **training) -> TextRecipe:
    settings = {
        "total_steps": 24,
        "global_batch_size": 4,
        "lr": 1e-2,
        "warmup_steps": 3,
        "eval_every": 8,
        "checkpoint_every": 5,
        "log_every": 1,
        "device": "cpu",
        **training,
    }
    data = TextData(str(corpus), num_tokens=270, num_validation=2, num_test=2, turn_tokens=False)
    return TextRecipe("tiny", model, data, TextTrainingConfig(**settings))


def train(recipe: TextRecipe, path: Path, **options):
    said = options.pop("said", [])
    return run(recipe, path, path.parent / "data", report=said.append, **options)


def last_checkpoint(path: Path) -> dict:
    return load_checkpoint(sorted((path / "checkpoints").iterdir())[-1])


def metrics(path: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").open()]
    return [line[name] for line in lines if name in line]


def test_a_tokenizer_that_was_left_behind_is_not_used(corpus: Path, tmp_path: Path):
    """A run that was killed before its first checkpoint leaves the tokenizer of its start."""
    assert train(tiny(corpus, total_steps=1), tmp_path / "start").finished
    (tmp_path / "new").mkdir()
    (tmp_path / "new/tokenizer.json").write_text("of other weights")
    recipe = tiny(corpus, init_from=str(tmp_path / "start"))
    found = text.start_tokenizer(recipe, RunFolder(tmp_path / "new"))
    assert found.to_json() == (tmp_path / "start/tokenizer.json").read_text()


@pytest.mark.parametrize("settings", [{}, {"accumulation": 2, "optimizer": "lion"}], ids=str)
def test_exactly_so_many_updates_and_a_resumed_run_has_the_same_bits(
    settings: dict, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe, updates = tiny(corpus, **settings), []
    step = text.train_step

    def counted(*arguments):
        result = step(*arguments)
        updates.append(arguments[0].step)
        if len(updates) == 24 + 11:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(text, "train_step", counted)
    assert train(recipe, tmp_path / "whole").finished
    assert updates == list(range(1, 25))
    tokens = len(TokenSet.load(next((tmp_path / "data").glob("text-*")), "train"))
    assert 2 * WindowOrder(tokens, 16, 0).per_epoch < 24 * 4, "epochs end on the way"

    first = train(recipe, tmp_path / "parts")
    assert (first.step, first.finished, first.reason) == (11, False, "SIGTERM")
    assert train(recipe, tmp_path / "parts").finished
    assert updates[24:] == list(range(1, 25))

    one, other = last_checkpoint(tmp_path / "whole"), last_checkpoint(tmp_path / "parts")
    assert one["step"] == other["step"] == 24
    for name, tensor in one["model"].items():
        assert torch.equal(tensor, other["model"][name]), name
    for mine, theirs in zip(one["optimizers"], other["optimizers"], strict=True):
        assert mine["param_groups"] == theirs["param_groups"]
        for number, state in mine["state"].items():
            for name, value in state.items():
                assert torch.equal(
                    torch.as_tensor(value), torch.as_tensor(theirs["state"][number][name])
                )
    weights = "model.safetensors"
    assert (tmp_path / "whole" / weights).read_bytes() == (
        tmp_path / "parts" / weights
    ).read_bytes()


def test_update_k_has_the_rate_of_k(corpus: Path, tmp_path: Path):
    recipe = tiny(corpus, total_steps=20, warmup_steps=4, muon_lr=0.02, eval_every=100)
    train(recipe, tmp_path / "run")
    by_hand = [0.25, 0.5, 0.75] + [1.0] * 13
    by_hand += [0.1 + 0.9 * (1 + math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3, 4)]
    assert metrics(tmp_path / "run", "lr") == pytest.approx([1e-2 * f for f in by_hand])
    assert metrics(tmp_path / "run", "muon_lr") == pytest.approx([0.02 * f for f in by_hand])


def test_a_run_says_what_it_does(corpus: Path, tmp_path: Path):
    recipe, said = tiny(corpus, total_steps=2), []
    assert train(recipe, tmp_path / "run", said=said).best < 10
    for name in ("copy_rate", "perplexity", "bits_per_byte", "cross_entropy"):
        assert all(v >= 0 for v in metrics(tmp_path / "run", f"train/{name}")), name
        assert len(metrics(tmp_path / "run", f"validation/{name}")) == 1
    assert len(metrics(tmp_path / "run", "streams/divergence")) == 1
    assert metrics(tmp_path / "run", "streams/composite_gain")[0] <= 1 + 1e-5
    assert BytePairTokenizer.load(tmp_path / "run/tokenizer.json").vocab_size == 270
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["split"] == "validation" and result["documents"] == 2


def test_changes_are_refused_and_a_finished_run_is_told_so(corpus: Path, tmp_path: Path):
    train(tiny(corpus, total_steps=4), tmp_path / "run")
    with pytest.raises(ValueError, match=r"training\.muon_lr = 0\.02, not 0\.01"):
        train(tiny(corpus, total_steps=4, muon_lr=0.01), tmp_path / "run")
    said: list[str] = []
    assert train(tiny(corpus, total_steps=4), tmp_path / "run", said=said).step == 4
    assert any("has all of its 4 steps" in line for line in said)
    longer = tiny(corpus, total_steps=8)
    with pytest.raises(ValueError, match="--extend"):
        train(longer, tmp_path / "run")
    assert train(longer, tmp_path / "run", extend=True, said=said).step == 8
    assert any("goes up again" in line for line in said)


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    step = text.train_step

    def poisoned(*arguments):
        result = step(*arguments)
        return result | {"loss": result["loss"] * math.nan} if arguments[0].step == 13 else result

    monkeypatch.setattr(text, "train_step", poisoned)
    with pytest.raises(TrainingError, match="no longer finite near step 13"):
        train(tiny(corpus), tmp_path / "run")
    assert last_checkpoint(tmp_path / "run")["step"] == 10


def windows(rows: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(270, (rows, MODEL.seq_len + 1), generator=generator)


def test_accumulation_is_the_same_update(corpus: Path):
    model = replace(MODEL, ternary=False)  # rounding would blow differences up
    states = []
    for accumulation in (1, 4):
        recipe = tiny(corpus, model, accumulation=accumulation, grad_clip=0.0)
        state = TextState.start(recipe, CPU, World())
        sums = train_step(state, recipe, windows())
        states.append((state.model, sums))
    (one, first), (other, second) = states
    assert first["cross_entropy"].item() == pytest.approx(second["cross_entropy"].item())
    for name, parameter in one.named_parameters():
        difference = (parameter - other.get_parameter(name)).abs().max().item()
        assert difference < 2e-3, name  # Muon iterates in bfloat16; its steps are 1e-2


@pytest.mark.parametrize("streams", [1, 2, 4])
@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_starts_at_that_of_a_guess(streams: int, tied: bool):
    config = NanoChatConfig(
        vocab_size=2048, seq_len=64, num_layers=2, num_streams=streams, tied_head=tied
    )
    model = NanoChat(config, torch.Generator().manual_seed(0))
    tokens = torch.randint(2048, (2, 65), generator=torch.Generator().manual_seed(1))
    loss, sums = next_token_loss(model(tokens[:, :-1]), tokens, TextTrainingConfig())
    assert loss.item() / sums["tokens"].item() == pytest.approx(math.log(2048), rel=0.02)


def test_loss_options_by_hand():
    tokens = windows()
    logits = torch.randn(4, MODEL.seq_len, 300, generator=torch.Generator().manual_seed(1))
    config = TextTrainingConfig(label_smoothing=0.1, entropy_bonus=0.5)
    loss, sums = next_token_loss(logits, tokens, config)
    plain = smooth = entropy = 0.0
    for row, targets in zip(logits.double(), tokens[:, 1:], strict=True):
        for scores, target in zip(row, targets, strict=True):
            logs = scores - scores.exp().sum().log()
            plain -= logs[target].item()
            smooth -= (0.9 * logs[target] + 0.1 * logs.mean()).item()
            entropy -= (logs.exp() * logs).sum().item()
    assert sums["cross_entropy"].item() == pytest.approx(plain, rel=1e-5)
    assert loss.item() == pytest.approx(smooth - 0.5 * entropy, rel=1e-5)
    copies = (logits.argmax(-1) == tokens[:, :-1]).sum().item()
    assert sums["copied"].item() == copies


def test_roles_decide_who_trains_what():
    model = NanoChat(MODEL)
    muon, other = make_optimizers(model, TextTrainingConfig(weight_decay=0.1))
    names = {id(p): name for name, p in model.named_parameters()}
    by_muon = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    assert by_muon == {name for name in names.values() if "_proj." in name}
    assert (muon.defaults["momentum"], muon.defaults["nesterov"]) == (0.95, True)
    decayed, plain = other.param_groups
    assert [names[id(p)] for p in decayed["params"]] == ["embed_tokens.weight"]
    assert decayed["weight_decay"] == 0.1 and plain["weight_decay"] == 0.0


def test_lion_by_hand():
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, generator=generator, dtype=torch.float64))
    expected, momentum = weight.detach().clone(), torch.zeros(5, dtype=torch.float64)
    lion = Lion([weight], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for _ in range(4):
        weight.grad = torch.randn(5, generator=generator, dtype=torch.float64)
        for i in range(5):
            gradient = weight.grad[i].item()
            direction = math.copysign(1.0, 0.9 * momentum[i].item() + 0.1 * gradient)
            expected[i] = expected[i] * (1 - 0.01 * 0.1) - 0.01 * direction
            momentum[i] = 0.99 * momentum[i] + 0.01 * gradient
        lion.step()
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-14)


def test_lion_takes_the_place_of_adamw_where_it_is_asked_for():
    config = TextTrainingConfig(optimizer="lion")
    _, other = make_optimizers(NanoChat(MODEL), config)
    assert isinstance(other, Lion)
    assert (other.defaults["lr"], other.defaults["betas"]) == (1e-4, (0.9, 0.99))


def test_defaults():
    config = TextTrainingConfig()
    assert (config.optimizer, config.muon_lr, config.muon_scale) == ("adamw", 0.02, "original")
    assert (config.grad_clip, config.decay_start, config.lr_min_ratio) == (1.0, 0.8, 0.1)
    assert (config.decay_shape, config.label_smoothing, config.entropy_bonus) == ("cosine", 0, 0)
    assert (config.exit_entropy, config.exit_entropy_end, config.gate_start) == (0.1, 0.05, 1)


@pytest.mark.parametrize("clip", [0.0, 1e-3])
def test_a_step_goes_by_the_mean_over_labels_and_is_clipped(
    clip: float, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    """The micro-batches have unequal numbers of labels."""
    recipe = tiny(corpus, replace(MODEL, ternary=False), accumulation=2, grad_clip=clip)
    state, labels = TextState.start(recipe, CPU, World()), windows()[:, 1:].clone()
    labels[:3, 4:] = IGNORE_LABEL
    logits = state.model(windows()[:, :-1])
    F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    wanted = [p.grad for p in state.model.parameters() if p.grad is not None]
    state.model.zero_grad()
    norm = torch.stack([gradient.norm() for gradient in wanted]).norm()
    for optimizer in state.optimizers:
        monkeypatch.setattr(optimizer, "step", lambda: None)
        monkeypatch.setattr(optimizer, "zero_grad", lambda set_to_none: None)
    sums = train_step(state, recipe, windows(), labels=labels)
    found = [p.grad for p in state.model.parameters() if p.grad is not None]
    torch.testing.assert_close(sums["grad_norm"], norm)
    share = min(1.0, clip / norm.item()) if clip else 1.0
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, share * other, rtol=1e-4, atol=1e-7)


def test_what_is_logged_of_a_step_is_counted_by_hand(corpus: Path, tmp_path: Path):
    recipe = tiny(corpus, total_steps=1)
    train(recipe, tmp_path / "run")
    texts = TokenSet.load(next((tmp_path / "data").glob("text-*")), "train")
    rows, labels = next(texts.batches(16, 4, recipe.training.seed))
    logits = TextState.start(recipe, CPU, World()).model(rows[:, :-1]).detach().double()
    nats = -logits.log_softmax(-1).gather(2, labels[..., None]).sum().item()
    size = sum(len(texts.tokenizer.token_bytes(token)) for token in labels.flatten().tolist())
    logged = {
        name: metrics(tmp_path / "run", f"train/{name}")[0]
        for name in ("cross_entropy", "perplexity", "bits_per_byte", "copy_rate")
    }
    assert logged == pytest.approx(
        {
            "cross_entropy": nats / 64,
            "perplexity": math.exp(nats / 64),
            "bits_per_byte": nats / math.log(2) / size,
            "copy_rate": (logits.argmax(-1) == rows[:, :-1]).sum().item() / 64,
        },
        rel=1e-4,
    )
    assert logged["copy_rate"] > 0 and size != 64


def test_data_that_do_not_fit_are_refused(corpus: Path, tmp_path: Path):
    recipe = tiny(corpus, replace(MODEL, vocab_size=260))
    with pytest.raises(ValueError, match="use --vocab-size 270, or --num-tokens 260"):
        train(recipe, tmp_path / "run")
    recipe = tiny(corpus, replace(MODEL, vocab_size=280))
    with pytest.raises(ValueError, match=r"use --vocab-size 270$"):
        train(recipe, tmp_path / "run")
    with pytest.raises(ValueError, match="too few for windows of 4096"):
        train(tiny(corpus, replace(MODEL, seq_len=4096)), tmp_path / "run")
    with pytest.raises(ValueError, match="not divisible by accumulation 3"):
        tiny(corpus, accumulation=3)


def test_a_stopped_run_is_usable_at_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    step = text.train_step

    def stopping(*arguments):
        if arguments[0].step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(text, "train_step", stopping)
    assert train(tiny(corpus), tmp_path / "run").reason == "SIGTERM"
    with pytest.warns(Notice, match="weights of its newest checkpoint, step 5"):
        model = ostinato.load(tmp_path / "run")
    saved = last_checkpoint(tmp_path / "run")["model"]
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.state_dict().items())
    assert list(ostinato.generate(model, "low", max_tokens=2))
    path = tmp_path / "run/checkpoints/step-00000005.safetensors"
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.warns(Notice), pytest.raises(ValueError, match="is damaged"):
        ostinato.load(tmp_path / "run")


def test_samples_of_fixed_prompts_are_shown_after_each_validation(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shown: dict[int, list[str]] = {}
    monkeypatch.setattr(Tracker, "show", lambda self, step, lines: shown.update({step: lines}))
    recipe = tiny(corpus, total_steps=4, eval_every=2, sample_prompts=("low", ""))
    train(recipe, tmp_path / "run")
    assert list(shown) == [2, 4] and [len(lines) for lines in shown.values()] == [2, 2]
    model = ostinato.load(tmp_path / "run")
    sampling = ostinato.Sampling(temperature=0.6, top_k=50)
    for prompt, line in zip(("low", ""), shown[4], strict=True):
        pieces = ostinato.generate(model, prompt, sampling=sampling, max_tokens=40)
        assert line == f"{prompt!r}: {''.join(map(str, pieces))!r}"
    with pytest.raises(ValueError, match="the model reads 16: shorten it"):
        train(tiny(corpus, sample_prompts=("low " * 16,)), tmp_path / "other")
