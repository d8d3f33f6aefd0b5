"""Write and read dataclasses as JSON, such as config.json of a run folder.

Each dataclass becomes an object whose "class" is its name. Reading follows the annotations of the
class asked for, so a file can only name classes that its reader expects. Reading is strict: a key
that an older or newer version would silently default or ignore is an error.
"""

import difflib
import math
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ostinato.decoding import convert
from ostinato.files import write_json
from ostinato.numbers import ABSENT
from ostinato.training.run_folder import read_json

T = TypeVar("T")

FLOAT = "float"
"""Key of an object that stands for a number that is not finite."""


def write_config(path: Path, config: Any) -> None:
    """Write a dataclass, including nested ones, so that `read_config` returns an equal one."""
    write_json(path, to_json(config))


def read_config(path: Path, kind: type[T]) -> T:
    """Return the `kind`, or a subclass, that `write_config` wrote; its fields may be unions.

    Raises ValueError, naming the place in the file, for an unknown key (with a suggestion), a
    missing key, a value of another type than declared, and a class that is not expected there.
    """
    return from_json(read_json(path), kind, str(path))


def differences(saved: Any, wanted: Any) -> dict[str, tuple[Any, Any]]:
    """Return the differences of two configs, as `model.hidden_size: (saved, wanted)`; None:
    absent."""
    old, new = dict(_leaves(to_json(saved))), dict(_leaves(to_json(wanted)))
    keys = dict.fromkeys([*old, *new])
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict):
        yield path, node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{path}.{key}" if path else key)


def to_json(value: Any) -> Any:
    """Return a dataclass, or the value of a field, in a form that JSON can hold."""
    if is_dataclass(value):
        content = {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
        return {"class": type(value).__name__, **content}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    assert value is None or isinstance(value, (bool, int, float, str)), f"no JSON for {value!r}"
    # JSON has no numbers that are not finite
    return {FLOAT: str(value)} if isinstance(value, float) and not math.isfinite(value) else value


def from_json(value: Any, kind: Any, source: str, at: str = "$") -> Any:
    """Return the `kind`, an annotation, that `to_json` has written as `value`.

    `source` is the name of the file, and `at` the place in it, for errors.
    """
    value = _floats(value)
    choices = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    classes = [found for choice in choices if is_dataclass(choice) for found in _family(choice)]
    if classes and isinstance(value, dict) and "class" in value:
        return _read_dataclass(value, classes, source, at)
    if classes and not (value is None and types.NoneType in choices):
        names = " or ".join(cls.__name__ for cls in classes)
        raise ValueError(f"{source}: {at}: it is no object of class {names}: correct it")
    is_choice = get_origin(kind) is Literal
    remedy = f"choose from {', '.join(map(str, get_args(kind)))}" if is_choice else "correct it"
    return None if classes else convert(value, kind, source, remedy, at)


def _floats(value: Any) -> Any:
    """Restore the numbers that are not finite."""
    if isinstance(value, dict):
        if value.keys() == {FLOAT} and value[FLOAT] in ("inf", "-inf", "nan"):
            return float(value[FLOAT])
        return {key: _floats(item) for key, item in value.items()}
    return [_floats(item) for item in value] if isinstance(value, list) else value


def _read_dataclass(content: dict[str, Any], classes: list[type], source: str, at: str) -> Any:
    names = {cls.__name__: cls for cls in classes}
    content = dict(content)
    name = content.pop("class")
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"{source}: {at}: unknown class {name!r}{_suggestion(name, names)}")
    cls = names[name]
    known = [field.name for field in fields(cls)]
    content = {f.name: f.metadata[ABSENT] for f in fields(cls) if ABSENT in f.metadata} | content
    for key in content:
        if key not in known:
            raise ValueError(f"{source}: {at}: unknown setting {key!r}{_suggestion(key, known)}")
    missing = [key for key in known if key not in content]
    if missing:
        raise ValueError(
            f"{source}: {at}: {', '.join(missing)} missing: add it, or start a new run"
        )
    kinds = get_type_hints(cls)
    settings = {key: from_json(content[key], kinds[key], source, f"{at}.{key}") for key in known}
    try:
        return cls(**settings)
    except ValueError as error:
        raise ValueError(f"{source}: {at}: {error}") from None


def _family(cls: Any) -> Iterator[type]:
    """Yield a class and all its subclasses."""
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)


def _suggestion(name: Any, known: Any) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else f": choose from {', '.join(known)}"
