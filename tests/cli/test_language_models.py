"""`generate`, `inspect` and `models`: what they print, and every mistake in one line."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import ostinato
from ostinato.cli import main
from ostinato.cli.sampling_arguments import SamplingArguments
from ostinato.cli.serve import Serve
from ostinato.data.text.conversations import read_conversations
from ostinato.data.text.template import CHATML, Message
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.inference import decoder
from ostinato.inference.chat import Dialogue
from ostinato.inference.inspect import probe_tokens
from ostinato.models import TRM, NanoChat, NanoChatConfig, TRMConfig
from ostinato.recipes import recipe_named
from ostinato.recipes.text import PRESETS
from ostinato.web.server import create_app
from ostinato.weights.save import save_tokenizer, save_weights

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "naïve café, 日本"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, as far as inference reads it; all parameters are moved from their start."""
    folder = tmp_path_factory.mktemp("runs") / "chat"
    folder.mkdir()
    tokenizer = BytePairTokenizer.train(TEXTS, 280)
    tokenizer.save(folder / "tokenizer.json")
    config = NanoChatConfig(
        vocab_size=tokenizer.vocab_size,
        seq_len=24,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        group_size=16,
    )
    rng = torch.Generator().manual_seed(0)
    model = NanoChat(config, rng)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=rng)
    save_weights(folder / "model.safetensors", model)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(made, tmp_path / "chat")


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) == 0
    return capsys.readouterr().out


def test_generate_prints_what_the_library_gives(run: Path, capsys: pytest.CaptureFixture[str]):
    settings = ["--temperature", "0.8", "--top-k", "0", "--seed", "3", "--max-tokens", "9"]
    sampling = ostinato.Sampling(temperature=0.8, seed=3)
    pieces = list(ostinato.generate(ostinato.load(run), "the cat", None, sampling, 9))
    text = "".join(piece.text for piece in pieces)
    assert printed(["generate", "chat", "the cat", *settings], capsys) == f"the cat{text}\n"
    content = json.loads(printed(["generate", "chat", "the cat", *settings, "--json"], capsys))
    assert content["text"] == text
    assert content["tokens"] == [piece.token for piece in pieces]
    assert content["logprobs"] == [piece.logprob for piece in pieces]
    assert content["finish"] == pieces[-1].finish


def test_people_get_a_cooler_text_than_the_library(run: Path, capsys: pytest.CaptureFixture[str]):
    """Temperature 0.6, and the 50 likeliest tokens."""
    sampling = ostinato.Sampling(temperature=0.6, top_k=50, seed=3)
    assert SamplingArguments(seed=3).drawn() == sampling
    pieces = list(ostinato.generate(ostinato.load(run), "the cat", None, sampling, 9))
    content = json.loads(printed(["generate", "chat", "the cat", "--seed", "3", "--json"], capsys))
    assert content["tokens"][:9] == [piece.token for piece in pieces]


def test_generate_ends_at_a_stop_string(run: Path, capsys: pytest.CaptureFixture[str]):
    words = ["generate", "chat", "the cat", "--json", "--seed", "1"]
    whole = json.loads(printed(words, capsys))
    string = whole["text"][3:5]
    cut = json.loads(printed([*words, "--stop", string], capsys))
    assert cut["finish"] == "stop"
    assert cut["text"] == whole["text"][: whole["text"].index(string)]


