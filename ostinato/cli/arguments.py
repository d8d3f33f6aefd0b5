"""Typed arguments from words: tyro, with one-line errors that suggest the remedy."""

import difflib
import io
import re
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import tyro

from ostinato.numbers import check_numbers

T = TypeVar("T")


def read(kind: type[T], words: list[str], verb: str, usage: str = "") -> T:
    """An instance of the dataclass `kind` from the words behind a verb; its defaults fill the gaps.

    Nested dataclasses are flattened. Raises ValueError in one line, SystemExit(0) after help.
    """
    output = io.StringIO()
    try:
        with redirect_stderr(output), redirect_stdout(output):
            arguments, unknown = tyro.cli(
                kind,
                args=words,
                prog=f"ostinato {verb}" + (f" {usage}" if usage else ""),
                return_unknown_args=True,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands),
            )
    except SystemExit as end:
        if end.code in (0, None):
            print(output.getvalue(), end="")
            raise
        raise ValueError(f"{one_line(output.getvalue())} (see ostinato {verb} --help)") from None
    if unknown:
        word = next((word for word in unknown if word.startswith("-")), unknown[0])
        known = flags(kind)
        if "--" in words and word.partition("=")[0] in known:
            raise ValueError(f"{word} stands behind --, where settings are not read: put it before")
        raise ValueError(f"unknown setting {word}{suggestion(word, known)}")
    check_numbers(arguments)
    return arguments


def flags(kind: Any) -> list[str]:
    """The flags of a dataclass and of those within it."""
    found = []
    for field in fields(kind):
        marks = getattr(field.type, "__metadata__", ())
        if is_dataclass(field.type):
            found += flags(field.type)
        elif tyro.conf.Positional not in marks:
            names = [mark.name for mark in marks if getattr(mark, "name", None)]
            found.append("--" + (names or [field.name])[0].replace("_", "-"))
    return found


def suggestion(word: str, known: Iterable[str]) -> str:
    """ ": did you mean …?" if something known is close to `word`, else what there is."""
    known = list(known)
    close = difflib.get_close_matches(word.split("=")[0], known, n=1)
    if close:
        return f": did you mean {close[0]}?"
    return f": choose from {', '.join(known)}" if known else ""


def one_line(box: str) -> str:
    """The message in one of tyro's boxes: what stands between its title and the next rule."""
    parts = re.split(r"^[ │|]*(?:╭.*|[─-]{3,})[ │|]*$", box, flags=re.MULTILINE)
    message = parts[1] if len(parts) > 1 else box
    sentences = " ".join(line.strip("│| ") for line in message.split("\n")).strip()
    return sentences.partition(" Got errors:")[0].rstrip(".")  # each type that did not fit either


def seconds(text: str) -> float:
    """ "90s", "25m", "1h30m" or a plain number of seconds."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is no duration: write 90s, 25m or 1h30m")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + rest
