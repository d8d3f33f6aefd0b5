"""Load trained weights into the model that their file describes.

Checkpoints of the originals are read too, from disk or from the Hub (see `official.py`).
"""

import difflib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints, overload

import torch
from torch import Tensor

from ostinato.decoding import convert, decode_json
from ostinato.models import MODELS, NanoChat, NanoChatConfig, RecursiveConfig, RecursiveModel
from ostinato.models.dtypes import choose_dtype
from ostinato.weights.checkpoint_weights import CHECKPOINT_KEY, read_checkpoint_weights
from ostinato.weights.files import (
    CONFIGS,
    TOKENIZER,
    locate,
    read_settings,
    read_tensors,
    settings_beside,
    template_beside,
    tokenizer_beside,
)
from ostinato.weights.fitting import (
    DAMAGED,
    Pretrained,
    PuzzleEmbeddings,
    fitting,
    load_pretrained,
    tensors_for,
)
from ostinato.weights.gguf import is_gguf, packed_tensors, read_gguf
from ostinato.weights.memory import check_layers, check_memory, model_bytes, without_memory
from ostinato.weights.official import (
    from_official_file,
    from_official_weights,
    infer_sizes,
    recognise,
)
from ostinato.weights.onnx_model import SUFFIX, OnnxModel, open_session
from ostinato.weights.safetensors_file import digest
from ostinato.weights.save import METADATA_KEY, Model

Config = RecursiveConfig | NanoChatConfig
Kind = TypeVar("Kind", RecursiveModel, NanoChat)


@dataclass(frozen=True)
class Description:
    """Hold the description that a weights file has of itself."""

    model: str
    config: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)


@overload
def load(
    source: str | Path,
    device: str | torch.device = "cpu",
    *,
    kind: type[Kind],
    config: str | Path | None = None,
    revision: str | None = None,
    puzzle_embeddings: PuzzleEmbeddings = "keep",
    **settings: Any,
) -> Kind: ...


@overload
def load(
    source: str | Path,
    device: str | torch.device = "cpu",
    *,
    kind: None = None,
    config: str | Path | None = None,
    revision: str | None = None,
    puzzle_embeddings: PuzzleEmbeddings = "keep",
    **settings: Any,
) -> Any: ...


def load(
    source: str | Path,
    device: str | torch.device = "cpu",
    *,
    kind: type[Model] | None = None,
    config: str | Path | None = None,
    revision: str | None = None,
    puzzle_embeddings: PuzzleEmbeddings = "keep",
    **settings: Any,
) -> Model:
    """Load a trained model, ready to solve puzzles or to generate text.

    `source` is a run folder, a weights file, a checkpoint of the originals (`step_N`, a pickled
    state dict or safetensors, with `all_config.yaml` beside it or given as `config`), a folder with
    one of these, or `hf:owner/name[/file]` on the Hub (at `revision`). A GGUF file that
    `ostinato export` wrote gives a packed model, which generates text but cannot be trained; nor
    can an ONNX file, which onnxruntime runs.

    `settings` replace those of the file. An original with rotary positions needs `seq_len`, which
    it takes from its data set; with `task` ("sudoku9") any original can read and draw puzzles;
    `forward_dtype="auto"` is the file's, but float32 on a CPU that is slow in bfloat16.
    `puzzle_embeddings="mean"` starts all puzzle rows from the mean of the file's, as many of them
    as `num_puzzle_identifiers` says. `kind` is the class that the model must have: RecursiveModel
    solves puzzles, NanoChat continues texts.

    Raises ValueError, naming the file and the remedy, if there is none, if it is damaged or
    foreign, if a tensor is missing, extra or mis-shaped, or if the model is of another kind.
    """
    path = locate(source, revision)
    if path.suffix == SUFFIX:
        if config is not None or puzzle_embeddings != "keep":
            raise ValueError(f"{path} only runs: leave out config and puzzle_embeddings")
        return load_onnx(path, torch.device(device), kind, **settings)
    found = read_pretrained(path, config)
    if kind is not None and not issubclass(MODELS[found.model][0], kind):
        use = (
            "solves puzzles: see ostinato solve"
            if kind is NanoChat
            else ("continues texts: see ostinato generate")
        )
        raise ValueError(f"{found.source} holds a {found.model}, which {use}")
    device = torch.device(device)
    if settings.get("forward_dtype") == "auto":
        usual = (found.settings or {}).get("forward_dtype", MODELS[found.model][1].forward_dtype)
        settings["forward_dtype"] = choose_dtype("auto", device, usual)
    return build(found, puzzle_embeddings, **settings).to(device).eval()


