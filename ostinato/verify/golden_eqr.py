"""Compare EqR's recorded steps: logits, q, both latents, and the residual.

Every step starts from the latents that were recorded before it, because rounding errors grow
tenfold from step to step. A step's *floor* is the difference of our own numbers in float64 from
those in float32; differences up to a few times the floor prove neither side wrong.
"""

import json
from dataclasses import replace

import torch
from torch import Tensor

from ostinato.inference.search import RESIDUAL_STEPS
from ostinato.inference.seats import change_of
from ostinato.inference.think import take_step
from ostinato.models import State
from ostinato.models.trm import TRM, TRMConfig
from ostinato.verify.comparison import PRECISIONS, Comparison, Recording, Tally
from ostinato.verify.golden_recursive import MARGIN
from ostinato.weights.official import from_official_config, from_official_weights


def verify_eqr(golden: Recording, metadata: dict[str, str]) -> list[Comparison]:
    """Replay the steps. Raises ValueError if a tensor is missing, unknown or mis-shaped."""
    config = from_official_config("trm", json.loads(metadata["config"]))
    assert isinstance(config, TRMConfig)
    if config.noise:
        raise ValueError("recorded with noise, which nobody else can draw again")
    ours = replay(golden, config)
    exact = replay(golden, replace(config, forward_dtype="float64"))
    recorded = {key for key in golden if not key.startswith(("init/", "start/"))} - {"inputs"}
    if unknown := recorded - ours.keys():
        raise ValueError(f"{min(unknown)} ({len(unknown)} such tensors) has no counterpart here")
    precision = PRECISIONS[config.forward_dtype]
    tallies: dict[str, Tally] = {}
    for key, value in ours.items():
        if golden[key].shape != value.shape:
            raise ValueError(f"{key} has shape {list(golden[key].shape)}, not {list(value.shape)}")
        kind = "carry" if key.rpartition("/")[2] in State._fields else "outputs"
        kind = "residual" if key == "residual" else kind
        apart = (golden[key].double() - value.double()).abs().flatten()
        floor = MARGIN * (exact[key] - value.double()).abs().max().item()
        tallies.setdefault(kind, Tally(kind, precision)).add(key, apart, floor)
    return [tally.comparison() for tally in tallies.values()]


def replay(golden: Recording, config: TRMConfig) -> dict[str, Tensor]:
    """Compute our numbers by key of the file."""
    model = TRM(config).to(config.dtype)
    weights = {k.removeprefix("init/"): v for k, v in golden.items() if k.startswith("init/")}
    model.load_state_dict(from_official_weights(weights))
    tokens = golden["inputs"]
    ids = torch.zeros(len(tokens), dtype=torch.int32)
    relax = model.relaxation(torch.Generator())
    ours: dict[str, Tensor] = {}
    changes: list[Tensor] = []
    for number in range(1, config.halt_max_steps + 1):
        before = f"step{number - 1}" if number > 1 else "start"
        state = State(*(golden[f"{before}/{name}"].to(config.dtype) for name in State._fields))
        step = take_step(model, state, tokens, ids, float(number), relax=relax)
        logits = step.output.logits
        if number > 1:
            changes.append(change_of(logits, golden[f"{before}/logits"].to(config.dtype)))
        found = {"logits": logits, "q_halt_logits": step.q_halt, **step.state._asdict()}
        ours |= {f"step{number}/{name}": value for name, value in found.items()}
    return ours | {"residual": torch.stack(changes[-RESIDUAL_STEPS:]).mean(0)}
