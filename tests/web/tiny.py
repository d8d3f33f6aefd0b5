"""Untrained models of every make, small enough for a test."""

import torch

from ostinato.models import HRM, TRM, HRMConfig, RecursiveModel, TRMConfig

SIZES = {
    "task": "sudoku4",
    "vocab_size": 6,
    "seq_len": 16,
    "hidden_size": 32,
    "num_heads": 2,
    "H_cycles": 2,
    "L_cycles": 2,
    "L_layers": 1,
    "halt_max_steps": 3,
    "puzzle_emb_ndim": 0,
    "puzzle_emb_len": 3,
    "forward_dtype": "float32",
}
MAKES = ("trm-attention", "trm-mlp", "hrm", "maze", "tokens")


def tiny(make: str) -> RecursiveModel:
    """A model whose weights are random, its q head included."""
    if make == "trm-attention":
        # Rows of 40 numbers that do not fill two tokens, and several puzzles
        rows = {"puzzle_emb_ndim": 40, "puzzle_emb_len": 2, "num_puzzle_identifiers": 3}
        model = TRM(TRMConfig(**SIZES | rows))
    elif make == "trm-mlp":
        others = {"mlp_t": True, "pos_encodings": "none", "normalize_swiglu": True}
        model = TRM(TRMConfig(**SIZES | others))
    elif make == "hrm":
        sizes = SIZES | {"H_layers": 1, "pos_encodings": "learned", "no_ACT_continue": False}
        model = HRM(HRMConfig(**sizes))
    elif make == "maze":
        model = TRM(TRMConfig(**SIZES | {"task": "maze5", "seq_len": 25, "q_outputs": 1}))
    else:
        model = TRM(TRMConfig(**SIZES | {"task": "", "seq_len": 9}))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        model.reset_parameters(generator)
        model.q_head.weight.normal_(generator=generator)
        model.q_head.bias.zero_()
        if model.puzzle_emb is not None:
            model.puzzle_emb.weights.normal_(generator=generator)
    return model.eval()
