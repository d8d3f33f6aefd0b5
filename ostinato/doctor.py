"""Check that this machine can do what the models need, on every device and in every dtype."""

import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import torch

from ostinato.inference.generate import next_tokens
from ostinato.inference.sampling import Sampling
from ostinato.models import NanoChat, NanoChatConfig
from ostinato.weights.load import load
from ostinato.weights.save import save_weights

PACKAGES = "ostinato torch numpy safetensors tokenizers gguf".split()
SMALL = NanoChatConfig(vocab_size=64, seq_len=16, hidden_size=128, num_layers=2, num_heads=4)
TOKENS = 4
AGREEMENT = {torch.float32: 1e-3, torch.bfloat16: 0.2}
"""Largest distance of logits from those of the CPU in float64, relative to the largest logit. It
allows for int8 activations, which take another integer where a rounding differs."""


@dataclass(frozen=True)
class Finding:
    """The result for one device and dtype."""

    device: str
    dtype: str
    error: str
    """The error; empty if all went well."""


def versions() -> dict[str, str]:
    """Return the versions of Python, the system and the packages that matter; "absent" if
    missing."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found | {"cuda": str(torch.version.cuda or "absent")}


def devices() -> list[str]:
    """Return the CPU and every accelerator that PyTorch sees."""
    found = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def examine() -> Iterator[Finding]:
    """Try every device in every dtype."""
    for device in devices():
        for dtype in AGREEMENT:
            name = str(dtype).removeprefix("torch.")
            try:
                try_out(torch.device(device), dtype)
            except (RuntimeError, ValueError, OSError) as error:  # whatever is wrong is the result
                yield Finding(device, name, " ".join(str(error).split()) or type(error).__name__)
            else:
                yield Finding(device, name, "")


def try_out(device: torch.device, dtype: torch.dtype) -> None:
    """Try forward, backward, an update, writing, reading and generating; raise if any goes
    wrong."""
    config = replace(SMALL, forward_dtype=str(dtype).removeprefix("torch."))
    model = NanoChat(config, torch.Generator().manual_seed(0)).to(device)
    tokens = torch.arange(SMALL.seq_len, device=device)[None]
    exact = NanoChat(replace(SMALL, forward_dtype="float64"), torch.Generator().manual_seed(0))
    wanted = exact.double()(tokens.cpu())
    logits = model(tokens)
    error = ((logits.double().cpu() - wanted).abs().max() / wanted.abs().max()).item()
    if not error <= AGREEMENT[dtype]:
        raise ValueError(f"the forward pass is off by {error:.2g} of the largest logit")
    logits.float().log_softmax(-1)[..., 0].mean().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is None or not parameter.grad.isfinite().all():
            raise ValueError(f"the backward pass gives no finite gradient for {name}")
    torch.optim.AdamW(model.parameters()).step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_weights(path, model)
        again = load(path, device, kind=NanoChat)
    for name, tensor in again.state_dict().items():
        if not torch.equal(tensor, model.state_dict()[name]):
            raise ValueError(f"{name} is not read as it was written")
    continued = next_tokens(again, [1, 2, 3], Sampling(temperature=0.0))
    if len([token for token, _ in zip(continued, range(TOKENS), strict=False)]) != TOKENS:
        raise ValueError("generation ended early")
