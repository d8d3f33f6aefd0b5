"""llama.cpp itself on an exported file; needs the package llama-cpp-python, which is compiled."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from ostinato.data.tokenizer import BytePairTokenizer
from ostinato.export.gguf import export_gguf
from ostinato.models.nanochat import NanoChat, NanoChatConfig

TEXT = "".join(p.read_text("utf-8") for p in sorted(Path(__file__).parents[1].glob("export/*.py")))
LENGTH, WINDOWS = 128, 8


def trained(**settings: Any) -> tuple[NanoChat, torch.Tensor]:
    """A model that has learnt a little of this folder, and tokens of it to run on."""
    tokenizer = BytePairTokenizer.train([TEXT], 512)
    row = torch.tensor(tokenizer.encode(TEXT))
    config = NanoChatConfig(
        vocab_size=tokenizer.vocab_size,
        seq_len=LENGTH,
        num_layers=2,
        num_streams=1,
        **settings,
    )
    rng = torch.Generator().manual_seed(0)
    model = NanoChat(config, rng)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(100):
        starts = torch.randint(len(row) - LENGTH - 1, (8, 1), generator=rng)
        window = row[starts + torch.arange(LENGTH + 1)]
        logits = model(window[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.tokenizer_json = tokenizer.to_json()
    return model.eval(), row[: WINDOWS * LENGTH].view(WINDOWS, LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "blocks"),
    [
        ({"num_kv_heads": 2}, "q4_0"),
        ({"group_size": 256, "tied_head": False}, "tq2_0"),
        ({"sub_norm": True}, "q4_0"),
    ],
    ids=str,
)
def test_llama_cpp_agrees(settings: dict[str, Any], blocks: Any, tmp_path: Path):
    """Logits within 2 % of the largest, and the same likeliest token for 99 % of 1024 tokens."""
    llama_cpp = pytest.importorskip("llama_cpp")
    model, tokens = trained(**settings)
    path = tmp_path / "model.gguf"
    export_gguf(model, path, tokens[:1], block_type=blocks)
    llama = llama_cpp.Llama(str(path), n_ctx=LENGTH, logits_all=True, verbose=False)
    assert llama.tokenize(TEXT.encode(), add_bos=True)[:LENGTH] == tokens[0].tolist()
    agree = 0
    for window in tokens:
        llama.reset()
        llama.eval(window.tolist())
        theirs = torch.from_numpy(llama.scores[:LENGTH].copy())
        with torch.no_grad():
            ours = model(window[None])[0]
        assert ((theirs - ours).abs().max() / ours.abs().max()).item() <= 0.02
        agree += int((theirs.argmax(-1) == ours.argmax(-1)).sum())
    assert agree >= 0.99 * tokens.numel()
