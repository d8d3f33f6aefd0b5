"""Damage to good files, as accidents and enemies do it: to their bytes, and to the JSON in them."""

import copy
import hashlib
import json
import math
import struct
from collections.abc import Callable
from typing import Any

import yaml
from hypothesis import strategies as st
from safetensors.torch import load

Draw = Callable[[st.SearchStrategy], Any]

DEEP, WIDE = 100_000, 140_000
ODD: list[Any] = [
    *(None, True, -1, 0, 1, 2, 7, 255, 2**31, 2**63, 10**30, -0.5, 1e308, math.nan, math.inf),
    *("", "x", "sudoku9", "../all", "a/b", "\0", "\n", "é" * 300, "\ud800", "${.name}"),
    *([], {}, [[]], [1, "a"], {"class": []}, {"": None}, [{}], [[0] * 31], {"a": {"a": {"a": 1}}}),
]
"""Values that may stand where something else belongs."""
RAW = {
    "@deep list": "[" * DEEP + "]" * DEEP,
    "@deep object": '{"a":' * DEEP + "1" + "}" * DEEP,
    "@not so deep": "[" * 500 + "]" * 500,
    "@large": "1e999",
    "@long": "9" * 5000,
    "@wide": '"' + "w" * WIDE + '"',
}
"""Text that takes the place of a value, for what `json.dumps` would not write."""
PIECES = [
    *(b"\0", b"\n", b'"', b",", b"\xff\xfe", b"\xef\xbb\xbf", b"{", b"]", b": ", b"-", b"e9"),
    *(b"9" * 30, b"1" * WIDE, b"\xf0\x9f\x92", b"&a [*a]", b"!!python/none ", b"[" * 5000, b"\r"),
]
"""Bytes that may be put anywhere."""


