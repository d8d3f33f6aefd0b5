"""Tuning on conversations: only answers teach, and a base model's tokens and sizes are kept."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ostinato
from ostinato.cli import main
from ostinato.data.text.template import CHATML
from ostinato.data.text.token_set import IGNORE_LABEL
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.models import NanoChat, NanoChatConfig
from ostinato.training.config import TextTrainingConfig
from ostinato.training.text_state import next_token_loss, start_from
from ostinato.weights.save import save_tokenizer, save_weights

MODEL = NanoChatConfig(
    vocab_size=290, seq_len=256, hidden_size=32, num_layers=1, num_heads=2, group_size=16
)


@pytest.mark.parametrize("smooth", [0.0, 0.1])
def test_masked_positions_teach_nothing_and_the_loss_is_that_of_the_others(smooth: float):
    rng = torch.Generator().manual_seed(0)
    windows = torch.randint(290, (2, 65), generator=rng)
    labels = windows[:, 1:].clone()
    masked = torch.rand(labels.shape, generator=rng) < 0.6
    labels[masked] = IGNORE_LABEL
    logits = torch.randn(2, 64, 290, generator=rng, requires_grad=True)
    config = TextTrainingConfig(label_smoothing=smooth, entropy_bonus=0.1)
    loss, sums = next_token_loss(logits, windows, config, labels)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[masked] == 0).all() and (logits.grad[~masked] != 0).any(-1).all()
    by_hand = 0.0
    for row, column in torch.nonzero(~masked).tolist():
        scores = logits.detach().double()[row, column]
        by_hand -= (scores[windows[row, column + 1]] - scores.exp().sum().log()).item()
    assert sums["cross_entropy"].item() == pytest.approx(by_hand, rel=1e-5)
    assert sums["tokens"].item() == (~masked).sum()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a model whose tokenizer knows no turns."""
    folder = tmp_path_factory.mktemp("runs") / "base"
    folder.mkdir()
    model = NanoChat(MODEL, torch.Generator().manual_seed(3))
    texts = ["user assistant what is the colour of the answer? the capital of it is"] * 3
    model.tokenizer_json = BytePairTokenizer.train(texts, 290).to_json()
    save_weights(folder / "model.safetensors", model)
    save_tokenizer(folder, model)
    return folder


def test_weights_are_kept_and_new_tokens_get_rows(base: Path):
    larger = NanoChat(replace(MODEL, vocab_size=292), torch.Generator().manual_seed(4))
    fresh = larger.embed_tokens.weight[290:].clone()
    start_from(larger, str(base))
    for name, tensor in ostinato.load(base).state_dict().items():
        assert torch.equal(larger.state_dict()[name][: len(tensor)], tensor), name
    assert torch.equal(larger.embed_tokens.weight[290:], fresh) and fresh.std() > 0
    with pytest.raises(ValueError, match="has shape"):
        start_from(NanoChat(replace(MODEL, num_layers=1, hidden_size=16)), str(base))


def test_a_tuned_run_can_chat_resume_be_measured_and_exported(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    words = ["train", "nanochat-chat", "--init-from", str(base), "--run", "chat", "--device", "cpu"]
    words += ["--num-conversations", "60", "--num-validation", "4", "--num-test", "4"]
    words += ["--global-batch-size", "2", "--eval-every", "4", "--checkpoint-every", "2"]
    assert main([*words, "--total-steps", "6"]) == 0
    model = ostinato.load("chat")
    assert model.config == replace(MODEL, vocab_size=292, forward_dtype=model.config.forward_dtype)
    assert model.chat_template == CHATML
    result = json.loads(Path("chat/result.json").read_text())
    assert result["answers_conversations"] == 4
    assert 0 <= result["answers_exact"] <= result["answers_normalised"] <= 1
    lines = [json.loads(line) for line in Path("chat/metrics.jsonl").read_text().splitlines()]
    last = next(line for line in lines if line["step"] == 6 and "validation/bits_per_byte" in line)
    assert math.isfinite(last["validation/bits_per_byte"]) and "validation/answers_ended" in last

    # A resumed run needs the base model no more
    moved = base.rename(tmp_path / "moved")
    try:
        assert main([*words, "--total-steps", "8", "--extend"]) == 0
        assert main(["eval", "chat", "--json"]) == 0
    finally:
        moved.rename(base)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["answers_conversations"] == 4
    for format in ("safetensors", "gguf"):
        assert main(["export", "chat", "--format", format]) == 0
    exported = (
        ostinato.load("chat/exports/safetensors"),
        ostinato.load(next(Path("chat/exports/gguf").glob("*.gguf"))),
    )
    assert [copy.chat_template for copy in exported] == [CHATML, CHATML]
    config = json.loads(Path("chat/exports/safetensors/tokenizer_config.json").read_text())
    assert (config["eos_token"], config["chat_template"]) == ("<|im_end|>", CHATML)


def test_mistakes_have_one_line(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    for words, message in (
        ([], "give one with --init-from RUN"),
        (["--init-from", "nowhere"], "nowhere does not exist"),
        (["--init-from", str(base), "--conversations", "none.jsonl"], "none.jsonl cannot be read"),
        (["--init-from", "sudoku9"], "is no language model"),
    ):
        with pytest.raises(SystemExit):
            main(["train", "nanochat-chat", *words])
        assert message in capsys.readouterr().err