def test_chat_answers_until_the_input_ends(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    lines = io.StringIO(f"a\n\n{'x' * 40}\n/reset\nb\n")
    monkeypatch.setattr("sys.stdin", lines)
    model = ostinato.load(run, seq_len=96)  # the dialogue's form alone is longer than the run's
    save_weights(run / "model.safetensors", model)
    assert main(["chat", "chat", "--max-tokens", "3"]) == 0
    shown = capsys.readouterr()
    assert "has not been trained to answer" in shown.out
    assert "The dialogue is forgotten." in shown.out
    assert "the question is empty" in shown.err
    assert shown.err.startswith("seed ")
    assert "shorten it" in shown.err


def test_chat_and_the_server_multiply_in_the_way_asked_for(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("fastapi")
    asked: list[str] = []

    def choose(model: NanoChat, product: decoder.Way) -> decoder.Way:
        asked.append(product)
        return "float"

    monkeypatch.setattr(decoder, "choose_way", choose)
    monkeypatch.setattr("sys.stdin", io.StringIO("hi\n"))
    save_weights(run / "model.safetensors", ostinato.load(run, seq_len=96))
    assert main(["chat", "chat", "--max-tokens", "2", "--product", "int8"]) == 0
    create_app(Serve(("chat",), product="int8").served())
    assert asked == ["int8", "int8"]


def test_the_server_asks_for_the_key_in_its_environment(run: Path, monkeypatch: pytest.MonkeyPatch):
    testclient = pytest.importorskip("fastapi.testclient")
    status = []

    def asked(self: Serve, app: object) -> None:
        with testclient.TestClient(app, "http://127.0.0.1") as client:
            for key in ("guess", "secret"):
                headers = {"authorization": f"Bearer {key}"}
                status.append(client.get("/v1/models", headers=headers).status_code)

    monkeypatch.setattr(Serve, "listen", asked)
    monkeypatch.setenv("OSTINATO_API_KEY", "secret")
    assert main(["serve", "chat", "--product", "float", "--device", "cpu"]) == 0
    assert status == [401, 200]


def test_inspect_reads_streams_and_weights(run: Path, capsys: pytest.CaptureFixture[str]):
    content = json.loads(printed(["inspect", "chat", "--json"], capsys))
    assert content["active"] is True
    assert len(content["connections"]) == 4
    assert len(content["ternary"]) == 2 * 7
    model = ostinato.load(run)
    codes, scales = model.blocks[1].feedforward.down_proj.ternary()
    last = content["ternary"][-1]
    assert last["matrix"] == "blocks.1.feedforward.down_proj"
    assert (last["rows"], last["columns"]) == tuple(codes.shape)
    assert last["zeros"] == pytest.approx(1 - codes.abs().float().mean().item())
    assert last["largest_scale"] == scales.max().item()
    out = printed(["inspect", "chat"], capsys)
    assert "static, active" in out
    assert "α" in out


def test_inspect_says_what_does_nothing(run: Path, capsys: pytest.CaptureFixture[str]):
    config = ostinato.load(run).config
    for settings, message in (
        ({"stream_mode": "legacy"}, "inactive: all are the same stream"),
        ({"num_streams": 1}, "streams: one, the plain residual"),
        ({"ternary": False}, "ternary weights: none"),
        ({"num_streams": 4}, "#0:0.950"),
    ):
        model = NanoChat(NanoChatConfig(**{**vars(config), **settings}))
        save_weights(run / "model.safetensors", model)
        assert message in printed(["inspect", "chat"], capsys)


def test_a_looped_model_is_inspected_and_left_early(run: Path, capsys: pytest.CaptureFixture[str]):
    config = replace(ostinato.load(run).config, num_loops=3)
    model = NanoChat(config, torch.Generator().manual_seed(0))
    assert model.exit_gate is not None
    torch.nn.init.zeros_(model.exit_gate.weight)
    save_weights(run / "model.safetensors", model)
    content = json.loads(printed(["inspect", "chat", "--json", "--exit-threshold", "0.6"], capsys))
    assert [reading["number"] for reading in content["passes"]] == [1, 2, 3]
    for name in ("exits", "leaves"):
        assert sum(reading[name] for reading in content["passes"]) == pytest.approx(1)
    model = ostinato.load(run)
    tokens = torch.tensor([probe_tokens(model)[0].tolist()])
    loss = F.cross_entropy(model(tokens)[0, :-1], tokens[0, 1:]).item()
    assert content["passes"][2]["loss"] == pytest.approx(loss, rel=1e-5)
    # Each pass takes half of what is left, so that the probabilities add up to 1/2, 3/4 and 1
    for threshold, number in (("0.4", 0), ("0.7", 1), ("0.9", 2)):
        words = ["inspect", "chat", "--json", "--exit-threshold", threshold]
        leaves = [each["leaves"] for each in json.loads(printed(words, capsys))["passes"]]
        assert leaves[number] == 1
    assert "chance to leave" in printed(["inspect", "chat"], capsys)
    words = ["generate", "chat", "the cat", "--json", "--temperature", "0"]
    early = json.loads(printed([*words, "--exit-threshold", "0.4"], capsys))
    assert early["logprobs"] != json.loads(printed(words, capsys))["logprobs"]


def test_models_counts_every_preset_and_recipe(capsys: pytest.CaptureFixture[str]):
    rows = [json.loads(line) for line in printed(["models", "--json"], capsys).splitlines()]
    sizes = {row["name"]: row for row in rows}
    assert PRESETS.keys() <= sizes.keys()
    tiny = NanoChat(PRESETS["tiny"])
    assert sizes["tiny"]["parameters"] == sum(p.numel() for p in tiny.parameters())
    recipe = recipe_named("sudoku4-tiny")
    model = TRM(recipe.model)
    assert sizes["sudoku4-tiny"]["inference"] == sum(t.nbytes for t in model.state_dict().values())
    assert "sudoku4-tiny" in printed(["models"], capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", "chat", "the cat " * 20], "the model reads 24: shorten it"),
        (["generate", "nowhere", "a"], "nowhere does not exist"),
        (["generate", "chat", "a", "--temperature", "-1"], "temperature must be 0 or more"),
        (["generate", "chat", "a", "--top-p", "0"], "top_p must be above 0"),
        (["generate", "chat", "a", "--top-k", "-2"], "top_k must be 0 (all) or more"),
        (["generate", "chat", "a", "--min-p", "2"], "min_p must be between 0 and 1"),
        (["generate", "chat", "a", "--repetition-penalty", "0"], "repetition_penalty must be"),
        (["generate", "chat", "a", "--max-tokens", "0"], "max_tokens must be at least 1"),
        (["generate", "chat", "a", "--stop", ""], "a stop string must not be empty"),
        (["generate", "chat", "a", "--temprature", "1"], "did you mean --temperature?"),
        (["chat", "chat", "--max-tokens", "0"], "max_tokens must be at least 1"),
        (["chat", "trm.safetensors"], "solves puzzles: see ostinato solve"),
        (["solve", "chat", "1" * 16], "continues texts: see ostinato generate"),
        (["inspect", "trm.safetensors"], "solves puzzles: see ostinato solve"),
        (["export", "chat", "--format", "official"], "the originals have no nanochat"),
    ],
)
def test_mistakes(words: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]):
    save_weights(
        Path("trm.safetensors"), TRM(TRMConfig(hidden_size=16, num_heads=2, puzzle_emb_ndim=16))
    )
    assert message in error_of(words, capsys)


