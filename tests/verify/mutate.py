"""Make a wrong implementation: a single change to the source, and the row that notices it."""

import importlib
import inspect
import sys
import textwrap
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Mutant:
    """Name a fault, its place, the text that becomes another one, and who notices."""

    name: str
    target: str
    changes: dict[str, str]
    caught_by: str
    """Name of a check."""
    model: str = ""
    """The specimen on which it does; all if empty."""


def apply(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the changed function or method in place of the true one, wherever it is imported."""
    module_name, _, path = mutant.target.partition(":")
    module = importlib.import_module(f"ostinato.{module_name}")
    *owners, name = path.split(".")
    owner = getattr(module, owners[0]) if owners else module
    true = inspect.getattr_static(owner, name)
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(plain(true))))
    for old, new in mutant.changes.items():
        assert source.count(old) == 1, f"{mutant.name}: {old!r} is not once in {mutant.target}"
        source = source.replace(old, new)
    if owners:
        source = source.replace("super()", f"super({owners[0]}, self)")
    scope = dict(vars(module))
    exec(compile(source, f"<{mutant.name}>", "exec"), scope)
    if owners:
        monkeypatch.setattr(owner, name, scope[name])
        return
    places = [m for n, m in sys.modules.items() if n.startswith("ostinato") and m is not None]
    for place in places:
        if getattr(place, name, None) is true:
            monkeypatch.setattr(place, name, scope[name])


def plain(attribute: Any) -> Any:
    """The function in a property, class method or static method."""
    if isinstance(attribute, property):
        return attribute.fget
    return getattr(attribute, "__func__", attribute)
