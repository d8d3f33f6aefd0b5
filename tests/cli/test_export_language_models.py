"""`ostinato export` of a language model, and the exported file with the other verbs."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ostinato
from ostinato.cli import main
from ostinato.data.text import TextData
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.models import TRM, NanoChat, NanoChatConfig, TRMConfig
from ostinato.weights import agreement as check
from ostinato.weights.save import save_weights

TOKENIZER = BytePairTokenizer.train(["the cat sat on the mat"], 270)
CONFIG = NanoChatConfig(
    vocab_size=TOKENIZER.vocab_size,
    seq_len=24,
    hidden_size=32,
    num_layers=1,
    num_heads=2,
    group_size=32,
)


def save(folder: Path, config: NanoChatConfig) -> Path:
    folder.mkdir()
    TOKENIZER.save(folder / "tokenizer.json")
    rng = torch.Generator().manual_seed(0)
    model = NanoChat(config, rng)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=rng)
    save_weights(folder / "model.safetensors", model, recipe="my-chat", step=7)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("runs") / "chat", CONFIG)


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(made, tmp_path / "chat")


def printed(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    capsys.readouterr()
    assert main(words.split()) == 0
    return capsys.readouterr()


def test_gguf_says_how_well_it_agrees_and_writes_the_same(run: Path, capsys):
    out, err = printed("export chat --format gguf", capsys)
    assert out == "chat/exports/gguf/my-chat.gguf\n"
    agreement = "largest logit error 0.0e+00 on 24 tokens of Python's module textwrap"
    assert err == f"ostinato-nanochat, q4_0: {agreement}\n"
    words = "--json --seed 1 --max-tokens 9"
    ours, theirs = (
        json.loads(printed(f"generate {model} cat {words}", capsys)[0])
        for model in ("chat", out.strip())
    )
    assert ours == theirs
    ours, theirs = (
        json.loads(printed(f"inspect {model} --json", capsys)[0]) for model in ("chat", out.strip())
    )
    assert ours == theirs


def test_the_text_is_that_of_the_own_data_if_it_is_there(run: Path, capsys):
    documents = ["the cat sat", "the mat", "a cat on a mat", "the dog"]
    for number, text in enumerate(documents):
        Path("texts").mkdir(exist_ok=True)
        Path(f"texts/{number}.txt").write_text(text)
    settings = TextData("texts", num_tokens=265, num_validation=2, num_test=1)
    folder = settings.prepare(Path("data"), lambda line: None)
    words = "export chat --format gguf"
    assert "of Python's module textwrap" in printed(words, capsys)[1]  # another tokenizer
    TOKENIZER.save(folder / "tokenizer.json")
    facts = json.loads((folder / "text.json").read_text())
    facts["tokenizer_sha256"] = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    (folder / "text.json").write_text(json.dumps(facts))
    assert f"tokens of {folder}, validation\n" in printed(words, capsys)[1]
    assert "textwrap" in printed(f"{words} --data-root elsewhere", capsys)[1]


def test_gguf_takes_the_form_asked_for(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "llama", replace(CONFIG, num_streams=1))
    words = "export llama --format gguf --output out"
    assert printed(words, capsys)[1].startswith("llama, q4_0: ")
    told = printed(words, capsys)[1]
    assert "beside what the form itself costs" in told and "the same for" in told
    assert "slowly" not in told and "runs f32 slowly" in printed(f"{words} --blocks f32", capsys)[1]
    with pytest.raises(SystemExit):
        main(f"{words} --tolerance 1e-30".split())
    assert "too coarse for the model" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(f"{words} --tolerance 0".split())
    assert "above 0" in capsys.readouterr().err
    for more, form in (
        ("--blocks f32", "llama, f32: largest logit error 0.0e+00"),
        ("--architecture ostinato-nanochat", "ostinato-nanochat, q4_0: largest"),
    ):
        assert printed(f"{words} {more}", capsys)[1].startswith(form)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["my-chat.gguf"]


def test_safetensors_are_compared_too(run: Path, capsys, monkeypatch):
    out, err = printed("export chat --format safetensors", capsys)
    assert err == "largest logit error 0.0e+00 on 24 tokens of Python's module textwrap\n"
    folder = Path(out.strip()).parent
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
    }
    assert ostinato.load(folder).tokenizer_json == (run / "tokenizer.json").read_text("utf-8")
    monkeypatch.setattr(check, "logit_error", lambda *models: 2e-4)
    with pytest.raises(SystemExit):
        main("export chat --format safetensors".split())
    assert "the file is not the model: largest logit error 2.0e-04" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("export chat --format official", "the originals have no nanochat: choose"),
        ("export chat --format gguf --blocks tq2_0", "tq2_0 cannot express this model: rows of 32"),
        ("export chat --format gguf --architecture llama", "llama cannot express this model: it"),
        ("export chat --format gguf --blocks q8", "invalid choice"),
        ("export chat --format safetensors --blocks q4_0", "are for --format gguf"),
        ("export trm --format gguf", "GGUF is for language models, not for trm"),
        ("export chat --format gguf --output file", "could not write to file"),
        ("export bare --format gguf", "the model has no tokenizer.json"),
        ("export chat/exports/gguf/my-chat.gguf --format safetensors", "has no fp32 weights"),
        ("generate cut.gguf cat", "cut.gguf is truncated or damaged"),
        ("generate foreign.gguf cat", "foreign.gguf is no GGUF file"),
        ("generate none.gguf cat", "none.gguf does not exist"),
    ],
)
def test_mistakes_are_one_line(words: str, message: str, run: Path, capsys):
    printed("export chat --format gguf", capsys)
    puzzles = TRMConfig(vocab_size=6, seq_len=16, hidden_size=16, num_heads=2, puzzle_emb_ndim=16)
    save_weights(Path("trm"), TRM(puzzles))
    shutil.copytree("chat", "bare")
    Path("bare/tokenizer.json").unlink()
    Path("file").touch()
    whole = Path("chat/exports/gguf/my-chat.gguf").read_bytes()
    Path("cut.gguf").write_bytes(whole[:5000])
    Path("foreign.gguf").write_bytes(b"ggjt" + whole[4:])
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
