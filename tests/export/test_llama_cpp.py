"""llama.cpp itself on an exported file; needs the package llama-cpp-python, which is compiled."""

from dataclasses import replace
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
    for _ in range(300):
        starts = torch.randint(len(row) - LENGTH - 1, (8, 1), generator=rng)
        window = row[starts + torch.arange(LENGTH + 1)]
        logits = model(window[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.tokenizer_json = tokenizer.to_json()
    return model.eval(), row[: WINDOWS * LENGTH].view(WINDOWS, LENGTH)


def worst_and_same(
    path: Path, model: NanoChat, tokens: torch.Tensor, cache: int
) -> tuple[float, float]:
    """Largest difference of llama.cpp's logits from the model's, as a share of the largest logit of
    the window; and the share of tokens with the same likeliest next one."""
    llama_cpp = pytest.importorskip("llama_cpp")
    llama = llama_cpp.Llama(
        str(path), n_ctx=LENGTH, logits_all=True, verbose=False, type_k=cache, type_v=cache
    )
    assert llama.tokenize(TEXT.encode(), add_bos=True)[:LENGTH] == tokens[0].tolist()
    worst, same = 0.0, 0
    for window in tokens:
        llama.reset()
        llama.eval(window.tolist())
        theirs = torch.from_numpy(llama.scores[:LENGTH].copy())
        with torch.no_grad():
            ours = model(window[None])[0]
        worst = max(worst, ((theirs - ours).abs().max() / ours.abs().max()).item())
        same += int((theirs.argmax(-1) == ours.argmax(-1)).sum())
    print(f"largest difference {worst:.2e}, {same} of {tokens.numel()} likeliest tokens the same")
    return worst, same / tokens.numel()


def with_exact_activations(model: NanoChat) -> NanoChat:
    """The same weights, with activations that are not quantised."""
    exact = NanoChat(replace(model.config, quantize_activations=False))
    exact.load_state_dict(model.state_dict())
    return exact


F32, F16 = 0, 1
"""Types of llama.cpp's cache."""
GROUPED, WIDE_GROUPS, SUB_NORM = (
    {"num_kv_heads": 2},
    {"group_size": 256, "tied_head": False},
    {"sub_norm": True},
)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [GROUPED, WIDE_GROUPS, SUB_NORM], ids=str)
def test_the_file_is_exact(settings: dict[str, Any], tmp_path: Path):
    """Without int8 anywhere, llama.cpp computes the function of the model, but for rounding."""
    model, tokens = trained(**settings)
    exact = with_exact_activations(model)
    export_gguf(model, tmp_path / "model.gguf", tokens[:1], block_type="f32")
    worst, same = worst_and_same(tmp_path / "model.gguf", exact, tokens, F32)
    assert worst <= 1e-4 and same >= 0.999


@pytest.mark.slow
def test_llama_cpp_agrees(tmp_path: Path):
    """Logits within 2 % of the largest, and the same likeliest token for 99 % of 1024 tokens."""
    model, tokens = trained(**GROUPED)
    export_gguf(model, tmp_path / "model.gguf", tokens[:1], block_type="q4_0")
    worst, same = worst_and_same(tmp_path / "model.gguf", model, tokens, F16)
    assert worst <= 0.02 and same >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "blocks"), [(WIDE_GROUPS, "tq2_0"), (SUB_NORM, "q4_0")])
def test_llama_cpp_is_nearer_to_exact_activations(
    settings: dict[str, Any], blocks: Any, tmp_path: Path
):
    """Where the model's own int8, a scale a token, moves logits by more than 2 %, the finer blocks
    of llama.cpp do not."""
    model, tokens = trained(**settings)
    exact = with_exact_activations(model)
    export_gguf(model, tmp_path / "model.gguf", tokens[:1], block_type=blocks)
    worst, same = worst_and_same(tmp_path / "model.gguf", exact, tokens, F16)
    assert worst <= 0.02 and same >= 0.98
