"""Write trained weights as one safetensors file, or as a folder for the Hub."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ostinato.data.text.tokenizer import SEPARATOR, TURN_END
from ostinato.files import make_folder, write_json, write_text
from ostinato.models import MODELS, NanoChat, RecursiveModel
from ostinato.weights.files import TOKENIZER, TOKENIZER_CONFIG, WEIGHTS
from ostinato.weights.safetensors_file import digest, write_safetensors

METADATA_KEY = "ostinato"
"""Key of the description in the metadata of a safetensors file."""
Model = RecursiveModel | NanoChat


def describe(model: Model, **notes: Any) -> dict[str, Any]:
    """Describe a model for its weights file: "model", "config" and "notes", as JSON."""
    name = next(name for name, (cls, _) in MODELS.items() if type(model) is cls)
    return {"model": name, "config": asdict(model.config), "notes": notes}


def save_weights(path: Path, model: Model, **notes: Any) -> None:
    """Write weights and configuration of `model` to `path`, atomically, with `notes` (JSON).

    The tokenizer of a language model is a separate file. Raises ValueError for a packed model,
    which cannot be trained further.
    """
    if isinstance(model, NanoChat) and model.is_packed:
        raise ValueError("a packed model has no fp32 weights to save: save the one it was made of")
    tensors, text = model.state_dict(), json.dumps(describe(model, **notes))
    metadata = {METADATA_KEY: text, "sha256": digest(text, tensors)}
    if isinstance(model, NanoChat) and model.tokenizer_json:
        metadata["tokenizer_sha256"] = digest(model.tokenizer_json, {})
    write_safetensors(path, tensors, metadata)


def write_hub(model: Model, folder: Path, **notes: Any) -> Path:
    """Write `model.safetensors` and `config.json`; return the path of the former.

    `model.safetensors` suffices to load the model; `config.json` repeats its configuration for
    people and the Hub. A language model also gets a `tokenizer.json`, and if it can chat a
    `tokenizer_config.json` with its template.
    """
    make_folder(folder)
    save_weights(folder / WEIGHTS, model, **notes)
    write_json(folder / "config.json", describe(model, **notes))
    if isinstance(model, NanoChat):
        save_tokenizer(folder, model)
    return folder / WEIGHTS


def save_tokenizer(folder: Path, model: NanoChat) -> None:
    """Write the tokenizer that a model has, and the template of one that can chat."""
    if model.tokenizer_json:
        write_text(folder / TOKENIZER, model.tokenizer_json)
    if model.chat_template:
        content = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SEPARATOR,
            "eos_token": TURN_END,
            "chat_template": model.chat_template,
            "model_max_length": model.config.seq_len,
            "clean_up_tokenization_spaces": False,
        }
        write_json(folder / TOKENIZER_CONFIG, content)
