"""Find files with weights in a folder or on the Hub, and read them without running their code."""

import pickle
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ostinato.decoding import read_json, read_text, read_yaml
from ostinato.files import home_path
from ostinato.hub import PREFIX, fetch
from ostinato.weights import packaged
from ostinato.weights.words import unknown_model

WEIGHTS = "model.safetensors"
"""Name of the weights in a run folder and on the Hub."""

TOKENIZER = "tokenizer.json"
"""Name of the tokenizer beside the weights of a language model."""

TOKENIZER_CONFIG = "tokenizer_config.json"
"""Name of the file with the template of conversations, as transformers reads it."""

CONFIGS = ("all_config.yaml", "config.yaml", "config.json")
"""Names of the settings beside weights that do not hold them, in the order of search."""

BESIDE = (*CONFIGS, TOKENIZER, TOKENIZER_CONFIG)
"""Names of all files that may lie beside weights."""

STATE_DICTS = ("*.safetensors", "*.pt", "*.pth", "*.bin", "checkpoint")
"""Names of weights beside the originals' `step_N`."""


@dataclass(frozen=True)
class TokenizerConfig:
    """Hold the part of `tokenizer_config.json` that is used."""

    chat_template: str = ""


HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+(/[^/]+)*")

NESTED = ("model", "model_state_dict", "state_dict")
"""Keys under which a pickled file may keep its weights if it holds more than weights."""

DAMAGED = (
    *(RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, OSError),
    *(AssertionError, ArithmeticError, MemoryError, struct.error),
)
"""Exceptions that unpickling can raise if the bytes are not a pickle."""


def locate(source: str | Path, revision: str | None = None) -> Path:
    """Return the file with the weights that `source` stands for.

    `source` is a file, a folder with weights, the name of a packaged model, or
    `hf:owner/name[/file or folder]` on the Hub, at the version `revision`. Raises ValueError, with
    the remedy, if there is no such file, or more than one.
    """
    if str(source).startswith(PREFIX):
        return _download(str(source).removeprefix(PREFIX), revision)
    path = home_path(source)
    if path.exists():
        if revision is not None:
            raise ValueError(f"{path} is a local path: a revision is for models on the Hub")
        return _choose(path) if path.is_dir() else path
    if str(source) in packaged():
        return packaged()[str(source)]
    hint = ""
    if HUB_NAME.fullmatch(str(source)):
        hint = f"; if it is a model on the Hub, write {PREFIX}{source}"
    raise unknown_model(str(path), f"give a run folder or a file with weights{hint}")


def _choose(folder: Path) -> Path:
    """Choose the weights in `folder`: ours, else the originals' last step, else the only file.

    A run that has not been evaluated yet has its newest checkpoint.
    """
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    steps = {
        int(match[1]): path
        for path in folder.iterdir()
        if (match := re.fullmatch(r"step_(\d+)", path.name)) and path.is_file()
    }
    if steps:
        return steps[max(steps)]
    found = sorted(p for pattern in STATE_DICTS for p in folder.glob(pattern) if p.is_file())
    if not found:
        if checkpoints := sorted(folder.glob("checkpoints/step-*.safetensors")):
            return checkpoints[-1]
        raise ValueError(
            f"{folder} holds no {WEIGHTS}: give a run folder whose training has been evaluated "
            "at least once, or the file itself"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder} holds more than one model: name one of {names}")
    return found[0]


def _download(name: str, revision: str | None) -> Path:
    """Download weights and settings from the Hub; return the weights' path in the local cache.

    If `name` has no file, all weights in the repository's first folder are downloaded.
    """
    if not HUB_NAME.fullmatch(name):
        raise ValueError(f"{PREFIX}{name} names no model on the Hub: write {PREFIX}owner/name")
    owner, repository, *inner = name.split("/")
    place = "/".join(inner)
    above = "".join(f"{part}/" for part in inner[:-1])
    within = f"{place}/" if inner else ""
    wanted = [f"{within}{pattern}" for pattern in (*BESIDE, *STATE_DICTS, "step_*")]
    if inner:
        wanted += [place, *(f"{above}{name}" for name in BESIDE)]
    snapshot = fetch(f"{owner}/{repository}", wanted, "check the name", revision)
    path = snapshot / place
    if not path.exists():
        raise ValueError(f"{owner}/{repository} on the Hub has no {place or 'weights'}")
    return _choose(path) if path.is_dir() else path


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors in `path`, safetensors or a pickled state dict, and the former's metadata.

    The format is recognised by its content, because the originals' files have no extension. Only
    tensors and plain containers are unpickled. Raises ValueError for anything else, and for a
    damaged file.
    """
    with path.open("rb") as file:
        head = file.read(9)
    is_safetensors = head[8:] == b"{" or path.suffix == ".safetensors"
    if is_safetensors:
        return _read_safetensors(path)
    return _read_pickle(path, is_zip=head.startswith(b"PK")), {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {
                name: file.get_tensor(name) for name in file.offset_keys()
            }, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error})") from None


def _read_pickle(path: Path, is_zip: bool) -> dict[str, Tensor]:
    try:
        # Map the file if the format allows it, so that a large table is copied only once
        content = torch.load(path, "cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        if match := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise ValueError(
                f"{path} is refused: it would run {match[1]} when loaded; "
                "get it as a plain state dict or as safetensors"
            ) from None
        raise ValueError(f"{path} is damaged, or holds more than tensors: get it again") from None
    except DAMAGED as error:
        raise ValueError(f"{path} is damaged, or holds no tensors: get it again") from error
    return _state_dict(path, content)


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    """Find the weights in the content of a pickled file; ValueError if they are ambiguous."""
    if isinstance(content, dict) and (keys := [key for key in NESTED if key in content]):
        averages = [key for key in content if "ema" in str(key)]
        if len(keys + averages) > 1:
            raise ValueError(
                f"{path} holds several sets of weights ({', '.join([*keys, *averages])}): "
                "save the one you want as a plain state dict"
            )
        content = content[keys[0]]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no state dict but a {type(content).__name__}")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{path}: {name!r} is no tensor but a {type(tensor).__name__}")
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise ValueError(f"{path}: {name} is sparse or quantised: convert it to plain floats")
    return dict(content)


def settings_beside(path: Path) -> Path | None:
    """Return the file with the settings beside weights, or None."""
    return next((p for name in CONFIGS if (p := path.with_name(name)).is_file()), None)


def tokenizer_beside(path: Path) -> str:
    """Return the content of the tokenizer beside weights; empty if there is none."""
    beside = path.with_name(TOKENIZER)
    return read_text(beside, "restore it") if beside.exists() else ""


def template_beside(path: Path) -> str:
    """Return the template of conversations beside weights; empty if there is none."""
    beside = path.with_name(TOKENIZER_CONFIG)
    if not beside.exists():
        return ""
    found: TokenizerConfig = read_json(beside, TokenizerConfig, "restore it")
    return found.chat_template


def read_settings(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML or JSON file; ValueError if there is none."""
    if not path.exists():
        raise ValueError(f"{path} does not exist: give the file with the settings")
    return read_json(path, dict[str, Any]) if path.suffix == ".json" else read_yaml(path)
