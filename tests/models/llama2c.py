"""Models in the format of llama2.c: a header of seven integers, then fp32 tensors in a fixed order.

Source: karpathy/llama2.c, `export.py` (version 0) and `run.c` (MIT). They are Llamas: no ternary
weights, one stream, and rotary positions on adjacent pairs, for which q and k are reordered here.
"""

import struct
from itertools import pairwise
from math import isfinite, prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ostinato.decoding import read_bytes
from ostinato.models.nanochat import NanoChat, NanoChatConfig
from ostinato.weights.gguf import half_split_rows

HEADER = struct.Struct("<7i")
RMS_NORM_EPS = 1e-5
BEGIN = 1
"""The token in front of every text; as the model's output it says that the text is over."""
END = 2
NUM_BASE = 3 + 256
"""The special tokens and the bytes, which come first in every vocabulary."""


def load_llama2c(path: str | Path) -> NanoChat:
    """Read a model. Raises ValueError, naming the file, if it is none, or truncated."""
    path = Path(path)
    data = read_bytes(path, "give a model of llama2.c")
    if len(data) < HEADER.size:
        raise ValueError(f"{path} is no llama2.c model: it is shorter than the header")
    dim, inner, layers, heads, kv_heads, vocab, seq_len = HEADER.unpack_from(data)
    if min(dim, inner, layers, heads, kv_heads, seq_len) < 1 or vocab == 0:
        raise ValueError(f"{path} is no llama2.c model: its header has sizes below 1")
    try:
        config = NanoChatConfig(
            vocab_size=abs(vocab),
            seq_len=seq_len,
            hidden_size=dim,
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=kv_heads,
            ffn_mult=(inner + 0.5) / dim,  # the half keeps rounding from losing one
            num_streams=1,
            ternary=False,
            group_size=0,
            tied_head=vocab > 0,
            rms_norm_eps=RMS_NORM_EPS,
        )
    except ValueError as error:
        raise ValueError(f"{path} is no llama2.c model, or a damaged one: {error}") from None
    shapes = tensor_shapes(config)
    wanted = HEADER.size + 4 * sum(prod(shape) for shape in shapes.values())
    if len(data) != wanted:
        raise ValueError(
            f"{path} has {len(data)} bytes, its header asks for {wanted}: it is truncated, or no "
            "llama2.c model of version 0"
        )
    values, offset, tensors = np.frombuffer(data, "<f4", offset=HEADER.size), 0, {}
    for name, shape in shapes.items():
        size = prod(shape)
        tensors[name] = torch.from_numpy(values[offset : offset + size].reshape(shape).copy())
        offset += size
    model = NanoChat(config)
    model.load_state_dict(state_dict(tensors, config))
    return model.eval()


def tensor_shapes(config: NanoChatConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of a file, in its order and under its names."""
    layers, dim, inner = config.num_layers, config.hidden_size, config.inner_size
    kv_dim = config.kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "tok_embeddings": (config.vocab_size, dim),
        "attention_norm": (layers, dim),
        "wq": (layers, dim, dim),
        "wk": (layers, kv_dim, dim),
        "wv": (layers, kv_dim, dim),
        "wo": (layers, dim, dim),
        "ffn_norm": (layers, dim),
        "w1": (layers, inner, dim),
        "w2": (layers, dim, inner),
        "w3": (layers, inner, dim),
        "norm": (dim,),
        "freqs_cos": (config.seq_len, config.head_dim // 2),
        "freqs_sin": (config.seq_len, config.head_dim // 2),
    }
    if not config.tied_head:
        shapes["output"] = (config.vocab_size, dim)
    return shapes


BLOCK_NAMES = {
    "attention_norm": "attention_norm",
    "wq": "attention.q_proj",
    "wk": "attention.k_proj",
    "wv": "attention.v_proj",
    "wo": "attention.o_proj",
    "ffn_norm": "feedforward_norm",
    "w1": "feedforward.gate_proj",
    "w2": "feedforward.down_proj",
    "w3": "feedforward.up_proj",
}
"""Name in the file → ours, within a block."""


def state_dict(tensors: dict[str, Tensor], config: NanoChatConfig) -> dict[str, Tensor]:
    """The tensors of a file under our names; its tables of cosines are ours too, and left out."""
    state = {
        "embed_tokens.weight": tensors["tok_embeddings"],
        "final_norm.weight": tensors["norm"],
    }
    if not config.tied_head:
        state["lm_head.weight"] = tensors["output"]
    pairs = {"wq": config.num_heads, "wk": config.kv_heads}
    for name, ours in BLOCK_NAMES.items():
        for index, weight in enumerate(tensors[name]):
            if name in pairs:
                weight = half_split_rows(weight, pairs[name])
            state[f"blocks.{index}.{ours}.weight"] = weight
    return state


class Llama2cTokenizer:
    """The vocabulary of llama2.c's `tokenizer.bin`: pieces with scores, merged greedily."""

    end_tokens = frozenset({BEGIN, END})

    def __init__(self, path: str | Path):
        """Read a vocabulary. Raises ValueError, naming the file, if it is none, or truncated."""
        data = read_bytes(Path(path), "give a tokenizer of llama2.c")
        offset = 4  # the first integer is the longest piece's length
        self.pieces: list[bytes] = []
        self.scores: list[float] = []
        while offset < len(data):
            if offset + 8 > len(data):
                raise ValueError(f"{path} is truncated, or no tokenizer of llama2.c")
            score, length = struct.unpack_from("<fi", data, offset)
            offset += 8
            if length < 0 or offset + length > len(data) or not isfinite(score):
                raise ValueError(f"{path} is truncated, or no tokenizer of llama2.c")
            self.pieces.append(data[offset : offset + length])
            self.scores.append(score)
            offset += length
        if len(self.pieces) < NUM_BASE:
            raise ValueError(
                f"{path} is no tokenizer of llama2.c: it has {len(self.pieces)} pieces, and the "
                f"special ones and the bytes are {NUM_BASE}"
            )
        self.tokens = {piece: token for token, piece in enumerate(self.pieces)}

    def encode(self, text: str) -> list[int]:
        """The begin token, then a space and `text`, merged pair by pair, the best score first."""
        if not text:
            return [BEGIN]
        tokens = []
        for character in " " + text:
            whole = self.tokens.get(character.encode())
            # The 256 bytes follow the three special tokens
            tokens += [byte + 3 for byte in character.encode()] if whole is None else [whole]
        while True:
            merged = [
                self.tokens.get(self.pieces[a] + self.pieces[b], -1) for a, b in pairwise(tokens)
            ]
            best = max(
                (i for i, token in enumerate(merged) if token >= 0),
                key=lambda i: self.scores[merged[i]],
                default=None,
            )
            if best is None:
                return [BEGIN, *tokens]
            tokens[best : best + 2] = [merged[best]]

    def token_bytes(self, token: int, previous: int) -> bytes:
        """The bytes of a token; none for the special ones. A text does not begin with a space."""
        if token <= END:
            return b""
        if token < NUM_BASE:
            return bytes([token - 3])
        piece = self.pieces[token]
        return piece.removeprefix(b" ") if previous == BEGIN else piece
