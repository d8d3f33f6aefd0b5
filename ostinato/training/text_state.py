"""The state of training a language model: weights, optimisers, loss and the metrics of it."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from ostinato.data.text.token_set import IGNORE_LABEL, TokenSet
from ostinato.inference.inspect import stream_report
from ostinato.models import NanoChat
from ostinato.training.config import TextRecipe, TextTrainingConfig
from ostinato.training.cross_entropy import cross_entropies, likeliest_is
from ostinato.training.distributed import World
from ostinato.training.loops import EveryPass, looped_loss
from ostinato.training.optimizers import Lion, make_muon
from ostinato.training.weight_state import WeightState
from ostinato.weights.fitting import load_weights
from ostinato.weights.load import read_pretrained


@dataclass(kw_only=True)
class TextState(WeightState):
    """The state of a text run; the number of steps determines which windows come next."""

    model: NanoChat
    best: float = math.inf
    """Fewest bits per byte on validation so far."""

    @classmethod
    def start(
        cls, recipe: TextRecipe, device: torch.device, world: World, resumed: bool = False
    ) -> "TextState":
        """Start a new run; the seed determines all.

        Trained weights are read if the recipe names some, unless `restore` will follow (`resumed`).
        """
        config = recipe.training
        config.micro_batch_size(world.size)  # or else it says what is wrong
        # Weights are drawn on the CPU, so that every device starts from the same ones
        model = NanoChat(recipe.model, torch.Generator().manual_seed(config.seed))
        if config.init_from and not resumed:
            start_from(model, config.init_from)
        model = model.to(device)
        if config.compile:
            for block in model.blocks:
                block.compile(dynamic=False)
        state = cls(
            model=model,
            wrapped=world.wrap(model if model.exit_gate is None else EveryPass(model), device),
            optimizers=make_optimizers(model, config),
            world=world,
        )
        if world.size > 1:
            state.rehearse()
        return state

    def rehearse(self) -> None:
        """Run a backward that changes nothing but the layout of DDP's buckets, as for puzzles."""
        device = self.model.embed_tokens.weight.device
        found = self.wrapped(torch.zeros(1, 2, dtype=torch.long, device=device))
        parts = [found] if isinstance(found, Tensor) else found
        torch.stack([part.sum() for part in parts]).sum().backward()
        self.model.zero_grad(set_to_none=True)

    def loss(
        self,
        windows: Int[Tensor, "batch seq_plus_1"],
        labels: Int[Tensor, "batch seq"],
        config: TextTrainingConfig,
        gate_only: bool,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss of the next update, a sum over labels in nats, and sums to log."""
        inputs = windows[:, :-1]
        if self.model.exit_gate is None:
            return next_token_loss(self.wrapped(inputs), windows, config, labels)
        if gate_only:
            passes = EveryPass(self.model)(inputs, gate_only=True)
        else:
            passes = self.wrapped(inputs)
        weight = config.exit_entropy_at(self.step + 1)
        return looped_loss(passes, inputs, labels, weight, config.label_smoothing, gate_only)


def start_from(model: NanoChat, source: str) -> None:
    """Give `model` trained weights; tokens that these lack keep the rows that were drawn.

    Raises ValueError if the weights cannot be read, are packed, or are of another shape.
    """
    found = read_pretrained(source)
    if any(name.endswith(".codes") for name in found.tensors):
        raise ValueError(f"{found.source} is packed and cannot be trained: give its run")
    tensors = dict(found.tensors)
    for name, fresh in model.state_dict().items():
        rows = tensors.get(name)
        is_of_tokens = name in ("embed_tokens.weight", "lm_head.weight")
        if is_of_tokens and rows is not None and rows.shape[1:] == fresh.shape[1:]:
            tensors[name] = torch.cat([rows.to(fresh.dtype), fresh[len(rows) :]])
    load_weights(model, tensors, found.source)
    if found.damage:
        raise ValueError(f"{found.source} {found.damage}")


def make_optimizers(model: NanoChat, config: TextTrainingConfig) -> list[Optimizer]:
    """Return Muon for the block matrices, AdamW or Lion for the rest: by role, not by shape."""
    named, roles = dict(model.named_parameters()), model.parameter_roles()
    matrices = [p for name, p in named.items() if roles[name] == "block matrix"]
    decayed = [p for name, p in named.items() if roles[name] in ("embedding", "head")]
    plain = [p for name, p in named.items() if roles[name] in ("norm", "connection", "gate")]
    kind = {"adamw": torch.optim.AdamW, "lion": Lion}[config.optimizer]
    groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    betas = (config.beta1, config.beta2)
    other = kind(groups, lr=config.lr, betas=betas, weight_decay=config.weight_decay)
    return [make_muon(matrices, config), other]


def next_token_loss(
    logits: Float[Tensor, "batch seq vocab"],
    windows: Int[Tensor, "batch seq_plus_1"],
    config: TextTrainingConfig,
    labels: Int[Tensor, "batch seq"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Return the loss, a sum over labelled positions in nats, and metrics, which are sums too."""
    inputs, labels = windows[:, :-1], windows[:, 1:] if labels is None else labels
    rows, wanted = logits.flatten(0, 1), labels.flatten()
    counted = wanted != IGNORE_LABEL
    cross_entropy = cross_entropies(rows, wanted).sum()
    loss = cross_entropy
    if config.label_smoothing:
        loss = F.cross_entropy(
            rows.float(), wanted, reduction="sum", label_smoothing=config.label_smoothing
        )
    if config.entropy_bonus:
        logarithms = rows.float().log_softmax(-1)
        loss = loss + config.entropy_bonus * (logarithms.exp() * logarithms)[counted].sum()
    return loss, {
        "loss": loss.detach(),
        "cross_entropy": cross_entropy.detach(),
        "copied": (counted & likeliest_is(rows.detach(), inputs.flatten())).sum(),
        "tokens": counted.sum(),
    }


def mean_metrics(sums: dict[str, Tensor], seconds: float, world: World) -> dict[str, float]:
    """Turn metrics summed over updates and this rank's tokens into means over all ranks' tokens."""
    names = sorted(sums)
    total = world.sum(torch.stack([sums[name].cpu().double() for name in names])).tolist()
    values = dict(zip(names, total, strict=True))
    tokens, nats = values["tokens"], values["cross_entropy"]
    mean = nats / tokens
    return {
        **{f"train/{k}": v / tokens for k, v in values.items() if k.startswith("exit_")},
        "train/loss": values["loss"] / tokens,
        "train/cross_entropy": mean,
        "train/perplexity": math.exp(mean) if mean < 700 else math.inf,
        "train/bits_per_byte": nats / math.log(2) / values["bytes"],
        "train/copy_rate": values["copied"] / tokens,
        "grad_norm": values["grad_norm"] / values["updates"],
        "tokens_per_second": tokens / seconds,
    }


def stream_health(model: NanoChat, texts: TokenSet) -> dict[str, float]:
    """Return how far the residual streams differ, and the gain of mixing, on a window of
    `texts`."""
    length = min(model.config.seq_len, len(texts))
    device = model.embed_tokens.weight.device
    tokens = torch.from_numpy(texts.tokens[None, :length].astype("int64")).to(device)
    readings = stream_report(model, tokens).readings
    if not readings:
        return {}
    return {
        "streams/divergence": max(reading.divergence for reading in readings),
        "streams/composite_gain": readings[-1].gain,
    }
