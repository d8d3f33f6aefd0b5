"""CONTRIBUTING keeps its word: what it lists is all that a new puzzle and a new model take.

Both are added to a copy of the package, by the files that the page names, and trained there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")

PUZZLE = '''
"""Mirror: write a row of digits backwards."""

from dataclasses import dataclass

import numpy as np

from ostinato.data.built import BuiltData
from ostinato.data.tables import Rows
from ostinato.data.task import Task


@dataclass(frozen=True)
class Mirror(Task):
    size: int = 4
    name = property(lambda self: f"mirror{self.size}")
    seq_len = property(lambda self: self.size)
    symbols = property(lambda self: "0123456789")

    def parse(self, text):
        if len(text) != self.size or not text.isdigit():
            raise ValueError(f"write {self.size} digits, not {text!r}")
        return np.array([int(digit) for digit in text], np.uint8)

    def draw(self, tokens, mark=None):
        return self.format(tokens)

    def check(self, puzzle, answer):
        return None if (puzzle[::-1] == answer).all() else "this is not the row backwards"

    def faults(self, puzzle, answer):
        return puzzle[::-1] != answer


@dataclass(frozen=True)
class MirrorData(BuiltData):
    size: int = 4
    task = property(lambda self: Mirror(self.size))

    def generate(self, count, rng, seen, report):
        rows = np.array([list(f"{n:04}") for n in rng.permutation(10_000)[:count]], np.uint8)
        return Rows.unrated(rows, rows[:, ::-1].copy())
'''

PUZZLE_IMPORT = "from ostinato.data.mirror import Mirror\n"
PUZZLE_LINE = "    Kind(Mirror, (4,)),\n"
PUZZLE_RECIPE = '''
from ostinato.data.mirror import MirrorData


def mirror_tiny() -> Recipe:
    """TRM that writes four digits backwards, in seconds on a laptop."""
    model = replace(sudoku4_tiny().model, task="mirror4", vocab_size=10, seq_len=4)
    data = MirrorData(num_train=200, num_validation=20, num_test=20)
    return Recipe("mirror-tiny", model, data, replace(sudoku4_tiny().training, total_steps=4))
'''

MODEL = '''
"""Plain: a TRM that has no reasoning latent."""

from dataclasses import dataclass

from ostinato.models.recursive import (
    Block,
    ReasoningModule,
    RecursiveConfig,
    RecursiveModel,
    State,
)


@dataclass(frozen=True)
class PlainConfig(RecursiveConfig):
    pass


class Plain(RecursiveModel):
    def __init__(self, config, generator=None):
        super().__init__(config)
        self.L_level = ReasoningModule([Block(config) for _ in range(config.L_layers)])
        self.reset_parameters(generator)

    def refine(self, state, x, relax):
        return State(relax(state.z_H, self.L_level(state.z_H, x, self.rotary)), state.z_L)
'''

MODEL_IMPORT = "\nfrom ostinato.models.plain import Plain, PlainConfig"
MODEL_LINE = '    "plain": (Plain, PlainConfig),\n'
MODEL_RECIPE = '''
from ostinato.models.plain import PlainConfig


def plain_tiny() -> Recipe:
    """Plain on 4×4 Sudoku, in seconds on a laptop."""
    settings = {"task": "sudoku4", "vocab_size": 6, "seq_len": 16, "hidden_size": 32}
    model = PlainConfig(**settings, num_heads=2, puzzle_emb_ndim=0, puzzle_emb_len=1, L_layers=1)
    data = replace(sudoku4_tiny().data, num_train=50, num_validation=20, num_test=20)
    return Recipe("plain-tiny", model, data, replace(sudoku4_tiny().training, total_steps=4))
'''


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(
        ROOT / "ostinato", tmp_path / "ostinato", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


def named_under(heading: str) -> list[str]:
    """The files that a section of CONTRIBUTING names, in order."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    assert section, f"CONTRIBUTING has no section {heading!r}"
    return re.findall(r"^\d\. `([\w/.]+)`", section, re.MULTILINE)


def insert(path: Path, marker: str, text: str, behind: bool = True) -> None:
    content = path.read_text("utf-8")
    assert content.count(marker) == 1, f"{marker!r} is not once in {path.name}"
    path.write_text(content.replace(marker, marker + text if behind else text + marker), "utf-8")


class Result(NamedTuple):
    """Hold the end of a command."""

    code: int
    out: str
    err: str


RUN = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from ostinato.cli import main
for command in sys.argv[1:]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(command.split())
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


def ostinato(place: Path, *commands: str) -> list[Result]:
    """Run commands of the package in `place`, in one process."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *commands],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [Result(*json.loads(line)) for line in done.stdout.splitlines()]


def test_a_new_puzzle_is_one_file_one_line_and_one_recipe(copy: Path):
    file, registry, recipes = named_under("Add a puzzle")
    (copy / file.replace("NAME", "mirror")).write_text(PUZZLE, "utf-8")
    insert(copy / registry, "KINDS = (\n", PUZZLE_LINE)
    insert(copy / registry, "\n\nclass Kind(", PUZZLE_IMPORT, False)
    with (copy / recipes.replace("NAME", "sudoku")).open("a", encoding="utf-8") as text:
        text.write(PUZZLE_RECIPE)
    trained, solved, wrong = ostinato(
        copy, "train mirror-tiny --run r", "solve r 0123 4567 --json", "solve r 012x"
    )
    assert trained.code == 0, trained.err
    assert solved.out.count('"puzzle"') == 2, solved.err
    assert wrong.code == 2 and "write 4 digits" in wrong.err


def test_a_new_model_is_one_file_one_line_and_one_recipe(copy: Path):
    file, registry, recipes = named_under("Add a model")
    (copy / file.replace("NAME", "plain")).write_text(MODEL, "utf-8")
    insert(copy / registry, "RECURSIVE_MODELS = {", MODEL_LINE.strip() + " ")
    insert(copy / registry, "\n\nRECURSIVE_MODELS", MODEL_IMPORT, False)
    with (copy / recipes.replace("NAME", "sudoku")).open("a", encoding="utf-8") as text:
        text.write(MODEL_RECIPE)
    trained, resumed, measured = ostinato(
        copy,
        "train plain-tiny --run r",
        "train plain-tiny --run r --total-steps 6 --extend",
        "eval r",
    )
    assert trained.code == 0, trained.err
    assert resumed.code == 0 and "resuming" in resumed.err, resumed.err
    assert measured.code == 0, measured.err


@pytest.mark.parametrize("heading", ["Add a format", "Add a command"])
def test_the_other_files_exist(heading: str):
    files = named_under(heading)
    assert files
    for file in files:
        assert "NAME" in file or (ROOT / file).exists(), file
