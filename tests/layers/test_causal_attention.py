"""Causal attention against loops, and the two layouts of rotary positions against each other."""

import pytest
import torch
from torch import Tensor

from ostinato.layers import CausalAttention, KeyValueCache, Linear, RotaryEmbedding
from ostinato.weights.gguf import adjacent_pair_rows, half_split_rows

DIM, HEADS, SEQ = 24, 4, 7


def attention(kv_heads: int) -> CausalAttention:
    made = CausalAttention(DIM, HEADS, kv_heads, Linear).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(kv_heads))
    return made


def rotated(x: Tensor, position: int, adjacent: bool = False) -> Tensor:
    """One head's vector, pair by pair, with complex numbers."""
    half = len(x) // 2
    pairs = x.view(half, 2).T if adjacent else x.view(2, half)
    angles = position * 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    turned = torch.complex(*pairs) * torch.polar(torch.ones_like(angles), angles)
    turned = torch.stack([turned.real, turned.imag])
    return (turned.T if adjacent else turned).flatten()


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_is_the_formula(kv_heads: int):
    made, size = attention(kv_heads), DIM // HEADS
    x = torch.randn(1, SEQ, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    q, k, v = (
        proj(x)[0].unflatten(-1, (-1, size)) for proj in (made.q_proj, made.k_proj, made.v_proj)
    )
    rows = []
    for t in range(SEQ):
        heads = []
        for h in range(HEADS):
            shared = h // (HEADS // kv_heads)
            scores = torch.stack(
                [rotated(q[t, h], t) @ rotated(k[s, shared], s) for s in range(t + 1)]
            )
            weights = (scores / size**0.5).softmax(0)
            heads.append(weights @ v[: t + 1, shared])
        rows.append(torch.cat(heads))
    wanted = torch.stack(rows) @ made.get_parameter("o_proj.weight").T
    got = made(x, RotaryEmbedding(size, SEQ))[0]
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)  # its angles are fp32


@pytest.mark.parametrize("chunks", [[1] * SEQ, [3, 4], [2, 1, 4]])
def test_cache_continues(chunks: list[int]):
    made, rotary = attention(2), RotaryEmbedding(DIM // HEADS, SEQ)
    x = torch.randn(2, SEQ, DIM, dtype=torch.float64)
    cache = KeyValueCache((2, 2, SEQ, DIM // HEADS), torch.float64, torch.device("cpu"))
    parts = [made(part, rotary, cache) for part in x.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), made(x, rotary), rtol=1e-12, atol=1e-12)
    assert cache.length == SEQ
    with pytest.raises(ValueError, match="do not fit in a cache of 7"):
        cache.extend(cache.keys[:, :, :1], cache.values[:, :, :1])


def test_layouts_of_rotary_positions_agree():
    rng = torch.Generator().manual_seed(0)
    q, k = (torch.randn(DIM, DIM, dtype=torch.float64, generator=rng) for _ in range(2))
    x = torch.randn(SEQ, DIM, dtype=torch.float64, generator=rng)
    size = DIM // HEADS

    def scores(q: Tensor, k: Tensor, adjacent: bool) -> Tensor:
        heads = [(x @ weight.T).unflatten(-1, (HEADS, size)) for weight in (q, k)]
        turned = [
            torch.stack(
                [
                    torch.stack([rotated(h, t, adjacent) for h in heads_t])
                    for t, heads_t in enumerate(w)
                ]
            )
            for w in heads
        ]
        return torch.einsum("thd,shd->hts", *turned)

    split = [half_split_rows(weight, HEADS) for weight in (q, k)]
    torch.testing.assert_close(scores(*split, adjacent=False), scores(q, k, adjacent=True))
    assert torch.equal(adjacent_pair_rows(split[0], HEADS), q)
