"""nanochat: ternary matrices, residual streams, the whole model and its inference."""

import math
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from ostinato.layers import HyperConnection, TernaryLinear
from ostinato.layers.hyper_connections import Mode, collapse
from ostinato.layers.ternary import quantize_activations, ternarize
from ostinato.models import NanoChat, NanoChatConfig
from ostinato.verify import reference, reference_text
from ostinato.verify.check import apart, check
from ostinato.verify.specimens import exact_tables, random

TITLE = "Language model"
SMALL = NanoChatConfig(
    vocab_size=13,
    seq_len=9,
    hidden_size=16,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    group_size=8,
    forward_dtype="float64",
)
CONFIGS = {
    "static": SMALL,
    "dynamic": replace(
        SMALL,
        num_kv_heads=1,
        num_streams=4,
        stream_mode="dynamic",
        activation_group_size=4,
        tied_head=False,
    ),
    "legacy": replace(SMALL, num_streams=4, stream_mode="legacy", group_size=0, sub_norm=True),
    "one stream": replace(SMALL, num_streams=1, quantize_activations=False),
}
"""Name in the report → settings; together they use every path but loops, which have rows of
their own."""
MODES: tuple[Mode, ...] = get_args(Mode)


def hard(*shape: int) -> Tensor:
    """Draw numbers of all sizes, among them zeros and groups of nothing but zeros."""
    x = random(*shape) * 10.0 ** random(*shape, seed=1).round()
    x[0, :8], x[1, ::3] = 0, 0
    return x


def nanochat(name: str) -> tuple[NanoChat, reference.Weights]:
    """Make a model with random numbers in every weight, and copy them for the reference."""
    model = NanoChat(CONFIGS[name]).double()
    exact_tables(model.rotary, model.config.rope_theta)
    with torch.no_grad():
        for seed, weight in enumerate(model.parameters()):
            weight.copy_(random(*weight.shape, seed=seed))
    return model, {key: p.detach().clone() for key, p in model.named_parameters()}


def texts() -> Tensor:
    """Draw three texts of nine tokens."""
    return torch.randint(13, (3, 9), generator=torch.Generator().manual_seed(0))


@check("Ternary weights", "003", "round(w / max(mean |w|, 1e-8)) in -1, 0, 1, by group", 1e-12)
def ternary_weights() -> float:
    """Codes and codes · scale of groups of 8, 16 and all inputs, against a loop."""
    found, weight = 0.0, hard(5, 16)
    for group in (8, 16, 0):
        ours, (codes, used) = ternarize(weight, group), reference_text.ternary(weight, group)
        found = max(found, apart(ours.codes, codes), apart(ours.weight(), used))
    return found


@check("int8 activations", "003", "round(127 x / max(max |x|, 1e-8)), by token", 1e-12)
def activations() -> float:
    """Integers and integers · scale of whole tokens and of groups of 4 and 8, against a loop."""
    found, x = 0.0, hard(5, 16)
    for group in (0, 4, 8):
        ours, (codes, used) = quantize_activations(x, group), reference_text.integers(x, group)
        found = max(found, apart(ours.integers, codes), apart(ours.values(), used))
    return found


@check("Rounding", "003", "halves away from zero, for weights and activations alike")
def rounding() -> float:
    """Weights of mean size 1 and activations of largest size 127 that are exact halves."""
    weight = torch.tensor([[0.5, -0.5, 1.5, -1.5]], dtype=torch.float64)  # mean 1
    x = torch.tensor([[127.0, 0.5, -0.5, 1.5, -1.5, 2.5]], dtype=torch.float64)
    wrong = apart(ternarize(weight, 0).codes, [[1, -1, 1, -1]])
    return wrong + apart(quantize_activations(x).integers, [[127, 1, -1, 2, -2, 3]])


@check(
    "Straight-through gradients", "003", "those of the quantised product, passed on as is", 1e-12
)
def straight_through() -> float:
    """Gradients of weights and inputs: rᵀ·x̂ and r·ŵ for outputs weighted by r."""
    layer, x, r = TernaryLinear(16, 6, 8).double(), hard(5, 16).requires_grad_(), random(5, 6)
    layer.weight.data = random(6, 16, seed=2)
    (layer(x) * r).sum().backward()
    weight = reference_text.ternary(layer.weight.detach(), 8)[1]
    inputs = reference_text.integers(x.detach(), 0)[1]
    return max(apart(layer.weight.grad, r.T @ inputs), apart(x.grad, r @ weight))


@check("Packed matrices", "003", "inference multiplies the integers that training rounds to", 1e-10)
def packed() -> float:
    """A product of integers and one of floats, for a few and for many tokens, against a loop."""
    found = 0.0
    for group, activation_group, tokens in ((8, 0, 2), (8, 4, 2), (0, 8, 2), (8, 0, 9)):
        layer = TernaryLinear(16, 6, group, True, activation_group).double()
        layer.weight.data, x = random(6, 16), random(tokens, 16, seed=1)
        used = reference_text.ternary(layer.weight.detach(), group)[1]
        expected = reference_text.integers(x, activation_group)[1] @ used.T
        for product in ("int8", "float"):
            ours = layer.pack()
            ours.product = product
            found = max(found, apart(ours(x), expected))
    return found


