"""Every parser reads a damaged file, or says in one line, a ValueError, what is wrong with which.

The suite gives each a few hundred files, always the same; `make fuzz` gives each 20,000 others.
"""

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import ostinato
from ostinato.data.arc.dataset import ArcData
from ostinato.data.arc.sources import read_kaggle, read_tasks
from ostinato.data.prompts import PromptData, PromptSet
from ostinato.data.puzzle_files import read_puzzles
from ostinato.data.puzzles import PuzzleSet
from ostinato.data.tasks import TASKS
from ostinato.data.text.conversations import read_conversations, to_line
from ostinato.data.text.corpora import read_corpus
from ostinato.data.text.dataset import TextData
from ostinato.data.text.template import Message
from ostinato.data.text.token_set import TokenSet
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.data.text.words import WordTokenizer, load_tokenizer
from ostinato.decoding import read_npz
from ostinato.evaluation.arc import ArcVotes
from ostinato.models import TRM, NanoChat, NanoChatConfig, TRMConfig
from ostinato.plot.curves import read_curves
from ostinato.plot.search import Speed, lines_of
from ostinato.recipes import recipe_named
from ostinato.training.checkpoint import load_checkpoint, save_checkpoint
from ostinato.training.config import read_recipe
from ostinato.training.config_file import write_config
from ostinato.training.held_out import Recorded
from ostinato.training.run_folder import RunFolder, read_json
from ostinato.weights.files import template_beside
from ostinato.weights.gguf_write import GGUFForm, write_gguf
from ostinato.weights.official import write_official
from ostinato.weights.save import describe, save_weights
from tests.fuzz import mutations
from tests.models.llama2c import HEADER, Llama2cTokenizer, load_llama2c

GOLDEN = Path(__file__).parents[1] / "golden"
INPUTS = max(200, settings().max_examples)
Strategy = Callable[[bytes], st.SearchStrategy[bytes]]
PLAIN, JSON = mutations.damaged_bytes, mutations.damaged_json_file
HEADERS, ARRAY = mutations.damaged_header, mutations.damaged_array

TRM_SMALL = TRM(
    TRMConfig(
        task="sudoku4",
        vocab_size=6,
        seq_len=16,
        hidden_size=8,
        num_heads=2,
        L_layers=1,
        puzzle_emb_ndim=8,
        puzzle_emb_len=1,
    )
)
TOKENIZER = BytePairTokenizer.train(["the cat sat on the mat"] * 3, 262)
CHAT_SMALL = NanoChat(
    NanoChatConfig(
        vocab_size=262, seq_len=8, hidden_size=32, num_layers=1, num_heads=2, group_size=32
    )
)
CHAT_SMALL.tokenizer_json = TOKENIZER.to_json()
ANSWER = "1234341221434321"
SUDOKU = f"question,answer,rating\n1.34341.21434321,{ANSWER},2\n123434122143....,{ANSWER},\n"


def ignore(line: str) -> None:
    """A report that nobody reads."""


def write_arc(folder: Path) -> None:
    data = ArcData(source=str(GOLDEN / "arc"), num_aug=1, num_validation=1)
    shutil.copytree(data.prepare(folder / "building", ignore), folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "building")


def read_arc(folder: Path) -> None:
    puzzles, votes = PuzzleSet.load(folder, "test"), ArcVotes.of_folder(folder)
    puzzles.inputs[:], puzzles.labels[:], votes.to_json()


def read_table(task: str, path: Path) -> PuzzleSet:
    kind = TASKS[task]
    return kind.read_table(path, ignore)


def read_boards(path: Path) -> None:
    kind = TASKS["maze3"]
    list(read_puzzles(path, kind.boards))


def write_sudokus(folder: Path) -> None:
    table = folder / "table.csv"
    table.write_text(SUDOKU)
    read_table("sudoku4", table).save(folder, "train")


def write_text(folder: Path) -> None:
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(f"the cat sat on mat {n}|" for n in range(20)))
    data = TextData(str(corpus), separator="|", num_tokens=262)
    shutil.copytree(data.prepare(folder / "building", ignore), folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "building")


def read_text(folder: Path) -> None:
    texts = TokenSet.load(folder, "train")
    list(texts.texts()), texts.bytes_of_tokens()


