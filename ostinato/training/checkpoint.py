"""Write and read checkpoints: one safetensors file each, written atomically and verified on
reading.

A checkpoint is a tree of mappings and lists. Its tensors are the file's tensors, named by their
path in the tree (`model/layers.0/weight`; as in JSON pointers, RFC 6901, a `~` within a key reads
`~0` and a `/` reads `~1`). The rest is JSON in the file's metadata, beside a SHA-256 of everything,
since safetensors itself does not notice a flipped bit. Nothing is pickled.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ostinato.decoding import decode_json
from ostinato.files import WriteError, remove_partial_files
from ostinato.weights.safetensors_file import DTYPES, digest, write_safetensors

VERSION = 1
"""Format version; increase it when an older Ostinato could not read what is written."""

JSON_EXACT = 2**53
"""JSON numbers below this are exact in every reader; larger ints become hexadecimal text."""


class CheckpointError(ValueError):
    """A checkpoint could not be written or read; one line that names the file and the remedy."""


class Checkpoints:
    """The last `keep` checkpoints of a run, in files like `step-00001000.safetensors`."""

    def __init__(self, folder: Path, keep: int):
        if keep < 1:
            raise ValueError(f"keep = {keep} checkpoints: keep at least 1, or a run cannot resume")
        self.folder = folder
        self.keep = keep

    def save(self, step: int, tree: Mapping[str, Any]) -> Path:
        """Write the checkpoint of `step`, then remove the ones that are no longer to be kept.

        Later checkpoints are removed too: a run resumed from an earlier step has left their course.
        Raises `CheckpointError` if the file could not be written; then nothing is removed.
        """
        try:
            self.folder.mkdir(exist_ok=True)  # a run folder that was removed is not made again
        except OSError as error:
            raise CheckpointError(
                f"could not make {self.folder}: {error.strerror}: make room, or use another folder"
            ) from error
        remove_partial_files(self.folder)
        path = self.folder / f"step-{step:08d}.safetensors"
        save_checkpoint(path, tree)
        self.discard_after(step)
        self.prune()
        return path

    def paths(self) -> list[Path]:
        """Return the paths of all checkpoints, readable or not, the earliest first."""
        return sorted(self.folder.glob("step-*.safetensors"), key=step_of)

    def latest(self, warn: Callable[[str], None]) -> Path | None:
        """Return the newest readable checkpoint; `warn` gets one line for each newer, damaged
        one."""
        for path in reversed(self.paths()):
            try:
                load_checkpoint(path)
            except CheckpointError as error:
                warn(f"{error}; trying the one before")
            else:
                return path
        return None

    def prune(self) -> None:
        """Remove all but the last `keep`, but never the newest readable one."""
        surplus = self.paths()[: -self.keep]
        if surplus:
            readable = self.latest(warn=lambda message: None)
            for path in surplus:
                if path != readable:
                    path.unlink()

    def discard_after(self, step: int) -> None:
        """Remove the checkpoints later than `step`, since the run resumes from there."""
        for path in self.paths():
            if step_of(path) > step:
                path.unlink()


def step_of(path: Path) -> int:
    """Return the optimiser step in a checkpoint's file name."""
    match = re.fullmatch(r"step-(\d+)\.safetensors", path.name)
    if match is None:
        raise CheckpointError(f"{path} is not named like a checkpoint, step-00001000.safetensors")
    return int(match[1])


