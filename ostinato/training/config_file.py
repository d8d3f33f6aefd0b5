"""Dataclasses as JSON: config.json of a run folder.

Each dataclass becomes an object whose "class" is its name. Reading follows the annotations of the
class asked for, so a file can only name classes that its reader expects, and is strict: what an
older or newer version would silently default or ignore is an error.
"""

import difflib
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ostinato.files import write_json
from ostinato.training.run_folder import read_json

T = TypeVar("T")

ABSENT = "absent"
"""Key in the metadata of a field that was added later: what older files mean, which lack it."""


def write_config(path: Path, config: Any) -> None:
    """Write a dataclass, with those within it, such that `read_config` gives an equal one."""
    write_json(path, to_json(config))


def read_config(path: Path, kind: type[T]) -> T:
    """The `kind`, or subclass of it, that `write_config` has written; its fields may be unions.

    Raises ValueError, naming the place in the file, for an unknown key (with a suggestion), a
    missing key, a value of another type than declared, and a class that is not expected there.
    """
    return from_json(read_json(path), kind, str(path))


def differences(saved: Any, wanted: Any) -> dict[str, tuple[Any, Any]]:
    """What differs between two configs, as `model.hidden_size: (saved, wanted)`; None: absent."""
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
    """A dataclass, or the value of a field, as JSON can hold it."""
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
    return value


def from_json(value: Any, kind: Any, where: str) -> Any:
    """The `kind`, an annotation, that `to_json` has written as `value`; `where` is for errors."""
    origin, arguments = get_origin(kind), get_args(kind)
    choices = arguments if origin in (Union, types.UnionType) else (kind,)
    classes = [found for choice in choices if is_dataclass(choice) for found in _family(choice)]
    if classes and isinstance(value, dict) and "class" in value:
        return _read_dataclass(value, classes, where)
    if len(choices) > 1:
        for choice in choices:
            try:
                return from_json(value, choice, where)
            except ValueError:
                continue
    elif origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
    elif origin is tuple and isinstance(value, list):
        inner = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(inner) == len(value):
            items = enumerate(zip(value, inner, strict=True))
            return tuple(from_json(item, part, f"{where}[{i}]") for i, (item, part) in items)
    elif origin is list and isinstance(value, list):
        return [from_json(item, arguments[0], f"{where}[{i}]") for i, item in enumerate(value)]
    elif origin is dict and isinstance(value, dict):
        return {key: from_json(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif kind is Path and isinstance(value, str):
        return Path(value)
    elif type(value) is kind and kind in (bool, int, str, types.NoneType):
        return value
    expected = getattr(kind, "__name__", kind) if isinstance(kind, type) else kind
    raise ValueError(f"{where}: {value!r} is not of type {expected}: correct it")


def _read_dataclass(content: dict[str, Any], classes: list[type], where: str) -> Any:
    names = {cls.__name__: cls for cls in classes}
    content = dict(content)
    name = content.pop("class")
    if name not in names:
        raise ValueError(f"{where}: unknown class {name!r}{_suggestion(name, names)}")
    cls = names[name]
    known = [field.name for field in fields(cls)]
    content = {f.name: f.metadata[ABSENT] for f in fields(cls) if ABSENT in f.metadata} | content
    for key in content:
        if key not in known:
            raise ValueError(f"{where}: unknown setting {key!r}{_suggestion(key, known)}")
    missing = [key for key in known if key not in content]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} missing: add it, or start a new run")
    kinds = get_type_hints(cls)
    return cls(**{key: from_json(content[key], kinds[key], f"{where}: {key}") for key in known})


def _family(cls: Any) -> Iterator[type]:
    """A class and all its subclasses."""
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)


def _suggestion(name: str, known: Any) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else f": choose from {', '.join(known)}"
