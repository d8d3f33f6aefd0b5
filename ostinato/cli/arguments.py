"""Read typed arguments from words by tyro, with one-line errors that suggest the remedy."""

import difflib
import io
import re
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import field, fields, is_dataclass, make_dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import tyro

from ostinato.cli.help import page, purpose, registry
from ostinato.numbers import check_numbers

if TYPE_CHECKING:
    from ostinato.training.config import AnyRecipe

T = TypeVar("T")


def read(kind: type[T], words: list[str], verb: str, usage: str = "") -> T:
    """Read an instance of the dataclass `kind` from the words behind a verb.

    Its defaults fill the gaps, and nested dataclasses are flattened. Raises ValueError in one line,
    SystemExit(0) after help.
    """
    words = [re.sub("^--no-no-", "--", word) for word in words]  # an old spelling
    prog = f"ostinato {verb}" + (f" {usage}" if usage else "")
    output = io.StringIO()
    try:
        with redirect_stderr(output), redirect_stdout(output):
            arguments, unknown = tyro.cli(
                kind,
                args=words,
                prog=prog,
                return_unknown_args=True,
                registry=registry(),
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands),
            )
    except SystemExit as end:
        if end.code in (0, None):
            print(page(kind, prog, output.getvalue()))
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
    """Return the flags of a dataclass and of the dataclasses nested in it."""
    found, types = [], get_type_hints(kind)
    for setting in fields(kind):
        marks = getattr(setting.type, "__metadata__", ())
        if is_dataclass(types[setting.name]):
            found += flags(types[setting.name])
        elif tyro.conf.Positional not in marks:
            names = [mark.name for mark in marks if getattr(mark, "name", None)]
            found.append("--" + (names or [setting.name])[0].replace("_", "-"))
    return found


def named_settings(words: Iterable[str]) -> set[str]:
    """Return the names of the settings among words, as a dataclass has them."""
    flags = {word.partition("=")[0][2:] for word in words if word.startswith("--")}
    names = {flag.replace("-", "_") for flag in flags}
    return names | {f"no_{name}" for name in names} | {name.removeprefix("no_") for name in names}


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ": did you mean …?" if a known word is close to `word`, else the known words."""
    known = list(known)
    close = difflib.get_close_matches(word.split("=")[0], known, n=1)
    if close:
        return f": did you mean {close[0]}?"
    return f": choose from {', '.join(known)}" if known else ""


def one_line(box: str) -> str:
    """Return the message in one of tyro's boxes: the text between its title and the next rule."""
    parts = re.split(r"^[ │|]*(?:╭.*|[─-]{3,})[ │|]*$", box, flags=re.MULTILINE)
    message = parts[1] if len(parts) > 1 else box
    sentences = " ".join(line.strip("│| ") for line in message.split("\n")).strip()
    return sentences.partition(" Got errors:")[0].rstrip(".")  # other types that did not fit


def seconds(text: str) -> float:
    """Read "90s", "25m", "1h30m" or a plain number of seconds."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is no duration: write 90s, 25m or 1h30m")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + rest


def read_recipe(
    kind: type[T],
    words: list[str],
    verb: str,
    parts: tuple[str, ...] = ("training", "data", "model"),
) -> "tuple[T, AnyRecipe]":
    """Read the `kind` behind RECIPE, and the recipe with the settings among the words.

    Only settings of `parts` can be changed. Without RECIPE, the recipes are listed.
    Raises ValueError in one line, SystemExit after help or the list.
    """
    from ostinato.recipes import recipe_list, recipe_named  # they import torch

    if not words or words[0] in ("-h", "--help"):
        print(f"usage: ostinato {verb} RECIPE [options]\n\n{purpose(kind)}\n\n{recipe_list()}")
        print(f"\n`ostinato {verb} RECIPE --help` lists the options of a recipe.")
        raise SystemExit(0 if words else 2)
    name, *settings = words
    recipe = recipe_named(name)
    # Build a class with the recipe's own types and values, so that no subcommands are needed
    with_settings = make_dataclass(
        kind.__name__,
        [(p, type(getattr(recipe, p)), field(default=getattr(recipe, p))) for p in parts],
        bases=(kind,),
        frozen=True,
    )
    with_settings.__doc__ = kind.__doc__
    arguments = read(with_settings, settings, verb, name)
    return arguments, replace(recipe, **{part: getattr(arguments, part) for part in parts})


def read_search(kind: type[T], words: list[str], verb: str) -> T:
    """Read a `kind` whose field `how` is a `Search`, each setting of which has a flag.

    The settings start from those of the search that `--search` names, verified if `how` is so by
    default or the search needs it. Raises ValueError in one line, SystemExit after help.
    """
    from ostinato.inference.search import Search, search_named

    start: Search = kind.how  # pyright: ignore[reportAttributeAccessIssue]
    for word, behind in pairwise([*words, ""]):
        flag, _, value = word.partition("=")
        if flag == "--search":
            named = search_named(value or behind)
            start = replace(named, verify=start.verify or named.verify)
    started = make_dataclass(
        kind.__name__,
        [("how", Annotated[Search, tyro.conf.arg(name="search")], field(default=start))],
        bases=(kind,),
        frozen=True,
    )
    started.__doc__ = kind.__doc__
    arguments = read(started, words, verb)
    return kind(**{f.name: getattr(arguments, f.name) for f in fields(kind)})  # pyright: ignore
