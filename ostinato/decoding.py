"""Decode files strictly, since somebody else may have written them.

Every fault is a `ValueError` of one line that names the file, the place in it (`$.train[0].input`)
and the remedy. Nothing in a file is executed. Arrays of data sets are memory-mapped, so a header
that lies about their size costs no memory.
"""

import json
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml
from jaxtyping import Int64

DEPTH = 40
"""Deepest nesting of objects and lists allowed in a file, so that code may recurse through them; a
checkpoint has about 25."""
YAML_DEPTH = 8
"""Deepest nesting allowed in YAML, which is used for settings only."""
UNREADABLE = (
    *(OSError, ValueError, TypeError, ArithmeticError, MemoryError, RuntimeError),
    tokenize.TokenError,
)
"""Exceptions that NumPy raises for damaged files."""


def one_line(error: Exception) -> str:
    """Return the text of an error without line ends."""
    return " ".join(str(error).split())


def read_bytes(path: Path, remedy: str = "give another file") -> bytes:
    """Return the content of a file."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read ({reason}): {remedy}") from None


def read_text(path: Path, remedy: str = "give another file") -> str:
    """Return the content of a UTF-8 file, without a byte order mark."""
    try:
        return read_bytes(path, remedy).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read (it is not UTF-8: {error}): {remedy}") from None


def read_json(path: Path, kind: Any, remedy: str = "correct it") -> Any:
    """Return the content of a JSON file as a `kind`: a dataclass, or any type that msgspec
    knows."""
    return decode_json(read_text(path, remedy), kind, str(path), remedy)


def decode_json(text: str, kind: Any, source: str, remedy: str = "correct it") -> Any:
    """Return the `kind` that the JSON `text` holds; errors call the text `source`."""
    try:
        content = json.loads(text)
        check_depth(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} cannot be read ({error}): {remedy}") from None
    return convert(content, kind, source, remedy)


def check_depth(content: Any) -> None:
    """Raise ValueError if lists and mappings are nested deeper than `DEPTH`."""
    level = [[content]]
    for _ in range(DEPTH + 1):
        inner = [node.values() if isinstance(node, dict) else node for node in level]
        level = [node for nodes in inner for node in nodes if isinstance(node, (list, dict))]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {DEPTH}")


def convert(content: Any, kind: Any, source: str, remedy: str = "correct it", at: str = "$") -> Any:
    """Return `content` (plain mappings and lists) as a `kind`, after checking every part.

    `at` is the place of `content` in the file.
    """
    try:
        return msgspec.convert(content, kind, strict=True, dec_hook=_custom)
    except ValueError as error:  # of msgspec, or text that is half a character
        what, _, where = str(error).partition(" - at ")
        place = at + where.strip("`").removeprefix("$")
        raise ValueError(f"{source}: {place}: {what[:1].lower()}{what[1:]}: {remedy}") from None


def _custom(kind: type, content: Any) -> Any:
    """Build an object of a type that JSON stores as text."""
    assert kind is Path, f"no way to read a {kind}"
    if not isinstance(content, str):
        raise ValueError("Expected `str`")
    return Path(content)


def convert_each(content: dict[str, Any], kind: Any, source: str, remedy: str) -> dict[str, Any]:
    """Return `convert` of each value; an error names its key, which msgspec leaves out."""
    return {key: convert(value, kind, source, remedy, f"$.{key}") for key, value in content.items()}


def read_yaml(path: Path, remedy: str = "correct it") -> dict[str, Any]:
    """Return the mapping in a YAML file of plain values; aliases, tags and deep nesting are
    refused."""
    text, depth = read_text(path, remedy), 0
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise ValueError(f"line {event.start_mark.line + 1} has an anchor, alias or tag")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > YAML_DEPTH:
                raise ValueError(f"line {event.start_mark.line + 1} is nested too deep")
        content = msgspec.to_builtins(yaml.safe_load(text), str_keys=True)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} cannot be read ({one_line(error)}): {remedy}") from None
    return convert(content, dict[str, Any], str(path), remedy)


def read_npy(
    path: Path, kinds: str, ndim: int, remedy: str = "build or download the data set again"
) -> np.ndarray:
    """Return the memory-mapped array of a .npy file; its dtype is one of `kinds`, such as "iu"."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise ValueError(f"{path}: missing; {remedy}") from None
    except UNREADABLE as error:
        raise ValueError(f"{path}: not readable ({one_line(error)}); {remedy}") from None
    if array.dtype.kind not in kinds or array.ndim != ndim:
        raise ValueError(
            f"{path}: not readable (dtype {array.dtype} and shape {array.shape} do not fit); "
            f"{remedy}"
        )
    return np.asarray(array)


def read_npz(path: Path, keys: Sequence[str], remedy: str = "restore it") -> list[np.ndarray]:
    """Return arrays of a .npz file."""
    try:
        with np.load(path) as file:
            if missing := set(keys) - set(file):
                raise ValueError(f"it has no {min(missing)}")
            return [file[key] for key in keys]
    except (*UNREADABLE, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not readable ({one_line(error)}); {remedy}") from None


def rises(indices: Int64[np.ndarray, " bounds"], end: int) -> bool:
    """Return whether numbers increase from 0 to `end`."""
    inside = indices[0] == 0 and indices[-1] == end and indices.min() >= 0 and indices.max() <= end
    return bool(inside and (np.diff(indices) > 0).all())