def write_metrics(folder: Path) -> None:
    lines = [{"step": n, "time": n / 2, "train/loss": None if n == 3 else 1 / n} for n in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_metrics(folder: Path) -> None:
    read_curves(folder)
    RunFolder(folder).discard_metrics_after(2)


def write_hub(folder: Path) -> None:
    save_file(TRM_SMALL.state_dict(), folder / "model.safetensors")
    content = describe(TRM_SMALL, validation={"exact_accuracy": 0.5})
    (folder / "config.json").write_text(json.dumps(content))


def write_chat(folder: Path) -> None:
    save_weights(folder / "model.safetensors", CHAT_SMALL, step=3)
    TOKENIZER.save(folder / "tokenizer.json")


def write_llama2c(folder: Path) -> None:
    sizes = dim, inner, layers, heads, kv_heads, vocab, seq_len = 8, 12, 1, 2, 1, 16, 4
    matrices = dim * dim * 2 + 2 * dim * kv_heads * dim // heads + 3 * dim * inner
    count = vocab * dim + layers * (2 * dim + matrices) + dim + seq_len * dim // heads
    weights = np.linspace(-1, 1, count, dtype="<f4").tobytes()
    (folder / "model.bin").write_bytes(HEADER.pack(*sizes) + weights)


def write_vocabulary(folder: Path) -> None:
    pieces = [b"", b"<s>", b"</s>", *(bytes([n]) for n in range(256)), b" the", b" cat"]
    records = (struct.pack("<fi", -n, len(piece)) + piece for n, piece in enumerate(pieces))
    (folder / "tok.bin").write_bytes(struct.pack("<i", 4) + b"".join(records))


def read_vocabulary(folder: Path) -> None:
    tokenizer = Llama2cTokenizer(folder / "tok.bin")
    tokens = tokenizer.encode("the cat, é")
    b"".join(tokenizer.token_bytes(token, 1) for token in tokens)


def write_checkpoint(folder: Path) -> None:
    tree = {"step": 3, "rng": 2**70, "model": {"w": torch.ones(3)}, "pair": (1, [None, 0.5])}
    save_checkpoint(folder / "step-00000003.safetensors", tree)


def write_votes(folder: Path) -> None:
    write_arc(folder)
    (folder / "votes.json").write_text(json.dumps(ArcVotes.of_folder(folder).to_json()))


def write_speed(folder: Path) -> None:
    case = {"mode": "plain", "puzzles": 100, "batch_size": 8}
    found = {"case": case, "exact_accuracy": 0.5, "selected_by": "q", "steps_per_puzzle": 3.5}
    (folder / "speed.json").write_text(json.dumps({"model": "sudoku9", "cases": [found, found]}))


def tokenizer_works(folder: Path) -> None:
    tokenizer = BytePairTokenizer.load(folder / "tokenizer.json")
    tokenizer.decode(tokenizer.encode("the cat, é"))


@dataclass(frozen=True)
class Parser:
    """A way to make good files, how they are damaged, and what reads them."""

    write: Callable[[Path], Any]
    damage: dict[str, Strategy]
    """Pattern of the names of files → what is done to one of them."""
    read: Callable[[Path], Any]


def one_file(name: str, content: str | bytes, damage: Strategy, read: Callable[[Path], Any]):
    """A parser of one file."""
    data = content if isinstance(content, bytes) else content.encode()
    return Parser(
        lambda folder: (folder / name).write_bytes(data),
        {name: damage},
        lambda folder: read(folder / name),
    )


BOARDS = "S.G\n###\n...\n\nS#.\n.G.\n...\n"
KAGGLE = (GOLDEN / "arc/tasks_training_challenges.json").read_bytes()
CONFIG = recipe_named("sudoku4-tiny")
PARSERS = {
    "puzzles in a text": one_file("p.txt", BOARDS, PLAIN, lambda p: list(read_puzzles(p))),
    "boards in a text": one_file("p.txt", BOARDS, PLAIN, lambda p: read_boards(p)),
    "puzzles in a table": one_file("p.csv", SUDOKU, PLAIN, lambda p: list(read_puzzles(p))),
    "Sudokus with answers": one_file("p.csv", SUDOKU, PLAIN, lambda p: read_table("sudoku4", p)),
    "mazes with answers": one_file(
        "p.csv",
        "question,answer\nS G######,SoG######\n",
        PLAIN,
        lambda p: read_table("maze3", p),
    ),
    "ARC tasks by name": one_file("a_challenges.json", KAGGLE, JSON, read_tasks),
    "ARC solutions": Parser(
        lambda folder: [shutil.copy(p, folder) for p in GOLDEN.glob("arc/tasks_training_*")],
        {"*_solutions.json": JSON},
        lambda folder: read_kaggle(folder / "tasks_training_challenges.json"),
    ),
    "an ARC task": one_file(
        "a.json", json.dumps(next(iter(json.loads(KAGGLE).values()))), JSON, read_tasks
    ),
    "an ARC set": Parser(
        write_arc, {"test/*.npy": ARRAY, "test/dataset.json": JSON, "*.json": JSON}, read_arc
    ),
    "a puzzle set": Parser(
        write_sudokus,
        {"train/*.npy": ARRAY, "train/dataset.json": JSON},
        lambda folder: PuzzleSet.load(folder, "train"),
    ),
    "a text set": Parser(
        write_text,
        {"text.json": JSON, "train.documents.npy": ARRAY, "train.tokens": PLAIN},
        read_text,
    ),
    "conversations": one_file(
        "talks.jsonl",
        2 * to_line([Message("user", "a"), Message("assistant", "")]),
        mutations.damaged_lines,
        read_conversations,
    ),
    "a corpus in JSONL": one_file(
        "texts.jsonl",
        2 * '{"text": "a"}\n',
        mutations.damaged_lines,
        lambda p: read_corpus(str(p), "", ignore),
    ),
    "tokenizer_config.json": one_file(
        "tokenizer_config.json", '{"chat_template": "a"}', JSON, template_beside
    ),
    "tokenizer.json": one_file(
        "tokenizer.json", TOKENIZER.to_json(), JSON, lambda p: tokenizer_works(p.parent)
    ),
    "prompts": Parser(
        lambda folder: PromptData("arithmetic", num_train=2).write(folder),
        {"train.jsonl": mutations.damaged_lines, "tokenizer.json": JSON},
        lambda folder: PromptSet.load(folder, "train"),
    ),
    "a tokenizer of words": one_file(
        "tokenizer.json", WordTokenizer(["a", "DONE"]).to_json(), JSON, load_tokenizer
    ),
    "metrics.jsonl": Parser(
        write_metrics, {"metrics.jsonl": mutations.damaged_lines}, read_metrics
    ),
    "config.json of a run": Parser(
        lambda folder: write_config(folder / "config.json", CONFIG),
        {"config.json": JSON},
        lambda folder: read_recipe(folder / "config.json"),
    ),
    "environment.json": one_file(
        "environment.json", b'[{"step": 0}]', JSON, lambda p: read_json(p, list[dict[str, Any]])
    ),
    "data in environment.json": one_file(
        "environment.json",
        b'[{"step": 0, "data": "data/sudoku", "data_sha256": "0a"}]',
        JSON,
        lambda p: read_json(p, list[Recorded]),
    ),
    "what bench solve prints": Parser(
        write_speed,
        {"speed.json": JSON},
        lambda f: lines_of(read_json(f / "speed.json", Speed).cases),
    ),
    "weights of a TRM": Parser(
        lambda folder: save_weights(folder / "model.safetensors", TRM_SMALL, score={"a": 0.5}),
        {"model.safetensors": HEADERS},
        ostinato.load,
    ),
    "weights of a nanochat": Parser(
        write_chat, {"model.safetensors": HEADERS, "tokenizer.json": JSON}, ostinato.load
    ),
    "config.json of the Hub": Parser(write_hub, {"config.json": JSON}, ostinato.load),
    "all_config.yaml": Parser(
        lambda folder: write_official(TRM_SMALL, folder),
        {"all_config.yaml": mutations.damaged_yaml},
        lambda folder: ostinato.load(folder, seq_len=16),
    ),
    "a checkpoint of the originals": Parser(
        lambda folder: write_official(TRM_SMALL, folder), {"checkpoint": PLAIN}, ostinato.load
    ),
    "GGUF": Parser(
        lambda folder: write_gguf(
            CHAT_SMALL, folder / "m.gguf", GGUFForm("ostinato-nanochat", "q4_0")
        ),
        {"m.gguf": mutations.damaged_head},
        lambda folder: ostinato.load(folder / "m.gguf"),
    ),
    "a checkpoint": Parser(
        write_checkpoint,
        {"*.safetensors": mutations.damaged_checkpoint},
        lambda folder: load_checkpoint(folder / "step-00000003.safetensors"),
    ),
    "llama2.c": Parser(
        write_llama2c,
        {"model.bin": mutations.damaged_head},
        lambda f: load_llama2c(f / "model.bin"),
    ),
    "a vocabulary of llama2.c": Parser(write_vocabulary, {"tok.bin": PLAIN}, read_vocabulary),
    "recorded answers": Parser(
        lambda folder: shutil.copy(GOLDEN / "arc/predictions.npz", folder),
        {"predictions.npz": PLAIN},
        lambda folder: read_npz(folder / "predictions.npz", ["preds", "q_halt_logits"]),
    ),
}


@cache
def good_files(name: str) -> dict[str, bytes]:
    """The files of a parser, by their paths within a folder, none of them damaged."""
    with TemporaryDirectory() as place:
        PARSERS[name].write(Path(place))
        PARSERS[name].read(Path(place))
        paths = sorted(path for path in Path(place).rglob("*") if path.is_file())
        return {str(path.relative_to(place)): path.read_bytes() for path in paths}


@st.composite
def damaged_file(draw: mutations.Draw, name: str) -> tuple[str, bytes]:
    """One of the files of a parser, damaged."""
    files, damage = good_files(name), PARSERS[name].damage
    choices = [
        (path, change)
        for pattern, change in damage.items()
        for path in files
        if Path(path).match(pattern)
    ]
    path, change = draw(st.sampled_from(choices))
    return path, draw(change(files[path]))


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_read_or_refused_in_one_line(name: str, tmp_path: Path):
    for path, content in good_files(name).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)

    def put(path: str, content: bytes) -> None:
        (tmp_path / path).unlink()  # the file before may still be mapped
        (tmp_path / path).write_bytes(content)

    @settings(max_examples=INPUTS, suppress_health_check=list(HealthCheck))
    @given(damaged=damaged_file(name))
    def check(damaged: tuple[str, bytes]) -> None:
        path, _ = damaged
        put(*damaged)
        try:
            PARSERS[name].read(tmp_path)
        except ValueError as error:
            assert "\n" not in str(error) and str(tmp_path) in str(error)
        finally:
            put(path, good_files(name)[path])

    check()
