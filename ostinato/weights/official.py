"""Translate tensor names and settings of the originals' checkpoints, both ways.

Their checkpoint is a pickled state dict, `step_N`, with an `all_config.yaml` beside it. Neither
file has the sizes of vocabulary, grid and puzzle table, which they take from the data set.
"""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_type_hints

import torch
import yaml
from torch import Tensor

from ostinato.files import atomic, make_folder, write_text
from ostinato.models import RECURSIVE_MODELS, NanoChat, RecursiveConfig, RecursiveModel
from ostinato.weights.save import describe

PREFIX = "_orig_mod.model.inner."
"""Prefix of the names in their files, from `torch.compile`, the loss head and the ACT wrapper."""

PREFIXES = ("_orig_mod.", "module.", "model.", "inner.")
"""Parts of the prefix, of which a file may lack some, and the prefix that DDP adds."""

RENAMED = {
    "embed_tokens.embedding_weight": "embed_tokens.weight",
    "embed_pos.embedding_weight": "embed_pos.weight",
}
"""Original name → ours, where they differ."""

TABLE = "puzzle_emb.weights"
ROTARY = {"rotary_emb.cos_cached": "cos", "rotary_emb.sin_cached": "sin"}
"""Tables that some files hold although they follow from the settings → their names here."""
BATCH_COPIES = {"puzzle_emb.local_weights", "puzzle_emb.local_ids"}
"""The puzzle rows of the last batch, in some files; training copies them anew at every step."""

ARCHITECTURES = {
    "trm@TinyRecursiveReasoningModel_ACTV1": "trm",
    "hrm_act_v1@HierarchicalReasoningModel_ACTV1": "hrm",
    "hrm@HierarchicalReasoningModel_ACTV1": "hrm",
}
"""Their module and class → model. Other modules (`trm_singlez`, …) hold other recursions."""

ARCH_NAMES = {
    "trm": "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1",
    "hrm": "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1",
}
"""Model → `arch.name`."""

EQR = {"initial_state": "random", "puzzle_emb_len": 0}
EQR_NAMES = {"lambda_": "damping", "noise_scale": "noise"}
"""EqR is a TRM with these settings, two of which it names differently."""

REQUIRED = (
    "H_cycles L_cycles L_layers hidden_size num_heads expansion pos_encodings halt_max_steps"
).split()
"""Settings without a default in the originals."""

SHARED = (*REQUIRED, "puzzle_emb_ndim", "rms_norm_eps", "rope_theta", "forward_dtype")
ARCH_SETTINGS = {
    "trm": (*SHARED, "mlp_t", "puzzle_emb_len", "no_ACT_continue"),
    "hrm": (*SHARED, "H_layers"),
}
"""Model → settings in its `arch` section that have the same name and meaning here."""

NOT_OURS = set("name loss loss_type batch_size causal H_layers halt_exploration_prob".split())
"""Settings that belong to training here, or that the original keeps but ignores."""

OURS = "ostinato"
"""Section of an exported `all_config.yaml` for settings that the originals do not have."""


def from_official_name(name: str) -> str:
    """Translate `_orig_mod.model.inner.embed_tokens.embedding_weight` to `embed_tokens.weight`."""
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return RENAMED.get(name, name)


def to_official_name(name: str) -> str:
    """Translate `embed_tokens.weight` to `_orig_mod.model.inner.embed_tokens.embedding_weight`."""
    return PREFIX + {ours: theirs for theirs, ours in RENAMED.items()}.get(name, name)


def from_official_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict under our names; ValueError if two tensors would get the same name."""
    translated: dict[str, Tensor] = {}
    for theirs, tensor in tensors.items():
        name = from_official_name(theirs)
        if name in translated:
            raise ValueError(f"{theirs} and another tensor are both {name}: remove one of them")
        translated[name] = tensor
    return translated


def to_official_weights(model: RecursiveModel) -> dict[str, Tensor]:
    """Return the state dict of `model` under the names of the originals' files."""
    return {to_official_name(name): tensor for name, tensor in model.state_dict().items()}


