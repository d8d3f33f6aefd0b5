"""A model as a folder for the Hub: its weights without pickle, and its settings to read."""

from pathlib import Path
from typing import Any

from ostinato.files import make_folder, write_json, write_text
from ostinato.models import NanoChat
from ostinato.weights.files import TOKENIZER, WEIGHTS
from ostinato.weights.load import Model, describe, save_weights


def write_hub(model: Model, folder: Path, **notes: Any) -> Path:
    """Write `model.safetensors` and `config.json`; returns the former.

    The one file suffices to load the model; `config.json` says the same to people and to the Hub.
    A language model has its `tokenizer.json` beside it.
    """
    make_folder(folder)
    save_weights(folder / WEIGHTS, model, **notes)
    write_json(folder / "config.json", describe(model, **notes))
    if isinstance(model, NanoChat) and model.tokenizer_json:
        write_text(folder / TOKENIZER, model.tokenizer_json)
    return folder / WEIGHTS
