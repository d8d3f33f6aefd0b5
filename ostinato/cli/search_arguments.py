"""The arguments of verbs that may search: `--search NAME` sets several of them at once."""

from dataclasses import field, fields, make_dataclass, replace
from itertools import pairwise
from typing import TypeVar

from ostinato.cli.arguments import read
from ostinato.inference.search import Search, search_named

T = TypeVar("T")


def read_search(kind: type[T], words: list[str], verb: str) -> T:
    """The `kind` that the words spell, whose field `how` is a `Search`, each setting with a flag.

    The settings start from those of the search that `--search` names, verified if `how` is so by
    default or the search needs it. Raises ValueError in one line, SystemExit after help.
    """
    start: Search = kind.how  # pyright: ignore[reportAttributeAccessIssue]
    for word, behind in pairwise([*words, ""]):
        flag, _, value = word.partition("=")
        if flag == "--search":
            named = search_named(value or behind)
            start = replace(named, verify=start.verify or named.verify)
    started = make_dataclass(
        kind.__name__, [("how", Search, field(default=start))], bases=(kind,), frozen=True
    )
    started.__doc__ = kind.__doc__
    arguments = read(started, words, verb)
    return kind(**{f.name: getattr(arguments, f.name) for f in fields(kind)})  # pyright: ignore