def save_checkpoint(path: Path, tree: Mapping[str, Any]) -> None:
    """Write `tree` to `path` atomically: `path` is always either the old file or the new one.

    Leaves are tensors (on any device; also 0-dim, empty, or shared between leaves), numbers,
    strings, booleans and None; branches are mappings with str or int keys, lists and tuples, so
    that the `state_dict()` of a module or an optimiser can be stored as it is. Raises
    `CheckpointError` if the file cannot be written, TypeError for another kind of leaf.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_encode(tree, (), tensors, {}), separators=(",", ":"))
    metadata = {
        "ostinato_checkpoint": str(VERSION),
        "tree": text,
        "sha256": digest(text, tensors),
    }
    try:
        write_safetensors(path, tensors, metadata)
    except WriteError as error:
        size = sum(tensor.nbytes for tensor in tensors.values()) + len(text)
        others = [other.name for other in sorted(path.parent.glob("*.safetensors"))]
        kept = f"{others[-1]} is still there" if others else "there is no earlier one"
        raise CheckpointError(
            f"could not save {path} ({size / 1e6:.1f} MB): {error.reason}; {kept}: "
            "make room on the disk, then continue with --resume auto"
        ) from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the tree that `save_checkpoint` wrote, with all tensors on `device`.

    Dtypes, shapes, the order of keys and the sharing of tensors are those saved. States of
    generators and the step counts of optimisers belong on the CPU: load there and let each
    `load_state_dict` move what it needs. Raises `CheckpointError` if there is no such file, if it
    is truncated or damaged, or if it is not a checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}: give an existing file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Cloned: what safe_open returns may still be backed by the file.
            tensors = {name: file.get_tensor(name).clone() for name in file.offset_keys()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is truncated or not a checkpoint ({_reason(error)}): use another one"
        ) from error
    if "ostinato_checkpoint" not in metadata:
        raise CheckpointError(
            f"{path} holds tensors but is not a checkpoint: give a file of RUN/checkpoints"
        )
    if metadata["ostinato_checkpoint"] != str(VERSION):
        raise CheckpointError(
            f"{path} has checkpoint format {metadata['ostinato_checkpoint']!r}, "
            f"this Ostinato reads {VERSION}: use the version that wrote it"
        )
    text = metadata.get("tree", "")
    if metadata.get("sha256") != digest(text, tensors):
        raise CheckpointError(f"{path} is damaged (its SHA-256 does not match): use another one")
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    try:
        tree = _decode(decode_json(text, Any, str(path)), tensors)
        if isinstance(tree, dict):
            return tree
        raise ValueError(f"it is a {type(tree).__name__}")
    except (ValueError, TypeError, KeyError) as error:  # the digest is right: somebody wrote it
        raise CheckpointError(f"{path} is no tree of a checkpoint ({error}): use another") from None


# In the JSON of a tree an object always has a single key, which says what it stands for:
# {"tensor": name}, {"dict": [[key, value], …]}, {"tuple": […]} or {"int": "0x…"}.


def _encode(
    node: Any, path: tuple[str, ...], tensors: dict[str, Tensor], stored: dict[tuple, tuple]
) -> Any:
    """Return the JSON of `node`; add its tensors to `tensors`, and with their place to `stored`."""

    def branch(key: str | int, value: Any) -> Any:
        part = str(key).replace("~", "~0").replace("/", "~1")
        return _encode(value, (*path, part), tensors, stored)

    if isinstance(node, Tensor):
        if node.dtype not in DTYPES:
            raise TypeError(
                f"a checkpoint cannot hold {'/'.join(path)!r}: its dtype is {node.dtype}"
            )
        place = (node.device, node.data_ptr(), node.dtype, node.shape, node.stride())
        if node.numel() > 0 and place in stored:
            return {"tensor": stored[place][0]}
        name = "/".join(path)
        # Keep the node too: once freed, another tensor of the tree could take its memory.
        stored[place] = (name, node)
        tensors[name] = node.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(node, Mapping):
        if {type(key) for key in node} not in (set(), {str}, {int}):
            raise TypeError(f"the keys of {'/'.join(path)!r} must be all str or all int")
        return {"dict": [[key, branch(key, value)] for key, value in node.items()]}
    if type(node) is list:
        return [branch(index, value) for index, value in enumerate(node)]
    if type(node) is tuple:
        return {"tuple": [branch(index, value) for index, value in enumerate(node)]}
    if type(node) is int and abs(node) >= JSON_EXACT:
        return {"int": hex(node)}
    if node is None or type(node) in (bool, int, float, str):
        return node
    raise TypeError(f"a checkpoint cannot hold {'/'.join(path)!r}, a {type(node).__name__}")


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the node that `_encode` was given."""
    if isinstance(node, list):
        return [_decode(value, tensors) for value in node]
    if not isinstance(node, dict):
        return node
    ((kind, value),) = node.items()
    match kind:
        case "tensor":
            return tensors[value]
        case "dict":
            return {key: _decode(item, tensors) for key, item in value}
        case "tuple":
            return tuple(_decode(item, tensors) for item in value)
        case "int":
            return int(value, 16)
    raise ValueError(f"unknown kind {kind!r}")


def _reason(error: Exception) -> str:
    """Return an error in one line, without the file name that OSError adds."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())