def load_onnx(
    path: Path, device: torch.device, kind: type[Model] | None, **settings: Any
) -> OnnxModel:
    """Load the model in an ONNX file. Raises ValueError for settings that the file has fixed."""
    if kind is not None and not issubclass(OnnxModel, kind):
        raise ValueError(f"{path} holds a model that solves puzzles: see ostinato solve")
    if settings.pop("forward_dtype", "auto") not in ("auto", "float32"):
        raise ValueError(f"{path} computes in float32: leave out forward_dtype")
    if device.type != "cpu":
        raise ValueError(f"{path} runs on the CPU: set device to cpu")
    if settings:
        raise ValueError(f"{path} holds its own settings: leave out {', '.join(settings)}")
    return read_onnx(path)


def read_onnx(path: Path) -> OnnxModel:
    """Open the model in an ONNX file; ValueError if `ostinato export` did not write it."""
    session = open_session(path)
    metadata = session.get_modelmeta().custom_metadata_map
    if METADATA_KEY not in metadata:
        raise ValueError(f"{path} does not describe its model: export again with ostinato export")
    content = decode_json(metadata[METADATA_KEY], Any, str(path))
    found = _described(path, path, content, {})
    config = make_config(found.model, found.settings or {}, str(path))
    if not isinstance(config, RecursiveConfig):
        raise ValueError(f"{path} holds a {found.model}, but ONNX is for puzzles: export again")
    return OnnxModel(path, session, config)


