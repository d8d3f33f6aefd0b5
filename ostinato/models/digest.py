"""The hash that tells damaged tensors, since safetensors itself does not notice a flipped bit."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a text and of tensors: names, dtypes, shapes, bytes."""
    content = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        content.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().reshape(-1)
        content.update(flat.view(torch.uint8).numpy().data)
    return content.hexdigest()
