"""Every verb that writes, where it cannot: one line, exit code 2, and nothing is lost."""

import json
import os
import re
import resource
import shutil
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

import ostinato
from ostinato.cli import main
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.models import NanoChat, NanoChatConfig
from ostinato.weights.save import save_weights
from tests.cli.test_bad_input import TINY, error_of

TOKENIZER = BytePairTokenizer.train(["the cat sat on the mat"], 270)
CHAT = NanoChatConfig(
    vocab_size=TOKENIZER.vocab_size,
    seq_len=24,
    hidden_size=32,
    num_layers=1,
    num_heads=2,
    group_size=32,
)
WRITE = {
    "train": "train sudoku4-tiny --run runs/new TINY",
    "train on": "train sudoku4-tiny --run runs/sudoku TINY --total-steps 3 --extend",
    "build data": "train sudoku4-tiny --run runs/new --data-root other TINY",
    "eval": "eval runs/sudoku",
    "plot": "plot runs/sudoku",
    "export official": "export runs/sudoku --format official",
    "export safetensors": "export runs/sudoku --format safetensors",
    "export gguf": "export runs/chat --format gguf",
}
PRINT = {
    "help": "--help",
    "recipes": "recipes",
    "solve": "solve runs/sudoku .1..3..12..4..3.",
    "generate": "generate runs/chat cat --max-tokens 2",
    "inspect": "inspect runs/chat",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny run of puzzles, its data, and a tiny language model."""
    place = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["train", "sudoku4-tiny", "--run", "runs/sudoku", *TINY]) == 0
    (place / "runs/chat").mkdir()
    TOKENIZER.save(place / "runs/chat/tokenizer.json")
    model = NanoChat(CHAT, torch.Generator().manual_seed(0))
    save_weights(place / "runs/chat/model.safetensors", model, recipe="../../evil", step=2)
    return place


@pytest.fixture
def work(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working directory."""
    shutil.copytree(finished, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def words_of(line: str) -> list[str]:
    return [word for part in line.split() for word in (TINY if part == "TINY" else [part])]


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the lock, which names the last process, and the log of metrics."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(p): p.read_bytes() for p in paths if p.name not in (".lock", "metrics.jsonl")}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a full disk, a write beyond `size` bytes fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# There is room for all files of a run but its weights in 50,000 bytes
@pytest.mark.parametrize(("name", "room"), [*((name, 100) for name in WRITE), ("train", 50_000)])
def test_a_full_disk(name: str, room: int, work: Path, capsys: pytest.CaptureFixture[str]):
    before = contents(work)
    with largest_file(room):
        message = error_of(words_of(WRITE[name]), capsys)
    assert "File too large: make room" in message
    after = contents(work)
    assert {path: after.get(path) for path in before} == before
    assert not [path for path in after if "partial" in path]


@pytest.mark.parametrize("name", WRITE)
def test_a_file_or_folder_is_in_the_way(name: str, work: Path, capsys: pytest.CaptureFixture[str]):
    for path in ("other", "runs/new", "runs/sudoku/exports", "runs/chat/exports"):
        (work / path).write_text("")
    for path in (".lock", "result.json", "curves.png"):
        (work / "runs/sudoku" / path).unlink(missing_ok=True)
        (work / "runs/sudoku" / path).mkdir()
    before = contents(work)
    message = error_of(words_of(WRITE[name]), capsys)
    assert re.search("regular file|is a directory|not a directory|exists", message, re.IGNORECASE)
    assert contents(work) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", [*WRITE, *PRINT])
def test_standard_output_is_full(
    name: str, work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        message = error_of(words_of((WRITE | PRINT)[name]), capsys)
    assert message == (
        "ostinato: standard output: No space left on device: make room or choose another place"
    )
    if name == "eval":
        assert json.loads((work / "runs/sudoku/result.json").read_text())["split"] == "test"


PRECIOUS = "precious"


@pytest.mark.parametrize("name", WRITE)
def test_links_in_a_foreign_folder_are_not_followed(
    name: str, work: Path, capsys: pytest.CaptureFixture[str]
):
    victim = work / "victim"
    victim.write_text(PRECIOUS)
    run = work / "runs/sudoku"
    for path in ("result.json", "curves.png", "model.safetensors", "config.json"):
        for link in (run / f".{path}.partial", run / "exports/safetensors" / path):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(victim)
    (run / "result.json").unlink()
    (run / "result.json").symlink_to(victim)
    if name != "plot":
        (run / "metrics.jsonl").unlink()
        (run / "metrics.jsonl").symlink_to(victim)
    with suppress(SystemExit):
        main(words_of(WRITE[name]))
    assert victim.read_text() == PRECIOUS


def test_permissions_are_those_of_any_new_file(work: Path):
    before = os.umask(0o027)
    try:
        assert main(words_of("train sudoku4-tiny --run runs/new --data-root other TINY")) == 0
        assert main(["export", "runs/new", "--format", "official"]) == 0
        assert main(words_of(WRITE["export gguf"])) == 0
    finally:
        os.umask(before)
    folders = work / "runs/new", work / "other", work / "runs/chat/exports"
    paths = [path for folder in folders for path in folder.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o640}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o750}


def test_the_name_of_an_export_is_no_path(work: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["export", "runs/chat", "--format", "gguf", "--output", "a/b"]) == 0
    assert [path.name for path in (work / "a").rglob("*.gguf")] == ["evil.gguf"]
    assert not list(work.glob("*.gguf"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("runs/sudoku --format safetensors --output runs/sudoku", "holds the model itself"),
        ("foreign.safetensors --format safetensors --output runs/sudoku", "holds a run"),
        ("foreign.safetensors --format official --output a", "step '/../../evil'"),
    ],
)
def test_exports_overwrite_no_run_and_follow_no_path(words: str, message: str, work: Path, capsys):
    model = ostinato.load("runs/sudoku")
    save_weights(work / "foreign.safetensors", model, step="/../../evil")
    before = contents(work)
    assert message in error_of(["export", *words.split()], capsys)
    assert contents(work) == before


def test_sigterm_leaves_nothing_half_written(work: Path, monkeypatch: pytest.MonkeyPatch):
    def terminate(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(torch, "save", terminate)
    before = contents(work)
    with pytest.raises(SystemExit) as end:
        main(words_of(WRITE["export official"]))
    assert end.value.code == 128 + signal.SIGTERM
    assert contents(work) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", "runs/chat", "caf\udce9"], "UTF-8"),
        (["inspect", "runs/chat", "--text", "caf\udce9"], "UTF-8"),
        (["export", "~nosuchuser/x", "--format", "gguf"], "~nosuchuser"),
        (["plot", "x" * 300], "File name too long: choose a shorter name"),
        (["train", "sudoku4-tiny", "--run", "x" * 300], "File name too long"),
        (["train", "sudoku4-tiny", "--run", "r", "--data-root", "/dev/null/x"], "/dev/null/x"),
    ],
)
def test_what_the_system_refuses(words, message, work, capsys):
    assert message in error_of(words, capsys)


def test_a_chat_goes_on_after_a_line_that_is_not_utf_8(work, capfd, monkeypatch):
    (work / "lines").write_bytes(b"caf\xe9\na\n")
    with open(work / "lines") as lines:
        monkeypatch.setattr(sys, "stdin", lines)
        assert main(["chat", "runs/chat", "--max-tokens", "1"]) == 0
    assert "UTF-8" in capfd.readouterr().err


def test_output_that_cannot_carry_all_characters(work, capsys, monkeypatch):
    with open(work / "printed", "w", encoding="ascii") as printed:
        monkeypatch.setattr(sys, "stdout", printed)
        assert main(["generate", "runs/chat", "café", "--max-tokens", "1"]) == 0
    assert (work / "printed").read_text().startswith("caf\\xe9")


def test_too_little_memory(work, capsys, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr("ostinato.weights.load.load", refuse)
    assert "not enough memory" in error_of(["inspect", "runs/chat"], capsys)
