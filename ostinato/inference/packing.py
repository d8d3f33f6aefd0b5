"""Lay out the weights of a packed nanochat for `ostinato.kernels.step`: two bits a ternary one."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ostinato.kernels.products import Matrix
from ostinato.kernels.step import PackedHead, Weights
from ostinato.layers import HyperConnection, PackedTernaryLinear, RMSNorm
from ostinato.layers.hyper_connections import Logits
from ostinato.layers.ternary import ACTIVATION_LEVELS, SMALLEST_SCALE
from ostinato.models.nanochat import Block, NanoChat

LANE, LANES = 32, 4
"""Inputs of a lane, and lanes of a block."""
HEAD_INPUTS = 16
"""Inputs of the head in a vector."""
SMALLEST_PACKED_HEAD = 2**21
"""Bytes."""
PACKED_ROWS = 4096
"""Rows of the head that are packed at a time."""


def pack_weights(model: NanoChat) -> Weights:
    """Return the weights; numbers keep their dtype, and embedding and head their memory."""
    blocks = [block for block in model.blocks if isinstance(block, Block)]
    attentions, feedforwards = (
        [getattr(b, n) for b in blocks] for n in ("attention", "feedforward")
    )
    connections = [
        connection
        for block in blocks
        for connection in (block.attention_connection, block.feedforward_connection)
        if isinstance(connection, HyperConnection)
    ]
    config, embedding = model.config, model.embed_tokens.weight
    legacy = config.stream_mode == "legacy"
    constants = [
        config.rms_norm_eps,
        SMALLEST_SCALE,
        ACTIVATION_LEVELS,
        config.head_dim**-0.5,
        config.num_streams if legacy else 2,
        1 / config.num_streams if legacy else 1,
    ]
    empty = embedding.new_zeros(0, 0)
    permutations = connections[0].permutation_matrices.flatten(1) if connections else empty
    biases = [torch.cat([part.bias for part in logits_of(c)]) for c in connections]
    maps = [dynamic_map(c) for c in connections if c.norm is not None]
    head = array(embedding if model.lm_head is None else model.lm_head.weight)
    return Weights(
        embedding=array(embedding),
        head=head,
        packed_head=pack_head(head),
        qkv=pack_matrices([[a.q_proj, a.k_proj, a.v_proj] for a in attentions]),
        o_proj=pack_matrices([[a.o_proj] for a in attentions]),
        gate_up=pack_matrices([[f.gate_proj, f.up_proj] for f in feedforwards]),
        down=pack_matrices([[f.down_proj] for f in feedforwards]),
        attention_norms=stacked([b.attention_norm for b in blocks], empty),
        attended_norms=stacked([a.sub_norm for a in attentions], empty),
        attention_out_norms=stacked([b.attention_out_norm for b in blocks], empty),
        feedforward_norms=stacked([b.feedforward_norm for b in blocks], empty),
        inner_norms=stacked([f.sub_norm for f in feedforwards], empty),
        feedforward_out_norms=stacked([b.feedforward_out_norm for b in blocks], empty),
        final_norm=array(model.final_norm.weight),
        bias=array(torch.stack(biases) if biases else empty),
        map=array(torch.stack(maps) if maps else embedding.new_zeros(0, 0, 0, 0)),
        permutations=array(permutations.T.to(embedding.dtype)),
        cos=array(model.rotary.cos.to(embedding.dtype)),
        sin=array(model.rotary.sin.to(embedding.dtype)),
        constants=array(embedding.new_tensor(constants)),
    )


def pack_head(head: np.ndarray) -> PackedHead:
    """Return the head as integers of 24 bits: as exact as float32, and faster to read.

    It stays empty for numbers of another kind, for a width that does not fill vectors, and where
    the processor's cache holds the head anyway.
    """
    fits = head.nbytes < SMALLEST_PACKED_HEAD
    if fits or head.dtype != np.float32 or head.shape[1] % HEAD_INPUTS:
        return PackedHead(np.zeros(0, np.uint8), np.zeros(0, head.dtype))
    scales = np.maximum(np.abs(head).max(1), SMALLEST_SCALE).astype(np.float64) / (2**23 - 2)
    codes = np.zeros(3 * head.size + 16, np.uint8)
    rows = codes[: 3 * head.size].reshape(len(head), -1, 3)
    for start in range(0, len(head), PACKED_ROWS):
        part = slice(start, start + PACKED_ROWS)
        wanted = head[part] / scales[part, None]
        low = np.rint(wanted).astype("<i4") & 255  # it stands twice: see `load_integers`
        integers = np.rint(wanted - low / 256).astype("<i4")
        rows[part] = integers[..., None].view(np.uint8)[..., :3]
    return PackedHead(codes, (scales / 256).astype(np.float32))


def array(tensor: Tensor) -> np.ndarray:
    """Return the numbers of a tensor, in its own memory if they lie there in order."""
    return tensor.detach().contiguous().numpy()


def stacked(norms: Sequence[nn.Module | None], empty: Tensor) -> np.ndarray:
    """Return the weights of norms, a row each; nothing if the blocks have none there."""
    weights = [norm.weight for norm in norms if isinstance(norm, RMSNorm)]
    return array(torch.stack(weights) if weights else empty)


def logits_of(connection: HyperConnection) -> tuple[Logits, ...]:
    """Return the three parts that the kernel computes as one."""
    return connection.pre, connection.post, connection.permutations


def dynamic_map(connection: HyperConnection) -> Tensor:
    """Return the maps of a connection, multiplied by their gain and by the weight of its norm."""
    assert connection.norm is not None
    parts = [(logits.gain, logits.map) for logits in logits_of(connection)]
    maps = torch.cat([gain * map_ for gain, map_ in parts if gain is not None and map_ is not None])
    return (maps * connection.norm.weight).unflatten(1, (connection.num_streams, -1))


def pack_matrices(blocks: Sequence[Sequence[PackedTernaryLinear]]) -> Matrix:
    """Pack matrices with the same inputs, whose rows are joined, of every block."""
    first = blocks[0][0]
    inputs, groups = first.codes.shape[1], first.scales.shape[1]
    weight_group, group = inputs // groups, first.activation_group_size or inputs
    lanes = deal_out(inputs, math.gcd(weight_group, group))
    starts, counts = lanes.T
    held = np.arange(LANE) < counts[:, None]
    columns = np.where(held, starts[:, None] + np.arange(LANE), 0)
    rows = [np.concatenate([even(array(m.codes)) for m in matrices]) for matrices in blocks]
    codes = []
    for matrix in rows:
        dealt = (matrix[:, columns] + 1).astype(np.uint8).reshape(len(matrix), -1, LANES, LANE)
        shifts = np.arange(0, 2 * LANES, 2, dtype=np.uint8)[:, None]
        codes.append(in_pairs((dealt << shifts).sum(2, dtype=np.uint8)))
    weight_groups, activation_groups = starts // weight_group, starts // group
    same_weights = same_in_blocks(weight_groups, counts)
    kept = weight_groups[:: LANES if same_weights else 1]
    scales = [
        in_pairs(np.concatenate([even(scales_of(m)[:, kept]) for m in matrices]))
        for matrices in blocks
    ]
    uniform = same_weights and same_in_blocks(activation_groups, counts)
    per_block = 1 if same_weights else LANES
    sizes = [len(rows[0]), len(lanes) // LANES, per_block, group, int(uniform), inputs]
    return Matrix(np.stack(codes).reshape(-1), np.stack(scales).reshape(-1), np.array(sizes), lanes)


def scales_of(matrix: PackedTernaryLinear) -> np.ndarray:
    """Return the scales of each row."""
    return array(matrix.scales.expand(len(matrix.codes), -1))


def even(rows: np.ndarray) -> np.ndarray:
    """Append a row of zeros if their number is odd."""
    return np.pad(rows, ((0, len(rows) % 2), (0, 0)))


def in_pairs(rows: np.ndarray) -> np.ndarray:
    """Put the blocks of every two rows side by side."""
    return rows.reshape(len(rows) // 2, 2, *rows.shape[1:]).swapaxes(1, 2).copy()


def deal_out(inputs: int, part: int) -> np.ndarray:
    """Return the first input of each lane and their number; a lane has inputs of one part."""
    lanes = [
        (start, min(LANE, end - start))
        for end in range(part, inputs + 1, part)
        for start in range(end - part, end, LANE)
    ]
    lanes += [(0, 0)] * (-len(lanes) % LANES)
    return np.array(lanes)


def same_in_blocks(groups: np.ndarray, counts: np.ndarray) -> bool:
    """Return whether the lanes of each block, the empty ones aside, are of one group."""
    blocks = zip(groups.reshape(-1, LANES), counts.reshape(-1, LANES), strict=True)
    return all(len(set(group[count > 0])) <= 1 for group, count in blocks)
