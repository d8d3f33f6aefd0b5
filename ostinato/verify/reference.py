"""Implement the mathematics of TRM and HRM again, plainly, to measure the package against.

Nothing here calls the code under test. All of it computes in the dtype of its arguments, which is
float64. Weights come as a dictionary under the names of the package; `c` holds the settings.
"""

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def under(w: Weights, prefix: str) -> Weights:
    """Return the weights of one part, without its prefix."""
    return {name[len(prefix) + 1 :]: t for name, t in w.items() if name.startswith(prefix + ".")}


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """Normalise over the last axis, without a weight."""
    return x / ((x * x).mean(-1, keepdim=True) + eps).sqrt()


def swiglu_width(dim: int, expansion: float) -> int:
    """Return 2/3 of expansion·dim, rounded, then rounded up to a multiple of 256."""
    wished = round(expansion * dim * 2 / 3)
    return 256 * math.ceil(wished / 256)


def swiglu(w: Weights, x: Tensor) -> Tensor:
    """Apply SwiGLU; gate and up are fused, gate first."""
    half = len(w["gate_up_proj.weight"]) // 2
    gate = x @ w["gate_up_proj.weight"][:half].T
    up = x @ w["gate_up_proj.weight"][half:].T
    return (gate / (1 + torch.exp(-gate)) * up) @ w["down_proj.weight"].T


def rotate(x: Tensor, theta: float) -> Tensor:
    """Rotate [batch, seq, heads, size] by position; i and i + size/2 form a complex number."""
    half = x.shape[-1] // 2
    speeds = theta ** (-2 * torch.arange(half, dtype=torch.float64) / x.shape[-1])
    angles = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * speeds
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.exp(1j * angles)[:, None]
    return torch.cat([turned.real, turned.imag], dim=-1)


def attention(w: Weights, x: Tensor, heads: int, theta: float | None) -> Tensor:
    """Every position attends to every other; queries, keys and values are fused in this order."""
    parts = w["qkv_proj.weight"].chunk(3)
    q, k, v = ((x @ part.T).unflatten(-1, (heads, -1)) for part in parts)
    if theta is not None:
        q, k = rotate(q, theta), rotate(k, theta)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    mixed = torch.einsum("bhqk,bkhd->bqhd", torch.softmax(scores, dim=-1), v)
    return mixed.flatten(2) @ w["o_proj.weight"].T


def reason(w: Weights, c, hidden: Tensor, injection: Tensor) -> Tensor:
    """Run a reasoning module: add, then per layer mix positions, norm, mix channels, norm."""
    h = hidden + injection
    num_layers = 1 + max(int(name.split(".")[1]) for name in w)
    for number in range(num_layers):
        layer = under(w, f"layers.{number}")
        if mlp_t := under(layer, "mlp_t"):
            h = h.transpose(1, 2)
            h = rms_norm(h + swiglu(mlp_t, h), c.rms_norm_eps).transpose(1, 2)
        else:
            theta = c.rope_theta if c.pos_encodings == "rope" else None
            mixed = attention(under(layer, "self_attn"), h, c.num_heads, theta)
            h = rms_norm(h + mixed, c.rms_norm_eps)
        h = rms_norm(h + swiglu(under(layer, "mlp"), h), c.rms_norm_eps)
    return h


def embed(w: Weights, c, inputs: Tensor, rows: Tensor | None) -> Tensor:
    """The puzzle's row in front of the tokens, learned positions, scale; `rows` [batch, ndim]."""
    x = w["embed_tokens.weight"][inputs.long()]
    prefix = c.puzzle_emb_len or math.ceil(c.puzzle_emb_ndim / c.hidden_size)
    front = torch.zeros(len(inputs), prefix * c.hidden_size, dtype=x.dtype)
    if rows is not None:
        front = torch.cat([rows, front[:, rows.shape[1] :]], dim=1)
    x = torch.cat([front.view(len(inputs), prefix, c.hidden_size), x], dim=1)
    if c.pos_encodings == "learned":
        x = (x + w["embed_pos.weight"]) / math.sqrt(2)
    return x * math.sqrt(c.hidden_size)


def trm_step(w: Weights, c, z_H: Tensor, z_L: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """H_cycles times { L_cycles times z_L; once z_H }; a gradient in the last of them only."""
    f = under(w, "L_level")
    for _ in range(c.H_cycles):
        z_H, z_L = z_H.detach(), z_L.detach()
        for _ in range(c.L_cycles):
            z_L = damped(c, z_L, reason(f, c, z_L, z_H + x))
        z_H = damped(c, z_H, reason(f, c, z_H, z_L))
    return z_H, z_L


def damped(c, h: Tensor, u: Tensor) -> Tensor:
    """Apply EqR's h ← (1 - λ)·h + λ·u, without noise."""
    return h - c.damping * (h - u)


def hrm_step(w: Weights, c, z_H: Tensor, z_L: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The same schedule with two modules; a gradient in the very last call of each only."""
    f_L, f_H = under(w, "L_level"), under(w, "H_level")
    for _ in range(c.H_cycles):
        for _ in range(c.L_cycles):
            z_H, z_L = z_H.detach(), z_L.detach()
            z_L = damped(c, z_L, reason(f_L, c, z_L, z_H + x))
        z_H = damped(c, z_H, reason(f_H, c, z_H, z_L))
    return z_H, z_L


def step(
    w: Weights, c, z_H: Tensor, z_L: Tensor, inputs: Tensor, rows: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One supervision step: new z_H and z_L, logits [batch, seq, vocab], q [batch, 1 or 2]."""
    recursion = hrm_step if under(w, "H_level") else trm_step
    z_H, z_L = recursion(w, c, z_H, z_L, embed(w, c, inputs, rows))
    logits = z_H[:, -c.seq_len :] @ w["lm_head.weight"].T
    return z_H, z_L, logits, z_H[:, 0] @ w["q_head.weight"].T + w["q_head.bias"]


def log_stablemax(x: Tensor) -> Tensor:
    """Compute log-stablemax as in the originals, epsilon included."""
    s = torch.where(x >= 0, x + 1, 1 / (1 - x + 1e-30))
    return torch.log(s / s.sum(-1, keepdim=True))


def cross_entropy(p: Tensor, logit: Tensor) -> Tensor:
    """Compute the binary cross-entropy of a probability and a logit."""
    return -(p * torch.log(torch.sigmoid(logit)) + (1 - p) * torch.log(torch.sigmoid(-logit)))


def losses(
    logits: Tensor, labels: Tensor, q: Tensor, target: Tensor | None, softmax: bool = False
) -> dict[str, Tensor]:
    """Compute the parts of the loss, summed over the batch by sequence and token."""
    log_p = torch.log_softmax(logits, -1) if softmax else log_stablemax(logits)
    total = {name: torch.zeros((), dtype=logits.dtype) for name in ("lm", "halt", "continue")}
    for b in range(len(labels)):
        valid = [t for t in range(labels.shape[1]) if labels[b, t] != -100]
        tokens = [-log_p[b, t, int(labels[b, t])] for t in valid]
        total["lm"] = total["lm"] + sum(tokens) / max(len(valid), 1)
        right = all(int(logits[b, t].argmax()) == int(labels[b, t]) for t in valid)
        total["halt"] = total["halt"] + cross_entropy(torch.tensor(float(right)), q[b, 0])
        if target is not None:
            total["continue"] = total["continue"] + cross_entropy(target[b], q[b, 1])
    return total
