"""Implement the mathematics of language models again, plainly, to measure the package against.

As in `reference`, nothing here calls the code under test, and all of it computes in float64.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import permutations

import torch
from torch import Tensor

from ostinato.verify.reference import Weights, cross_entropy, rms_norm, rotate, under

Branch = Callable[[Tensor], Tensor]


def rounded(x: Tensor) -> Tensor:
    """Round to the nearest integer, halves away from zero."""
    return x.sign() * (x.abs() + 0.5).floor()


def ternary(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Return the codes -1, 0, 1 of a matrix and the weights that they stand for."""
    codes, used = torch.zeros_like(weight), torch.zeros_like(weight)
    rows, inputs = weight.shape
    parts = [(slice(rows), slice(inputs))]  # one group for all
    if group:
        starts = range(0, inputs, group)
        parts = [(slice(r, r + 1), slice(i, i + group)) for r in range(rows) for i in starts]
    for part in parts:
        scale = max(weight[part].abs().mean().item(), 1e-8)
        codes[part] = rounded(weight[part] / scale).clamp(-1, 1)
        used[part] = codes[part] * scale
    return codes, used


def integers(x: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Return the integers -127 to 127 of each token's groups and the numbers they stand for."""
    codes, used = torch.zeros_like(x), torch.zeros_like(x)
    size = group or x.shape[-1]
    for start in range(0, x.shape[-1], size):
        part = (..., slice(start, start + size))
        scale = x[part].abs().amax(-1, keepdim=True).clamp(min=1e-8) / 127
        codes[part] = rounded(x[part] / scale).clamp(-127, 127)
        used[part] = codes[part] * scale
    return codes, used


def project(w: Weights, c, name: str, x: Tensor) -> Tensor:
    """Multiply with a matrix of a block, quantised if the settings say so."""
    weight = w[f"{name}.weight"]
    if not c.ternary:
        return x @ weight.T
    if c.quantize_activations:
        x = integers(x, c.activation_group_size)[1]
    return x @ ternary(weight, c.group_size)[1].T


def learned_norm(w: Weights, c, name: str, x: Tensor) -> Tensor:
    """Normalise and multiply with the norm's weight; x itself if there is no such norm."""
    weight = w.get(f"{name}.weight")
    return x if weight is None else rms_norm(x, c.rms_norm_eps) * weight


def attend(w: Weights, c, x: Tensor) -> Tensor:
    """Every position attends to itself and to earlier ones; key heads are shared in order."""
    q, k, v = (project(w, c, f"{n}_proj", x).unflatten(-1, (-1, c.head_dim)) for n in "qkv")
    q, k = rotate(q, c.rope_theta), rotate(k, c.rope_theta)
    future = torch.arange(x.shape[1])[None] > torch.arange(x.shape[1])[:, None]
    heads = []
    for head in range(c.num_heads):
        shared = head // (c.num_heads // c.kv_heads)
        scores = q[:, :, head] @ k[:, :, shared].mT / math.sqrt(c.head_dim)
        shares = torch.softmax(scores.masked_fill(future, -math.inf), dim=-1)
        heads.append(shares @ v[:, :, shared])
    return project(w, c, "o_proj", learned_norm(w, c, "sub_norm", torch.cat(heads, -1)))


def feed_forward(w: Weights, c, x: Tensor) -> Tensor:
    """Apply SwiGLU with matrices of its own for gate and up."""
    gate, up = project(w, c, "gate_proj", x), project(w, c, "up_proj", x)
    inner = gate / (1 + torch.exp(-gate)) * up
    return project(w, c, "down_proj", learned_norm(w, c, "sub_norm", inner))


def connected(w: Weights, c, streams: list[Tensor], branch: Branch) -> list[Tensor]:
    """Put a sub-layer between the streams [batch, seq, dim]: read, mix, write."""
    n = len(streams)
    if n == 1:
        return [streams[0] + branch(streams[0])]

    def logits(name: str) -> Tensor:
        bias = w[f"{name}.bias"]
        if c.stream_mode != "dynamic":
            return bias.expand(*streams[0].shape[:-1], -1)
        normed = learned_norm(w, c, "norm", torch.cat(streams, -1))
        return bias + w[f"{name}.gain"] * (normed @ w[f"{name}.map"].T)

    def weighted(shares: Tensor, parts: list[Tensor]) -> list[Tensor]:
        return [shares[..., i, None] * part for i, part in enumerate(parts)]

    def mix(parts: list[Tensor]) -> list[Tensor]:
        shares = torch.softmax(logits("permutations"), dim=-1)
        orders = list(permutations(range(n)))  # stream s goes to place order[s]
        return [sum_of(weighted(shares, [parts[o.index(t)] for o in orders])) for t in range(n)]

    y = branch(sum_of(weighted(torch.sigmoid(logits("pre")), streams)))
    most = n if c.stream_mode == "legacy" else 2
    written = weighted(most * torch.sigmoid(logits("post")), [y] * n)
    if c.stream_mode == "dynamic":
        return [old + new for old, new in zip(mix(streams), written, strict=True)]
    return mix([old + new for old, new in zip(streams, written, strict=True)])


def sum_of(parts: list[Tensor]) -> Tensor:
    """Add tensors of the same shape."""
    return torch.stack(parts).sum(0)


LAYERS = {"attention": attend, "feedforward": feed_forward}


def sublayer(w: Weights, c, part: str, x: Tensor) -> Tensor:
    """Run a part of a block, behind its norm and in front of another, if there is one."""
    y = LAYERS[part](under(w, part), c, learned_norm(w, c, f"{part}_norm", x))
    return learned_norm(w, c, f"{part}_out_norm", y)


def one_pass(w: Weights, c, x: Tensor) -> Tensor:
    """Run all blocks on copies of x [batch, seq, dim], and the norm at the end."""
    streams = [x] * c.num_streams
    for number in range(c.num_layers):
        block = under(w, f"blocks.{number}")
        for part in LAYERS:
            connection = under(block, f"{part}_connection")
            streams = connected(connection, c, streams, partial(sublayer, block, c, part))
    total = sum_of(streams)
    if c.num_streams > 1 and c.stream_mode == "legacy":
        total = total / c.num_streams
    return learned_norm(w, c, "final_norm", total)


def logits(w: Weights, c, tokens: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Compute the logits [batch, seq, vocab] after each pass, and the exit logits if it loops."""
    x, found, exits = w["embed_tokens.weight"][tokens], [], []
    for _ in range(c.num_loops):
        x = one_pass(w, c, x)
        found.append(x @ w["embed_tokens.weight" if c.tied_head else "lm_head.weight"].T)
        if c.num_loops > 1:
            exits.append(x @ w["exit_gate.weight"][0] + w["exit_gate.bias"])
    return found, exits


def exit_shares(exits: Tensor) -> Tensor:
    """Compute p_t from the exit logits [pass, batch, seq]."""
    shares, there = [], torch.ones_like(exits[0])
    for t in range(len(exits)):
        leaves = torch.sigmoid(exits[t]) if t < len(exits) - 1 else torch.ones_like(there)
        shares.append(there * leaves)
        there = there * (1 - leaves)
    return torch.stack(shares)


def pass_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy of every token after every pass."""
    log_p = torch.log_softmax(logits, -1)
    return -torch.stack([p.gather(-1, labels[..., None])[..., 0] for p in log_p])


def stage_one(logits: Tensor, exits: Tensor, labels: Tensor, beta: float) -> Tensor:
    """Compute Ouro's stage I loss, summed over tokens."""
    p = exit_shares(exits)
    entropy = -(p * torch.log(p)).sum()
    return (p * pass_losses(logits, labels)).sum() - beta * entropy


def stage_two(logits: Tensor, exits: Tensor, labels: Tensor) -> Tensor:
    """Compute Ouro's stage II loss, summed over tokens, averaged over passes from the second."""
    losses, total = pass_losses(logits, labels), torch.zeros((), dtype=logits.dtype)
    for t in range(1, len(losses)):
        improvement = torch.relu(losses[t - 1] - losses[t])
        w = torch.sigmoid(50 * (improvement - 0.005))
        total = total + cross_entropy(w, -exits[t]).sum()
    return total / (len(losses) - 1)
