"""README, CONTRIBUTING and docs keep their word: every command parses, and the cheap ones run.

Commands and Python run in order, in a scratch folder, with `--total-steps 20` for every training;
the other pages go on where the README ends. `<!-- test: parse-only -->` above a block spares its
running, and so does `torchrun`; `<!-- test: file NAME -->` saves the block in the folder.
"""

import ast
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from ostinato import cli

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
OTHER_PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RECIPES = sorted((ROOT / "ostinato/recipes").glob("*.py"))
FENCED = re.compile(
    r"(?:^<!-- test: (?P<note>.*) -->\n+)?^```(?P<language>.*)\n(?P<text>(?:.*\n)*?)^```$",
    re.MULTILINE,
)
SHELL = ("bash", "console")
LANGUAGES = (*SHELL, "python", "text", "json", "bibtex")
OTHER_PROGRAMS = "cat cd curl echo git head make pip pytest ruff source tensorboard".split()


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    place: str
    language: str
    text: str
    parse_only: bool
    file: str
    """Name of the file to save it as; empty: it is run."""

    def lines(self) -> list[str]:
        """Return what a reader types; for `make`, the `ostinato` commands that it runs."""
        if self.language not in SHELL:
            return []
        lines = self.text.replace("\\\n", " ").replace(".venv/bin/", "").splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [each for line in lines for each in (made(line) if line[:5] == "make " else [line])]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page; none hides from the tests behind a label they do not know."""
    text = page.read_text("utf-8")
    found = list(FENCED.finditer(text))
    assert 2 * len(found) == len(re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)), page
    assert sum(match["note"] is not None for match in found) == text.count("<!-- test:"), page
    for match in found:
        assert match["language"] in LANGUAGES, f"{page}: unknown language {match['language']!r}"
        known = re.fullmatch(r"parse-only|file [\w.]+", match["note"] or "parse-only")
        assert known, f"{page}: unknown note {match['note']!r}"
    return [
        Block(
            place=f"{page.name}:{len(text[: match.start('text')].splitlines())}",
            language=match["language"],
            text=match["text"],
            parse_only=match["note"] == "parse-only",
            file=(match["note"] or "").partition("file ")[2],
        )
        for match in found
    ]


def made(line: str) -> list[str]:
    """The `ostinato` commands among those that a `make` command runs."""
    result = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *shlex.split(line, comments=True)[1:]],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{line}: {result.stderr}"
    lines = result.stdout.replace(".venv/bin/", "").splitlines()
    return [line for line in lines if line.startswith("ostinato ")]


def simple_commands(line: str) -> list[list[str]]:
    """The words of each command of a line: split at pipes, without redirections and variables."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;"):
            commands.append([])
        elif set(word) <= set("<>"):
            next(lexer)
        elif commands[-1] or not re.match(r"\w+=", word):
            commands[-1].append(word)
    return [command for command in commands if command]


def ostinato_arguments(command: list[str]) -> list[str] | None:
    """Return the words behind `ostinato`, also after `python -m` or `torchrun … -m`, or None."""
    for index, word in enumerate(command):
        if Path(word).name == "ostinato" and (index == 0 or command[index - 1] == "-m"):
            return command[index + 1 :]
    return None


def complaint(line: str) -> str:
    """Why a line cannot be right; empty if nothing speaks against it."""
    for command in simple_commands(line):
        arguments = ostinato_arguments(command)
        if arguments is not None:
            output = io.StringIO()
            try:
                with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
                    if command[0] == "torchrun":
                        get_args_parser().parse_args(command[1:])
                    cli.parse(arguments)
            except SystemExit as end:
                if end.code:
                    return f"{line}: {output.getvalue()}"
        elif command[0] == "pip":
            project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
            for extra in re.findall(r"\[(.*?)\]", line):
                if extra not in project["optional-dependencies"]:
                    return f"{line}: there is no extra {extra}"
        elif Path(command[0]).name not in OTHER_PROGRAMS:
            return f"{line}: what is {command[0]}? Correct it, or teach this test to check it"
    return ""


class Reader:
    """Follows pages in a scratch folder, where trainings take 20 steps."""

    def __init__(self, folder: Path, programs: Path):
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        programs.mkdir(exist_ok=True)
        ostinato = programs / "ostinato"
        ostinato.write_text(
            "#!/bin/sh\n"
            '[ "$1" = train ] && set -- "$@" --total-steps 20\n'
            f'exec {shlex.quote(sys.executable)} -m ostinato "$@"\n'
        )
        ostinato.chmod(0o755)

    def follow(self, page: Path) -> None:
        for block in blocks(page):
            if block.parse_only:
                continue
            if block.file:
                (self.folder / block.file).write_text(block.text, "utf-8")
            elif block.language == "python":
                self.run(block.place, [sys.executable, "-c", block.text])
            for line in block.lines():
                verbs = [words[1] for words in simple_commands(line) if words[0] == "ostinato"]
                if verbs:
                    # A model of 20 steps may well leave its puzzle unsolved, which is status 1
                    status = (0, 1) if "solve" in verbs else (0,)
                    self.run(f"{block.place}: {line}", ["bash", "-c", line], status)

    def run(self, what: str, command: list[str], status: tuple[int, ...] = (0,)) -> None:
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        output = result.stdout + result.stderr
        assert result.returncode in status and "Traceback" not in output, f"{what}\n{output}"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Somebody who has followed the README."""
    reader = Reader(tmp_path_factory.mktemp("reader"), tmp_path_factory.mktemp("programs"))
    reader.follow(README)
    return reader


def test_readme_runs(reader: Reader):
    assert (reader.folder / "runs/sudoku4-tiny/result.json").exists()


@pytest.mark.parametrize("page", OTHER_PAGES, ids=lambda page: page.name)
def test_page_runs(page: Path, reader: Reader, tmp_path: Path):
    shutil.copytree(reader.folder, tmp_path / "reader")
    Reader(tmp_path / "reader", tmp_path / "programs").follow(page)


@pytest.mark.parametrize("page", [README, *OTHER_PAGES], ids=lambda page: page.name)
def test_commands_parse(page: Path):
    lines = [(block.place, line) for block in blocks(page) for line in block.lines()]
    complaints = [f"{place}: {fault}" for place, line in lines if (fault := complaint(line))]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_commands_in_recipes_parse(path: Path):
    nodes = [
        n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.FunctionDef)
    ]
    docstrings = "\n".join(ast.get_docstring(node) or "" for node in nodes)
    commands = re.findall(
        r"(?:^ *|`)((?:torchrun .*)?\bostinato [^`\n]+)", docstrings, re.MULTILINE
    )
    complaints = [fault for command in commands if (fault := complaint(command))]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(
    "line",
    [
        "ostinato train sudoku4-tiny --no-such-setting 1",
        "ostinato train no-such-recipe",
        "ostinato no-such-verb",
        "echo 1 | .venv/bin/ostinato solve --no-such-setting > out",
        "torchrun --nproc-per-node 2 -m ostinato train sudoku4-tiny --total-steps many",
        "torchrun --nproc-per-node 2 -m ostinato train sudoku4-tiny --run runs/mine",
        "pip install -e .[no-such-extra]",
        "no-such-program",
    ],
)
def test_wrong_commands_are_found(line: str):
    assert complaint(line)


@pytest.mark.parametrize("page", [README, *OTHER_PAGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(([^)#\s]+)|src=\"([^\"]+)\"", text)
    local = [link for pair in links for link in pair if link and "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []
