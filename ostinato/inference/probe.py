"""Real tokens to measure a language model on, where no validation data are at hand."""

import textwrap
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from ostinato.inference.generate import check_prompt, tokenizer_of
from ostinato.models.nanochat import NanoChat


def probe_tokens(model: NanoChat, text: str = "") -> Int[Tensor, "1 seq"]:
    """The first tokens of `text`, as many as the model reads, on its device.

    Without a text, that of Python's own module textwrap, which is on every machine.
    Raises ValueError if the model has no tokenizer, or one that does not fit.
    """
    tokenizer = tokenizer_of(model)
    tokens = tokenizer.encode(text or Path(textwrap.__file__).read_text("utf-8"))
    tokens = tokens[: model.config.seq_len]
    check_prompt(model, tokens)
    return torch.tensor([tokens], device=model.embed_tokens.weight.device)
