"""Compare the recorded passes of Ouro's released model: logits, exits, probabilities, loss.

Rounding grows from pass to pass, since only the start of the first is recorded. A pass's *floor* is
how far our own numbers move in float64, or when the weights are rounded anew, relative to the
largest of them. The recording was rounded too: its logits after pass 4 are up to 3.0e-5 from ours
in float64.
"""

import json
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ostinato.layers import log_exit_probabilities
from ostinato.models import NanoChat, NanoChatConfig
from ostinato.training.loops import EveryPass, stage_one, token_losses
from ostinato.verify.comparison import PRECISIONS, Comparison, Recording, Tally
from ostinato.verify.golden_recursive import MARGIN

ENTROPY_WEIGHT = 0.1
ROUNDING = 2.0**-25
"""Standard deviation of a rounding of float32, about."""
SHAKEN = 3
"""Number of replays with other roundings."""
SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "total_ut_steps": "num_loops",
    "rope_theta": "rope_theta",
    "rms_norm_eps": "rms_norm_eps",
    "tie_word_embeddings": "tied_head",
}
"""Setting of Ouro → ours."""
PARTS = {
    "input_layernorm": "attention_norm",
    "input_layernorm_2": "attention_out_norm",
    "post_attention_layernorm": "feedforward_norm",
    "post_attention_layernorm_2": "feedforward_out_norm",
    "self_attn": "attention",
    "mlp": "feedforward",
    "norm": "final_norm",
    "early_exit_gate": "exit_gate",
}
"""Name of a part of Ouro → ours, where they differ."""


def verify_ouro(golden: Recording, metadata: dict[str, str]) -> list[Comparison]:
    """Replay the passes. Raises ValueError if a tensor is missing, unknown or mis-shaped."""
    tokens = golden["tokens"]
    config = config_of(json.loads(metadata["config"]), tokens.shape[1])
    ours = replay(golden, config)
    others = [replay(golden, replace(config, forward_dtype="float64"))]
    others += [replay(shaken(golden, seed), config) for seed in range(SHAKEN)]
    recorded = {key for key in golden if not key.startswith("init/")} - {"tokens"}
    if unknown := recorded - ours.keys():
        raise ValueError(f"{min(unknown)} ({len(unknown)} such tensors) has no counterpart here")
    floors: dict[str, float] = {}
    for key, value in ours.items():
        found = max((other[key] - value.double()).abs().max().item() for other in others)
        place = key.partition("/")[0]
        floors[place] = max(floors.get(place, 0.0), MARGIN * found / value.abs().max().item())
    tallies: dict[str, Tally] = {}
    for key, value in ours.items():
        if golden[key].shape != value.shape:
            raise ValueError(f"{key} has shape {list(golden[key].shape)}, not {list(value.shape)}")
        kind = key.rpartition("/")[2].replace("_", " ")
        apart = (golden[key].double() - value.double()).abs().flatten()
        floor = floors[key.partition("/")[0]] * value.abs().max().item()
        tally = tallies.setdefault(kind, Tally(kind, PRECISIONS["float32"]))
        tally.add(key, apart, floor)
    return [tally.comparison() for tally in tallies.values()]


def shaken(golden: Recording, seed: int) -> Recording:
    """Return a recording whose weights are changed by about a rounding of float32 each."""
    generator = torch.Generator().manual_seed(seed)
    found = Recording(golden)
    for key, value in golden.items():
        if key.startswith("init/"):
            found[key] = value * (1 + ROUNDING * torch.randn(value.shape, generator=generator))
    return found


def config_of(theirs: dict[str, Any], length: int) -> NanoChatConfig:
    """Return our configuration; ValueError for a setting that is unknown or that we lack."""
    settings = {SIZES[name]: value for name, value in theirs.items() if name in SIZES}
    inner = theirs["intermediate_size"]
    config = NanoChatConfig(
        seq_len=length,
        ffn_mult=inner / theirs["hidden_size"],
        num_streams=1,
        ternary=False,
        group_size=0,
        sandwich_norm=True,
        **settings,
    )
    sizes = {"intermediate_size": config.inner_size, "head_dim": config.head_dim}
    for name, value in theirs.items():
        if name not in SIZES and value != sizes.get(name):
            raise ValueError(f"{name} {value} has no counterpart here")
    return config


def our_name(theirs: str) -> str:
    """Translate a name: `model.layers.0.self_attn.q_proj.weight` → `blocks.0.attention.q_proj…`."""
    name = theirs.removeprefix("model.").replace("layers.", "blocks.", 1)
    return ".".join(PARTS.get(part, part) for part in name.split("."))


@torch.no_grad()
def replay(golden: Recording, config: NanoChatConfig) -> dict[str, Tensor]:
    """Compute our numbers by key of the file."""
    model = NanoChat(config).to(config.dtype)
    weights = {k.removeprefix("init/"): v for k, v in golden.items() if k.startswith("init/")}
    named = {our_name(name): value for name, value in weights.items()}
    if config.tied_head:
        named.pop("lm_head.weight", None)
    try:
        model.load_state_dict(named)
    except RuntimeError as error:
        raise ValueError(f"its weights do not fit: {str(error).splitlines()[-1].strip()}") from None
    tokens = golden["tokens"].long()
    passes = EveryPass(model)(tokens)
    ours: dict[str, Tensor] = {}
    for number in range(config.num_loops):
        ours[f"pass{number + 1}/logits"] = passes.logits[number]
        ours[f"pass{number + 1}/exit_logit"] = passes.exits[number]
    losses = token_losses(passes.logits[:, :, :-1], tokens[:, 1:])
    exits = passes.exits[:, :, :-1]
    loss = stage_one(losses, exits, ENTROPY_WEIGHT) / losses[0].numel()
    probabilities = log_exit_probabilities(passes.exits).exp().movedim(0, -1)
    return ours | {"exit_probabilities": probabilities, "stage1_loss": loss[None]}
