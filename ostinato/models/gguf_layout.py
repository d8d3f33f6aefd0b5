"""What a GGUF file of a nanochat holds: its three architectures, and the names of its tensors.

| architecture        | for                                    | read by              | scales |
|---------------------|----------------------------------------|----------------------|--------|
| `llama`             | one stream                             | llama.cpp, Ostinato  | f16    |
| `bitnet`            | one stream, SubLN, tied head           | llama.cpp, Ostinato  | f16    |
| `ostinato-nanochat` | every nanochat                         | Ostinato             | exact  |

The tensors have llama.cpp's names. Ours has two things more, in F32: the connections of the
streams, and, since blocks hold scales in f16 only, the exact scales of every ternary matrix. A file
of any architecture says under the key `ostinato` which configuration it is of, as our safetensors
files do, and `tokenizer.huggingface.json` holds the tokenizer.
"""

from typing import Literal, get_args

from ostinato.models.nanochat import NanoChatConfig

Architecture = Literal["llama", "bitnet", "ostinato-nanochat"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
OURS: Architecture = "ostinato-nanochat"

DESCRIPTION_KEY = "ostinato"
"""Model, configuration and notes, as JSON."""
TOKENIZER_KEY = "tokenizer.huggingface.json"
SHA256_KEY = "ostinato.sha256"

EXACT_SCALES = "group_scales"
"""Ending of the tensors of our architecture with scales in F32."""

PARTS = {
    "embed_tokens": "token_embd",
    "final_norm": "output_norm",
    "lm_head": "output",
    "attention_norm": "attn_norm",
    "attention.q_proj": "attn_q",
    "attention.k_proj": "attn_k",
    "attention.v_proj": "attn_v",
    "attention.o_proj": "attn_output",
    "attention.sub_norm": "attn_sub_norm",
    "attention_connection": "attn_streams",
    "feedforward_norm": "ffn_norm",
    "feedforward.gate_proj": "ffn_gate",
    "feedforward.up_proj": "ffn_up",
    "feedforward.down_proj": "ffn_down",
    "feedforward.sub_norm": "ffn_sub_norm",
    "feedforward_connection": "ffn_streams",
}
"""Our name of a part of the model, or of a block, → theirs."""


def gguf_name(ours: str) -> str:
    """`blocks.0.attention.q_proj.weight` → `blk.0.attn_q.weight`."""
    prefix, name = "", ours
    if ours.startswith("blocks."):
        _, index, name = ours.split(".", 2)
        prefix = f"blk.{index}."
    part = max((p for p in PARTS if name.startswith(f"{p}.")), key=len)
    return prefix + PARTS[part] + name.removeprefix(part)


def paired_heads(ours: str, architecture: Architecture, config: NanoChatConfig) -> int:
    """Heads of a matrix whose rows `architecture` wants in adjacent pairs; 0: it leaves them.

    llama.cpp turns adjacent pairs in `llama`, halves in `bitnet` (`llama_model_rope_type`).
    """
    if architecture != "llama":
        return 0
    heads = {".attention.q_proj.": config.num_heads, ".attention.k_proj.": config.kv_heads}
    return next((number for part, number in heads.items() if part in ours), 0)