@pytest.mark.parametrize("damage", ["missing", "truncated", "other", "foreign"])
def test_tokenizers_that_do_not_fit(damage: str, run: Path, capsys: pytest.CaptureFixture[str]):
    path, message = run / "tokenizer.json", "tokenizer"
    if damage == "missing":
        path.unlink()
        message = "no tokenizer.json beside its weights"
    elif damage == "truncated":
        path.write_text(path.read_text("utf-8")[:100], "utf-8")
        message = "no tokenizer, or a damaged one"
    elif damage == "other":
        BytePairTokenizer.train(TEXTS, 270).save(path)
        message = "the tokenizer has 270 tokens, the model 280"
    else:
        path.write_text(
            '{"version": "1.0", "model": {"type": "WordLevel", "vocab": {}, "unk_token": "?"}}',
            "utf-8",
        )
    for verb in (["generate", "chat", "a"], ["inspect", "chat"]):
        assert message in error_of(verb, capsys)


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a bad command line prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("ostinato: ") and "\n" not in error
    return error


def test_generate_writes_several_texts_with_a_fresh_seed_that_is_printed(
    run: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["generate", "chat", "-n", "2", "--json", "--max-tokens", "6"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    first, second = (json.loads(line) for line in out.splitlines())
    assert err == f"seed {first['seed']}\n" and second["seed"] == first["seed"] + 1
    assert first["prompt"] == ""
    words = ["generate", "chat", "--seed", str(second["seed"]), "--json", "--max-tokens", "6"]
    again = json.loads(printed(words, capsys))
    assert again == second
    assert len({json.loads(printed(words[:2] + words[4:], capsys))["seed"] for _ in range(3)}) > 1


@pytest.fixture
def chatty(run: Path) -> Path:
    """The same model, as if it had been tuned on conversations."""
    model = ostinato.load(run)
    tokenizer = BytePairTokenizer.of_json(model.tokenizer_json).with_turns()
    model = NanoChat(NanoChatConfig(**{**vars(model.config), "vocab_size": 282, "seq_len": 224}))
    model.tokenizer_json, model.chat_template = tokenizer.to_json(), CHATML
    save_weights(run / "model.safetensors", model)
    save_tokenizer(run, model)
    return run


def test_chat_keeps_a_conversation(
    chatty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    lines = "/system Be kind.\na\n/save talk.jsonl\nb\n/save talk.jsonl\n/save chat/config.json\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines + "/stop\n/quit\nc\n"))
    (chatty / "config.json").write_text("{}")
    assert main(["chat", "chat", "--max-tokens", "3", "--seed", "1"]) == 0
    out, err = capsys.readouterr()
    assert "only continues texts" not in out and "5 messages are in talk.jsonl" in out
    assert "chat/config.json exists: give another name" in err
    assert "unknown command '/stop'" in err
    ((_, messages),) = read_conversations(Path("talk.jsonl"))
    roles = ["system", "user", "assistant", "user", "assistant"]
    assert [message.role for message in messages] == roles
    assert messages[0].content == "Be kind." and messages[3].content == "b"


def test_ctrl_c_stops_the_answer_and_not_the_program(
    chatty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    read = iter(["a", KeyboardInterrupt, "/save talk.jsonl", EOFError])

    def reading(prompt: str) -> str:
        word = next(read)
        if isinstance(word, str):
            return word
        raise word

    def stopped(dialogue: Dialogue, question: str):
        dialogue.messages = [Message("user", question), Message("assistant", "as far as")]
        yield "as far as"
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", reading)
    monkeypatch.setattr(Dialogue, "ask", stopped)
    assert main(["chat", "chat"]) == 0
    out = capsys.readouterr().out
    assert "as far as …\n" in out and "/quit or Ctrl-D ends" in out
    assert "2 messages are in talk.jsonl" in out
