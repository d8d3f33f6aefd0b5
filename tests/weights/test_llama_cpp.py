"""llama.cpp itself on an exported file; needs the package xllamacpp or llama-cpp-python."""

import ctypes
import inspect
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from ostinato.bench.llama_cpp import LlamaCpp
from ostinato.data.text.template import CHATML, Message, conversation_tokens, prompt_tokens
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.inference.chat import Dialogue
from ostinato.inference.sampling import Sampling
from ostinato.models.nanochat import NanoChat, NanoChatConfig
from ostinato.weights.gguf_blocks import BlockType
from ostinato.weights.gguf_write import export_gguf

TEXT = inspect.getsource(textwrap)  # a module that hardly changes from one Python to the next
LENGTH, WINDOWS = 128, 8


def trained(**settings: Any) -> tuple[NanoChat, torch.Tensor]:
    """A model that has learnt the text, and tokens of it to run on."""
    tokenizer = BytePairTokenizer.train([TEXT], 512)
    model = taught(tokenizer, tokenizer.encode(TEXT), **settings)
    row = torch.tensor(tokenizer.encode(TEXT))
    return model, row[: WINDOWS * LENGTH].view(WINDOWS, LENGTH)


def taught(tokenizer: BytePairTokenizer, tokens: list[int], **settings: Any) -> NanoChat:
    """A model that has learnt these tokens."""
    row = torch.tensor(tokens)
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
    return model.eval()


def tokenized(llama: LlamaCpp, text: str) -> list[int]:
    """The tokens that llama.cpp makes of a text with the tokenizer in the file."""
    library, data = llama.library, text.encode()
    library.llama_model_get_vocab.restype = ctypes.c_void_p
    vocabulary = library.llama_model_get_vocab(ctypes.c_void_p(llama.model))
    tokens = (ctypes.c_int32 * (len(data) + 1))()
    place = ctypes.c_void_p(vocabulary)
    count = library.llama_tokenize(place, data, len(data), tokens, len(tokens), True, False)
    return list(tokens[:count])


def worst_and_same(
    path: Path, model: NanoChat, tokens: torch.Tensor, f32: bool = False
) -> tuple[float, float]:
    """Largest difference of llama.cpp's logits from the model's, as a share of the largest logit of
    the window; and the share of tokens with the same likeliest next one."""
    pytest.importorskip("xllamacpp")
    llama = LlamaCpp(path, model.config.vocab_size, LENGTH, torch.get_num_threads(), f32)
    assert tokenized(llama, TEXT)[:LENGTH] == tokens[0].tolist()
    worst, same = 0.0, 0
    for window in tokens:
        llama.clear()
        theirs = torch.stack([torch.tensor(llama.read([token])) for token in window.tolist()])
        with torch.no_grad():
            ours = model(window[None])[0]
        worst = max(worst, ((theirs - ours).abs().max() / ours.abs().max()).item())
        same += int((theirs.argmax(-1) == ours.argmax(-1)).sum())
    llama.close()
    print(f"largest difference {worst:.2e}, {same} of {tokens.numel()} likeliest tokens the same")
    return worst, same / tokens.numel()


def with_exact_activations(model: NanoChat) -> NanoChat:
    """The same weights, with activations that are not quantised."""
    exact = NanoChat(replace(model.config, quantize_activations=False))
    exact.load_state_dict(model.state_dict())
    return exact


ANSWERS = {
    "What colour is the sky?": "The sky is blue.",
    "What colour is grass?": "Grass is green.",
    "What is the capital of France?": "The capital of France is Paris.",
    "What is the capital of Spain?": "The capital of Spain is Madrid.",
    "Who are you?": "I am a very small model, and I say what I have read.",
}
HELD_OUT = ["What colour is the capital of France?", "Who is the sky?", "Paris is blue", "grass"]


@pytest.mark.slow
def test_llama_cpp_chats_as_we_do(tmp_path: Path):
    """Its own chat, with the template in the file, gives the greedy answers of `ostinato chat`."""
    xllamacpp = pytest.importorskip("xllamacpp")
    tokenizer = BytePairTokenizer.train([*ANSWERS, *ANSWERS.values()], 300).with_turns()
    conversations = [
        conversation_tokens(tokenizer, [Message("user", question), Message("assistant", answer)])
        for question, answer in ANSWERS.items()
    ]
    tokens = [token for tokens in 20 * conversations for token in tokens]
    model = taught(tokenizer, tokens, activation_group_size=32)
    model.chat_template = CHATML
    export_gguf(model, tmp_path / "chat.gguf", torch.tensor([conversations[0]]), block_type="q4_0")
    settings = xllamacpp.CommonParams()
    settings.model.path = str(tmp_path / "chat.gguf")
    settings.n_ctx, settings.n_parallel, settings.sampling.temp = LENGTH, 1, 0.0
    settings.cpuparams.n_threads = 1
    server = xllamacpp.Server(settings)
    dialogue = Dialogue(model, tokenizer, Sampling(temperature=0.0), max_tokens=24)
    for question in [*ANSWERS, *HELD_OUT]:
        messages = [{"role": "user", "content": question}]
        request = {"messages": messages, "temperature": 0, "max_tokens": 24}
        theirs = server.handle_chat_completions(request)
        dialogue.reset()
        ours = "".join(piece.text for piece in dialogue.ask(question))
        asked = prompt_tokens(tokenizer, [Message("user", question)])
        assert theirs["usage"]["prompt_tokens"] == len(asked)
        assert theirs["choices"][0]["message"]["content"].strip() == ours.strip()


FORMS = [
    pytest.param({"num_kv_heads": 2}, "q4_0", 32, id="grouped keys"),
    pytest.param({"group_size": 256, "tied_head": False}, "tq2_0", 256, id="head of its own"),
    pytest.param({"sub_norm": True}, "q4_0", 32, id="SubLN"),
]
"""Settings, blocks that hold them, and the inputs that share an int8 scale in llama.cpp there."""


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "blocks", "inputs"), FORMS)
def test_a_model_trained_for_llama_cpp_is_the_same_there(
    settings: dict[str, Any], blocks: BlockType, inputs: int, tmp_path: Path
):
    """Logits within 2 % of the largest, and the same likeliest token for 99 % of 1024 tokens."""
    model, tokens = trained(**settings, activation_group_size=inputs)
    export_gguf(model, tmp_path / "model.gguf", tokens[:1], block_type=blocks)
    worst, same = worst_and_same(tmp_path / "model.gguf", model, tokens)
    assert worst <= 0.02 and same >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "blocks", "inputs"), FORMS)
def test_a_model_with_a_scale_a_token_is_near_there(
    settings: dict[str, Any], blocks: BlockType, inputs: int, tmp_path: Path
):
    """Without int8 anywhere the file is the function of the model, but for rounding; with it, its
    scales are not those of llama.cpp: 6 %, and 98 % of the tokens."""
    model, tokens = trained(**settings)
    export_gguf(model, tmp_path / "exact.gguf", tokens[:1], block_type="f32")
    worst, same = worst_and_same(
        tmp_path / "exact.gguf", with_exact_activations(model), tokens, f32=True
    )
    assert worst <= 1e-4 and same >= 0.999
    export_gguf(model, tmp_path / "model.gguf", tokens[:1], block_type=blocks)
    worst, same = worst_and_same(tmp_path / "model.gguf", model, tokens)
    assert worst <= 0.06 and same >= 0.98