def without_derived(
    model: RecursiveModel | NanoChat, tensors: dict[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Return `tensors` (our names) without those in originals' files that are not weights.

    Raises ValueError if tables of rotary positions differ from those of `model`: with another
    theta the weights would load, but compute something else.
    """
    if model.rotary is None:
        return {name: tensor for name, tensor in tensors.items() if name not in BATCH_COPIES}
    for theirs, ours in ROTARY.items():
        if theirs not in tensors or model.rotary.cos.is_meta:  # without memory: nothing to compare
            continue
        given, wanted = tensors[theirs].float(), getattr(model.rotary, ours).float().cpu()
        # They may be stored in bf16, and computed on another device
        if given.shape != wanted.shape or not torch.allclose(given, wanted, rtol=0, atol=1e-2):
            raise ValueError(
                f"{source}: {theirs} has other positions than the model: "
                "correct seq_len, num_heads or rope_theta"
            )
    derived = BATCH_COPIES | ROTARY.keys()
    return {name: tensor for name, tensor in tensors.items() if name not in derived}


def recognise(tensors: dict[str, Tensor]) -> str:
    """Return which model weights (our names) belong to: only HRM has a second reasoning module."""
    return "hrm" if any(name.startswith("H_level.") for name in tensors) else "trm"


def infer_sizes(tensors: dict[str, Tensor], prefix_len: int) -> dict[str, int]:
    """Infer, from the tensors' shapes, the sizes that the originals take from the data set.

    `seq_len` is missing where positions are rotary and the file does not hold their tables.
    """

    def rows(*names: str) -> int | None:
        found = (tensors[name] for name in names if name in tensors)
        return next((len(tensor) for tensor in found if tensor.ndim), None)

    length = rows("embed_pos.weight", "L_level.layers.0.mlp_t.down_proj.weight", *ROTARY)
    sizes = {
        "vocab_size": rows("lm_head.weight"),
        "num_puzzle_identifiers": rows(TABLE),
        "seq_len": None if length is None else length - prefix_len,
    }
    return {name: size for name, size in sizes.items() if size is not None}


def from_official_file(
    content: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[str, dict[str, Any]]:
    """Read the model and our settings from an `all_config.yaml`, or from its `arch` section alone.

    If the file does not name the model, it is recognised by the tensors (our names). Raises
    ValueError for an unknown architecture or setting.
    """
    arch, extra = content.get("arch", content), content.get(OURS, {})
    if not isinstance(arch, dict) or not isinstance(extra, dict):
        raise ValueError(f"arch and {OURS} must be mappings of settings: correct it")
    name = arch.get("name")
    if name is None:
        model = recognise(tensors)
    else:
        module, _, model_class = str(name).rpartition("@")
        model = ARCHITECTURES.get(f"{module.rpartition('.')[2]}@{model_class}", "")
    if not model:
        known = ", ".join(ARCH_NAMES.values())
        raise ValueError(f"{name} is no model that this version has: it knows {known}")
    return model, from_official_settings(model, arch) | extra


def from_official_settings(model: str, arch: dict[str, Any]) -> dict[str, Any]:
    """Read the settings of `model` from an original `arch` section, with the originals' defaults.

    Raises ValueError naming a setting that is missing, or neither known nor meant for training.
    """
    arch = {name: _resolve(value, arch) for name, value in arch.items()}
    if model == "trm" and "lambda_" in arch:
        arch = EQR | {EQR_NAMES.get(name, name): value for name, value in arch.items()}
    known = get_type_hints(RECURSIVE_MODELS[model][1])
    unknown = arch.keys() - known.keys() - NOT_OURS
    if arch.get("mlp_t") is False:
        unknown -= {"mlp_t"}  # the TRM repository's copy of HRM has this switch
    if unknown:
        raise ValueError(
            f"unknown {model} setting {', '.join(sorted(unknown))}: "
            "remove it if the model is the same without it"
        )
    for name in (*REQUIRED, *(["H_layers"] if "H_layers" in known else [])):
        if name not in arch:
            raise ValueError(f"the {model} setting {name} is missing: add it")
    settings = {name: value for name, value in arch.items() if name in known}
    whole = {
        name: float(v) for name, v in settings.items() if known[name] is float and type(v) is int
    }
    return {"puzzle_emb_ndim": 0} | settings | whole


def from_official_config(model: str, settings: dict[str, Any]) -> RecursiveConfig:
    """Make the configuration of `model` ("trm" or "hrm") from a complete original `arch` section.

    Raises ValueError naming a setting that is missing, or neither known nor meant for training.
    """
    return RECURSIVE_MODELS[model][1](**from_official_settings(model, settings))


def to_official_file(
    model: str, config: RecursiveConfig, training: dict[str, Any], arch: dict[str, Any]
) -> dict[str, Any]:
    """Return an `all_config.yaml` for `config`, which `from_official_file` reads back.

    `training` holds settings of the first level (`lr`, …) and `arch` more for its section (`loss`
    and `halt_exploration_prob`). Raises ValueError if the originals have no such model.
    """
    if (config.initial_state, config.damping, config.noise) != ("fixed", 1.0, 0.0):
        raise ValueError("the originals have no random starts, damping or noise: use safetensors")
    own_prefix = -(-config.puzzle_emb_ndim // config.hidden_size)
    if config.q_outputs != 2:
        raise ValueError("the originals' q head has two outputs: train with --q-outputs 2")
    if config.prefix_len and not config.puzzle_emb_ndim:
        raise ValueError("the originals have no empty prefix: train with --puzzle-emb-len 0")
    if "puzzle_emb_len" not in ARCH_SETTINGS[model] and config.prefix_len != own_prefix:
        raise ValueError(
            f"the original {model} has as many prefix tokens as puzzle_emb_ndim fills, "
            f"{own_prefix}: train with --puzzle-emb-len 0"
        )
    settings = asdict(config)
    shared = {name: settings.pop(name) for name in ARCH_SETTINGS[model]}
    ignored = {} if "H_layers" in shared else {"H_layers": 0}
    section = {"name": ARCH_NAMES[model], **arch, **shared, **ignored}
    return {"arch": section, **training, OURS: settings}


def _resolve(value: Any, arch: dict[str, Any]) -> Any:
    """Resolve `${.hidden_size}`, as in the originals' config/arch, to the setting it points to."""
    if isinstance(value, str) and (match := re.fullmatch(r"\$\{\.(\w+)\}", value)):
        return arch.get(match[1], value)
    return value


LOSS_HEAD = "losses@ACTLossHead"


def write_official(
    model: RecursiveModel,
    folder: Path,
    step: int | None = None,
    training: dict[str, Any] | None = None,
    loss_type: str = "stablemax_cross_entropy",
    halt_exploration_prob: float = 0.1,
) -> Path:
    """Write `step_N` (without a step: `checkpoint`) and `all_config.yaml`; returns the former.

    The weights are those of `model`, with its puzzle rows; `ostinato.load` reads back an equal
    model. `training` holds settings of the first level under the originals' names. The loss and
    the exploration, which their code needs for every model, have the originals' defaults.
    Raises ValueError if the originals have no such model.
    """
    name = describe(model)["model"]
    arch = {
        "loss": {"name": LOSS_HEAD, "loss_type": loss_type},
        "halt_exploration_prob": halt_exploration_prob,
    }
    content = to_official_file(name, model.config, training or {}, arch)
    weights = to_official_weights(model)
    make_folder(folder)
    path = folder / ("checkpoint" if step is None else f"step_{step}")
    with atomic(path) as file:
        try:
            torch.save({name: weight.cpu().contiguous() for name, weight in weights.items()}, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # such as a full disk
                raise error.__context__ from error
            raise
    write_text(folder / "all_config.yaml", yaml.safe_dump(content))
    return path
