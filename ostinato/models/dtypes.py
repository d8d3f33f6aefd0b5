"""The dtype that "auto" stands for, chosen here for training and for every verb."""

import torch


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 matrices as fast as float32 ones.

    A CPU needs special instructions, and oneDNN and PyTorch must use them
    (`ONEDNN_MAX_CPU_ISA=AVX2` or `ATEN_CPU_CAPABILITY=avx2` forbids it). Without them a product
    takes 5 to 500 times as long. Nothing is timed, so a machine always gives the same answer.
    """
    if device.type != "cpu":
        return True
    has = torch.cpu.get_capabilities().get
    x86 = has("avx512_bf16") or has("amx_bf16")
    if not (has("bf16") or (x86 and torch.backends.cpu.get_cpu_capability() == "AVX512")):
        return False
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def choose_dtype(wanted: str, device: torch.device, usual: str = "bfloat16") -> str:
    """Return `wanted`; for "auto", `usual`, or float32 if that is bfloat16 and slow on `device`."""
    if wanted != "auto":
        return wanted
    return "float32" if usual == "bfloat16" and not computes_in_bfloat16(device) else usual


def widest_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on a device that has nothing wider (Apple's Metal)."""
    return torch.float32 if device.type == "mps" else torch.float64


def dtype_named(name: str) -> torch.dtype:
    """Return the dtype of that name. Raises ValueError for "auto", which is not resolved yet."""
    if name == "auto":
        raise ValueError("forward_dtype is auto, which is no dtype: give bfloat16 or float32")
    return getattr(torch, name)