@check(
    "Residual streams (mHC-lite)",
    "003",
    "static: H·(s + h_post·y); dynamic, by token: H·s + h_post·y; H mixes permutations",
    1e-12,
    MODES,
)
def streams(mode: Mode) -> float:
    """Two and four streams, random weights and a random sub-layer, against a loop."""
    found = 0.0
    for n in (2, 4):
        connection = HyperConnection(6, n, mode, 0).double()
        for seed, weight in enumerate(connection.parameters()):
            weight.data = random(*weight.shape, seed=seed)
        w = {name: p.detach() for name, p in connection.named_parameters()}
        c, s = NanoChatConfig(stream_mode=mode, num_streams=n), random(2, 3, n, 6)
        expected = reference_text.connected(w, c, list(s.unbind(2)), sublayer)
        found = max(found, apart(connection(s, sublayer), torch.stack(expected, 2)))
    return found


def sublayer(x: Tensor) -> Tensor:
    """Stand for attention or feed-forward."""
    return torch.tanh(x) * random(6, seed=9)


@check(
    "Mixing of streams",
    "003",
    "rows and columns of H sum to 1, no entry is below 0, whatever the weights",
    1e-6,
    MODES,
)
def doubly_stochastic(mode: Mode) -> float:
    """The largest violation for weights of sizes 0.1 to 100 in fp32."""
    found = 0.0
    for n, size in ((n, size) for n in (2, 4) for size in (0.1, 1.0, 10.0, 100.0)):
        connection = HyperConnection(6, n, mode, 0)
        for seed, weight in enumerate(connection.parameters()):
            weight.data = size * random(*weight.shape, seed=seed).float()
        H = connection.mixing(random(2, 3, n, 6).float()).matrix.double()
        found = max(found, apart(H.sum(-1), torch.ones_like(H.sum(-1))), -H.min().item())
        found = max(found, apart(H.sum(-2), torch.ones_like(H.sum(-2))))
    return found


@check(
    "Streams at the start",
    "003",
    "biases -1, and 1 for stream k mod n; identity 0.95 (static), bias 0, others -8 (dynamic)",
    1e-6,
    MODES,
)
def start(mode: Mode) -> float:
    """Biases, gains and maps of new connections around sub-layers 0 to 4."""
    found = 0.0
    for n, index in ((n, index) for n in (2, 4) for index in range(5)):
        connection = HyperConnection(6, n, mode, index)
        connection.reset_parameters()
        shares = torch.softmax(connection.permutations.bias, 0)
        others = math.factorial(n) - 1
        pre = post = [1.0 if i == index % n else -1.0 for i in range(n)]
        first = {"static": 0.95, "dynamic": 1 / (1 + others * math.exp(-8))}
        if mode == "legacy":
            pre = post = [0.5] * n
            first["legacy"] = 0.5 if n == 2 else math.exp(10) / (math.exp(10) + others)
        found = max(found, apart(connection.pre.bias, pre), apart(connection.post.bias, post))
        rest = [(1 - first[mode]) / others] * others
        found = max(found, apart(shares, [first[mode], *rest]))
        for part in (connection.pre, connection.post, connection.permutations):
            if part.gain is not None and part.map is not None:
                found = max(found, apart(part.gain, 0.01), part.map.abs().max().item())
    return found


@check("Streams at the end", "003", "their sum; their mean with legacy", 1e-12, MODES)
def end(mode: Mode) -> float:
    """Two and four random streams, against a loop."""
    found = 0.0
    for n in (2, 4):
        s = random(2, 3, n, 6)
        expected = reference_text.sum_of(list(s.unbind(2))) / (n if mode == "legacy" else 1)
        found = max(found, apart(collapse(s, mode), expected))
    return found


@check("nanochat", "003", "logits of the whole model, every weight random", 1e-9, tuple(CONFIGS))
def logits(name: str) -> float:
    """Three texts of nine tokens, against float64, in units of the largest logit."""
    model, weights = nanochat(name)
    (expected,), _ = reference_text.logits(weights, model.config, texts())
    return apart(model(texts()), expected) / expected.abs().max().item()


@check(
    "Training and inference",
    "003",
    "packed weights and a cache, token by token: the logits of training",
    1e-9,
    tuple(CONFIGS),
)
def inference(name: str) -> float:
    """The same texts, a token at a time, against float64, in units of the largest logit."""
    model, weights = nanochat(name)
    (expected,), _ = reference_text.logits(weights, model.config, texts())
    ours, cache = model.packed(), model.new_cache(batch_size=3)
    steps = [ours(texts()[:, i : i + 1], cache) for i in range(9)]
    return apart(torch.cat(steps, 1), expected) / expected.abs().max().item()


@check("Loss at the start", "003", "ln V: embeddings of std 0.02", 0.05)
def first_loss() -> float:
    """Cross-entropy of a new model of 512 tokens on random texts, against ln 512."""
    model = NanoChat(
        NanoChatConfig(vocab_size=512, seq_len=32, hidden_size=128, num_layers=2),
        torch.Generator().manual_seed(0),
    )
    tokens = torch.randint(512, (8, 33), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        log_p = model(tokens[:, :-1]).double().log_softmax(-1)
    return abs(-log_p.gather(-1, tokens[:, 1:, None]).mean().item() - math.log(512))
