"""Help texts: rules by which tyro reads a verb's dataclass, and the layout of the page."""

import inspect
import re
import shutil
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from ostinato.training.config import LoopConfig

MACHINE = ("device", "compile", "forward_dtype", "muon_dtype", "batch_size", "data_root")
"""Settings with a group of their own: they change where and how to compute, not the result."""

TRAINING = ("total_steps", "global_batch_size", "lr", "optimizer", "eval_every", "seed", "track")
"""Training settings that are listed before the others."""

EMPTY = (None, "", ())
"""Defaults that stand for something else, which the setting's help text explains."""

METAVARS = {"Path": "PATH", "str": "TEXT", "int": "INT", "float": "FLOAT"}


def registry() -> ConstructorRegistry:
    """Return the rules by which tyro reads dataclasses."""
    rules = ConstructorRegistry()
    rules.struct_rule(read_dataclass)
    return rules


def read_dataclass(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Describe the settings of a dataclass, in groups; None for another type.

    A setting `no_x` is read as its opposite `x`, because tyro adds `--no-x` to that.
    """
    kind = info.type
    if isinstance(kind, type) and issubclass(kind, Part):
        return StructConstructorSpec(dict, kind.settings)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return None
    hints, texts = get_type_hints(kind, include_extras=True), cache(lambda: field_texts(kind))
    given = info.default if isinstance(info.default, kind) else None
    groups: dict[str, list[StructFieldSpec]] = {"": []}
    opposites = {}
    for setting in fields(kind):
        name, hint, default = setting.name, hints[setting.name], setting.default
        if given is not None:
            default = getattr(given, name)
        elif setting.default_factory is not MISSING:
            default = setting.default_factory()
        elif default is MISSING:
            default = tyro.MISSING
        if hint is bool and name.startswith("no_"):
            name, default = name.removeprefix("no_"), not default
            opposites[name] = setting.name
        help_text = partial(lambda name: texts().get(name), setting.name)
        spec = StructFieldSpec(name, with_marks(hint, default), default, help_text)
        groups.setdefault(group_of(kind, setting.name), []).append(spec)
    own = groups.pop("")
    for title in sorted(groups, reverse=True):  # "machine" before "further training"
        part: Any = type("Part", (Part,), {"settings": tuple(groups[title])})
        typ: Any = Annotated[part, tyro.conf.arg(prefix_name=False)]
        own.append(StructFieldSpec(title, typ, tyro.MISSING, ""))

    def instantiate(**values: Any) -> Any:
        for title in groups:
            values |= values.pop(title)
        return kind(**values | {old: not values.pop(name) for name, old in opposites.items()})

    return StructConstructorSpec(instantiate, tuple(own))


class Part:
    """Stand for some settings of a dataclass, which have a group of their own."""

    settings: tuple[StructFieldSpec, ...]


def group_of(kind: type, setting: str) -> str:
    """Return the title of the group that a setting has in the help; empty for its class's own."""
    if setting in MACHINE:
        return "machine"
    if issubclass(kind, LoopConfig) and setting not in TRAINING:
        return "further training"
    return ""


def field_texts(kind: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass or its bases, as one paragraph."""
    return {
        text.arg_name: " ".join(text.description.split())
        for cls in reversed(kind.__mro__)
        if is_dataclass(cls)
        for text in docstring_parser.parse_from_object(cls).params
        if text.description
    }


def with_marks(hint: Any, default: Any) -> Any:
    """Return a type for tyro whose help neither names None nor shows an empty default."""
    marks = {}
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if isinstance(default, bool):
        marks["help_behavior_hint"] = f"(default: {'on' if default else 'off'})"
    elif default in EMPTY and not is_dataclass(default):
        marks["help_behavior_hint"] = ""
    (*others,) = (each for each in get_args(inner) if each is not NoneType)
    if NoneType in get_args(inner) and len(others) == 1:
        marks["metavar"] = METAVARS.get(getattr(others[0], "__name__", ""))
    if not marks:
        return hint
    # The last mark prevails: the one on the field itself
    own = getattr(hint, "__metadata__", ())
    return Annotated[(inner, tyro.conf.arg(**marks), *own)]


def page(kind: type, prog: str, tables: str) -> str:
    """Return the help of a verb: usage, what it does, then the tables of settings by tyro."""
    usage, _, _ = tables.partition("\n")
    words = re.sub(r"\[-h\]|\[--[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\]|\[OPTIONS\]", "", usage)
    start = re.search(r"^ (?:positional arguments|options) *$", tables, re.MULTILINE)
    assert start is not None
    settings = [line.rstrip() for line in tables[start.start() :].rstrip().splitlines()]
    return "\n".join([" ".join(words.split()) + " [options]", "", purpose(kind), "", *settings])


def purpose(kind: type) -> str:
    """Return the docstring of a verb's class, wrapped; a paragraph with indented lines stays."""
    width = shutil.get_terminal_size().columns
    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    return "\n\n".join(text if "\n " in text else textwrap.fill(text, width) for text in paragraphs)