def read_pretrained(
    source: str | Path, config: str | Path | None = None, revision: str | None = None
) -> Pretrained:
    """Read weights from any `source` that `load` takes, without building the model.

    Raises ValueError if there are none, or if they or their settings cannot be read.
    """
    path = locate(source, revision)
    if path.suffix == SUFFIX:
        raise ValueError(f"{path} only runs: give the model that it was made of")
    if is_gguf(path):
        return _from_gguf(path, config)
    tensors, metadata = read_tensors(path)
    if METADATA_KEY in metadata:
        if config is not None:
            raise ValueError(f"{path} holds its own settings: leave out config")
        content = decode_json(metadata[METADATA_KEY], Any, str(path))
        found = _described(path, path, content, tensors)
        return replace(found, damage=_damage(metadata, found))
    if CHECKPOINT_KEY in metadata:
        return read_checkpoint_weights(path, tensors, metadata)
    config_path = Path(config) if config is not None else settings_beside(path)
    content = None if config_path is None else read_settings(config_path)
    if content is not None and content.keys() >= {"model", "config"}:
        assert config_path is not None
        return _described(path, config_path, content, tensors)
    try:
        tensors = from_official_weights(tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if content is None:
        return Pretrained(str(path), recognise(tensors), None, tensors, {})
    try:
        model, settings = from_official_file(content, tensors)
    except ValueError as error:
        raise ValueError(f"{config_path}: {error}") from None
    complete = make_config(model, settings | {"seq_len": 1}, str(config_path))
    assert isinstance(complete, RecursiveConfig)
    prefix_len = complete.prefix_len
    return Pretrained(
        str(path), model, infer_sizes(tensors, prefix_len) | settings, tensors, notes={}
    )


def _damage(metadata: dict[str, str], found: Pretrained) -> str:
    """Say what differs from the hashes that `save_weights` kept; older files have none."""
    text = metadata[METADATA_KEY]
    if metadata.get("sha256") not in (None, digest(text, found.tensors)):
        return DAMAGED
    wanted = metadata.get("tokenizer_sha256")
    if found.tokenizer and wanted not in (None, digest(found.tokenizer, {})):
        return f"was trained with another {TOKENIZER} than lies beside it: restore that file"
    return ""


def _from_gguf(path: Path, config: str | Path | None) -> Pretrained:
    """Read packed weights; ValueError if they do not fit the model that the file describes."""
    if config is not None:
        raise ValueError(f"{path} holds its own settings: leave out config")
    file = read_gguf(path)
    found = _described(path, path, file.description, {})
    kind = make_config(found.model, found.settings or {}, found.source)
    check_layers(kind, len(file.tensors), found.source)
    if not isinstance(kind, NanoChatConfig):
        raise ValueError(f"{path} holds a {found.model}, but GGUF is for nanochats: get it again")
    tensors, damage = packed_tensors(file, kind), DAMAGED if file.is_damaged else ""
    return replace(
        found,
        tensors=tensors,
        tokenizer=file.tokenizer,
        chat_template=file.chat_template,
        damage=damage,
    )


def build(
    found: Pretrained, puzzle_embeddings: PuzzleEmbeddings = "keep", **settings: Any
) -> Model:
    """Build the model that `found` describes, with its weights; see `load` for the arguments."""
    if found.settings is None:
        raise ValueError(
            f"{found.source} has no {', '.join(CONFIGS)} beside it: give the file with the "
            "settings as config, or convert it: ostinato export FILE --config SETTINGS"
        )
    settings = found.settings | settings
    if "seq_len" not in settings:
        raise ValueError(
            f"{found.source} does not tell the number of cells of a puzzle: give it as seq_len, "
            "such as 81 for 9×9 Sudoku and 900 for a 30×30 grid, or convert it once with "
            f"ostinato export {found.source} --format safetensors --task or --seq-len"
        )
    complete = make_config(found.model, settings, found.source)
    check_layers(complete, len(found.tensors), found.source)
    packed = any(name.endswith(".codes") for name in found.tensors)  # a GGUF file has no others
    # Names and shapes are compared before anything is allocated
    twin = without_memory(complete)
    if packed and isinstance(twin, NanoChat):
        twin = twin.packed()
    fitting(twin, tensors_for(twin, found, puzzle_embeddings), found.source)
    check_memory(sum(model_bytes(complete)), torch.device("cpu"), "use another machine")
    model = MODELS[found.model][0](complete)
    if packed and isinstance(model, NanoChat):
        model = model.packed()
    load_pretrained(model, found, puzzle_embeddings)
    if isinstance(model, NanoChat):
        model.tokenizer_json = found.tokenizer
        model.chat_template = found.chat_template
    return model


def _described(
    path: Path, described_in: Path, description: Any, tensors: dict[str, Tensor]
) -> Pretrained:
    """Return weights with a description by `describe`."""
    found: Description = convert(description, Description, str(described_in))
    if found.model not in MODELS:
        raise ValueError(f"{described_in}: unknown model {found.model!r}; update ostinato")
    tokenizer, template = tokenizer_beside(path), template_beside(path)
    return Pretrained(
        str(path), found.model, found.config, tensors, found.notes, tokenizer, template
    )


def make_config(model: str, settings: dict[str, Any], source: str) -> Config:
    """Make the configuration of `model`; ValueError names an unknown or impossible setting."""
    kind = MODELS[model][1]
    types = get_type_hints(kind)
    for name, value in settings.items():
        if name not in types:
            close = difflib.get_close_matches(name, types, n=1)
            hint = f"did you mean {close[0]}?" if close else "remove it, or update ostinato"
            raise ValueError(f"{source}: unknown {model} setting {name}: {hint}")
        if get_origin(types[name]) is Literal:
            fits, wanted = value in get_args(types[name]), f"one of {get_args(types[name])}"
        else:
            allowed = (int, float) if types[name] is float else (types[name],)
            fits, wanted = type(value) in allowed, f"of type {types[name].__name__}"
        if not fits:
            raise ValueError(f"{source}: {name} is {value!r}, not {wanted}: correct it")
    try:
        return kind(**settings)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