@st.composite
def damaged_bytes(draw: Draw, good: bytes) -> bytes:
    """The file cut off, or with some bytes changed, put in or taken out."""
    data = bytearray(good)
    place = st.integers(0, max(0, len(good) - 1))
    for _ in range(draw(st.integers(1, 3))):
        at = min(draw(place), max(0, len(data) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                del data[at:]
            case 1 if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 2:
                data[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
            case 3:
                data[at:at] = draw(st.sampled_from(PIECES))
            case 4:
                del data[at : at + draw(st.integers(1, 64))]
            case 5:
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
    return bytes(data)


@st.composite
def damaged_json(draw: Draw, good: str) -> str:
    """JSON with a value, a key or an element that is wrong, missing or there too often."""
    content = {"": json.loads(good)}
    for _ in range(draw(st.integers(1, 2))):
        holder: Any = content
        key: Any = ""
        while isinstance(holder[key], (dict, list)) and holder[key] and draw(st.integers(0, 4)):
            holder = holder[key]
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            key = draw(st.sampled_from(keys))
        match draw(st.integers(0, 5)):
            case 0 if holder is not content:
                del holder[key]
                break
            case 1 if isinstance(holder, dict) and holder is not content:
                name = draw(st.sampled_from(["", "x", "class", "../x", key + "s"]))
                holder[name] = holder.pop(key)
                break
            case 2:
                holder[key] = draw(st.sampled_from(sorted(RAW)))
            case 3 if isinstance(holder, list):
                holder *= 2
            case _:
                holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    text = json.dumps(content[""])
    for name, raw in RAW.items():
        text = text.replace(json.dumps(name), raw)
    return text


@st.composite
def damaged_json_file(draw: Draw, good: bytes) -> bytes:
    """A JSON file with damage to its content, to its bytes or to its encoding."""
    if draw(st.booleans()):
        return draw(damaged_bytes(good))
    text = draw(damaged_json(good.decode()))
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16"])))


@st.composite
def damaged_header(draw: Draw, good: bytes) -> bytes:
    """A safetensors file with damage to its header, in JSON, or to what JSON is within that."""
    if draw(st.integers(0, 2)) == 0:
        return draw(damaged_bytes(good))
    length = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + length])
    metadata = header["__metadata__"]
    inner = [key for key, value in metadata.items() if value[:1] == "{"]
    if inner and draw(st.booleans()):
        key = draw(st.sampled_from(inner))
        metadata[key] = draw(damaged_json(metadata[key]))
        text = json.dumps(header)
    else:
        text = draw(damaged_json(json.dumps(header)))
    return len(text).to_bytes(8, "little") + text.encode() + good[8 + length :]


@st.composite
def damaged_array(draw: Draw, good: bytes) -> bytes:
    """A .npy file with damage to its bytes, or with another shape or type in its header."""
    if draw(st.booleans()):
        return draw(damaged_bytes(good))
    size = 10 + int.from_bytes(good[8:10], "little")
    shapes = ["(3,)", "(-1,)", "(10**9,)", "(2, 2)", "()", f"({2**63},)", f"({2**40}, 0)", "(1j,)"]
    types = ["<i8", "<u8", "|b1", "|O", "<U4", "<f4", "<M8[s]", ">i4", "|V3", "<i1", "zz", "<u2"]
    header = (
        f"{{'descr': '{draw(st.sampled_from(types))}', 'fortran_order': "
        f"{draw(st.booleans())}, 'shape': {draw(st.sampled_from(shapes))}}}"
    ).encode()
    header += b" " * (-len(header) % 64)
    return good[:8] + len(header).to_bytes(2, "little") + header + good[size:]


@st.composite
def damaged_lines(draw: Draw, good: bytes) -> bytes:
    """A file of JSON lines with damage to its bytes or to one of its lines."""
    if draw(st.booleans()):
        return draw(damaged_bytes(good))
    lines = good.splitlines(keepends=True)
    number = draw(st.integers(0, len(lines) - 1))
    lines[number] = draw(damaged_json_file(lines[number])) + b"\n"
    return b"".join(lines)


@st.composite
def damaged_yaml(draw: Draw, good: bytes) -> bytes:
    """A YAML file with damage to its bytes or to its values; JSON is YAML too."""
    if draw(st.booleans()):
        return draw(damaged_bytes(good))
    bomb = "\n".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9 if n else 1}]" for n in range(9))
    tags = ["!!python/object:os.system x", "!!timestamp x", "!!int ''", "!!binary é", "=", "1:60"]
    extra = ["\n".join(f"x: {tag}" for tag in tags[:n]) for n in range(len(tags))]
    values = [*tags, *RAW.values(), bomb, *extra, "2020-99-99", "1:" * 400 + "1.5", "? [1]\n: 2"]
    if draw(st.booleans()):
        return good + f"x: {draw(st.sampled_from(values))}\n{bomb}".encode()
    content = json.dumps(yaml.safe_load(good))
    return draw(damaged_json_file(content.encode()))


@st.composite
def damaged_head(draw: Draw, good: bytes) -> bytes:
    """A file with damage to the first part of it, where its sizes are."""
    size = draw(st.sampled_from([28, 120, 1000, len(good)]))
    if draw(st.booleans()):
        at = draw(st.integers(0, min(size, len(good)) - 8)) & ~3
        numbers = [0, 1, 2, 2**16, 2**31 - 1, 2**32, 2**60, 2**63, 2**64 - 1]
        number, width = draw(st.sampled_from(numbers)), draw(st.sampled_from([4, 8]))
        return good[:at] + struct.pack("<Q", number)[:width] + good[at + width :]
    return draw(damaged_bytes(good[:size])) + good[size:]


@st.composite
def damaged_checkpoint(draw: Draw, good: bytes) -> bytes:
    """A checkpoint with damage to its header, or with another tree and the digest of that."""
    if draw(st.booleans()):
        return draw(damaged_header(good))
    length = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + length])
    tree = draw(damaged_json(header["__metadata__"]["tree"]))
    digest = hashlib.sha256(tree.encode())
    for name, tensor in sorted(load(good).items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    header["__metadata__"] |= {"tree": tree, "sha256": digest.hexdigest()}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + good[8 + length :]
