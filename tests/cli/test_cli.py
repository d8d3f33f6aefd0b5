"""The command line as such: verbs, help, errors in one line, exit codes."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from ostinato.cli import VERBS, main, parse
from ostinato.cli.process import SPINS

ROOT = Path(__file__).parents[2]


def run(capsys, *words: str) -> tuple[int | str | None, str, str]:
    """Exit code, standard output and standard error."""
    try:
        code = main(list(words))
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"]])
def test_overview(capsys, words):
    code, out, err = run(capsys, *words)
    assert (code, err) == (0, "")
    assert re.findall(r"^  (\w+) +\w", out, re.MULTILINE) == list(VERBS)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(capsys, verb):
    code, out, err = run(capsys, verb, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: ostinato {verb}")


def test_version(capsys):
    assert run(capsys, "--version") == (0, metadata.version("ostinato") + "\n", "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sovle", r"unknown verb 'sovle': did you mean solve\?"),
        ("xyz", f"unknown verb 'xyz': choose from {', '.join(VERBS)}"),
        ("--verbose", "unknown verb '--verbose': choose from .*"),
        ("train sudoku4-tyni", r"unknown recipe 'sudoku4-tyni': did you mean sudoku4-tiny\?"),
        ("train sudoku4-tiny --totl-steps 3", r".* --totl-steps: did you mean --total-steps\?"),
        ("train sudoku4-tiny --run-foldr x", "unknown setting --run-foldr: .*"),
        ("train sudoku4-tiny --total-steps many", ".*--total-steps.*'many'.*"),
        ("train sudoku4-tiny --total-steps", ".*--total-steps.*"),
        ("train sudoku4-tiny --pos-encodings rop", ".*'rop'.*--pos-encodings.*'rope'.*"),
        ("train sudoku4-tiny stray", "unknown setting stray.*"),
        ("recipes --all", "unknown setting --all.*"),
    ],
)
def test_mistakes_are_one_line(capsys, line, message):
    code, out, err = run(capsys, *line.split())
    assert (code, out) == (2, "")
    assert re.fullmatch(f"ostinato: {message}\n", err), err


def test_only_flags_that_exist_are_suggested(capsys):
    _, _, err = run(capsys, "train", "sudoku4-tiny", "--rum", "x")
    assert "did you mean --run?" in err
    _, _, err = run(capsys, "solve", "--xyz")
    assert "--watch" in err and "--words" not in err


def ends_with(error: BaseException | None, code: int = 0):
    def command() -> int:
        if error is not None:
            raise error
        return code

    return lambda words: command


@pytest.mark.parametrize("code", [0, 1])
def test_a_verb_chooses_the_exit_code(monkeypatch, code):
    monkeypatch.setattr("ostinato.cli.lists.parse", ends_with(None, code), raising=False)
    assert main(["recipes"]) == code


def test_a_users_mistake_is_one_line_and_2(monkeypatch, capsys):
    mistake = ValueError("no such thing:\n   try\tanother")
    monkeypatch.setattr("ostinato.cli.lists.parse", ends_with(mistake), raising=False)
    assert run(capsys, "recipes") == (2, "", "ostinato: no such thing: try another\n")


def test_interrupted(monkeypatch, capsys):
    monkeypatch.setattr("ostinato.cli.lists.parse", ends_with(KeyboardInterrupt()), raising=False)
    assert run(capsys, "recipes") == (130, "", "")


def test_our_own_mistakes_are_not_hidden(monkeypatch):
    monkeypatch.setattr("ostinato.cli.lists.parse", ends_with(AssertionError("bug")), raising=False)
    with pytest.raises(AssertionError):
        main(["recipes"])


def test_parsing_runs_nothing(monkeypatch):
    def command() -> int:
        raise AssertionError("was run")

    monkeypatch.setattr("ostinato.cli.lists.parse", lambda words: command, raising=False)
    assert parse(["recipes"]) is command


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away(unbuffered):
    process = subprocess.Popen(
        [sys.executable, "-m", "ostinato", "recipes"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1
    process.stderr.close()


def test_python_m():
    result = subprocess.run(
        [sys.executable, "-m", "ostinato", "sovle"], cwd=ROOT, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "ostinato: unknown verb 'sovle': did you mean solve?\n"


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere PyTorch has another OpenMP than GNU's"
)
@pytest.mark.parametrize("policy", ["", "active"])
def test_waiting_threads_sleep_soon_unless_the_user_says_otherwise(policy):
    """GNU OpenMP itself prints what it goes by."""
    environment = {**os.environ, "OMP_DISPLAY_ENV": "verbose"}
    if policy:
        environment["OMP_WAIT_POLICY"] = policy
    result = subprocess.run(
        [sys.executable, "-m", "ostinato", "recipes"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    (spins,) = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", result.stderr)
    assert (int(spins) == SPINS) == (not policy)
