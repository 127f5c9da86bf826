"""Where torch computes, and how to come back from there."""

import copy

import torch

__all__ = ["has_bfloat16", "on_cpu", "resolve_device"]


def resolve_device(name):
    """Return the torch device of that name, or raise if it is absent."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(
            "device should be 'auto' or one of torch's CPU, CUDA or MPS devices, such as 'cpu' or "
            f"'cuda:1'; got {name!r}."
        )
    absent = {
        "cpu": False,
        "cuda": (device.index or 0) >= torch.cuda.device_count(),
        "mps": not torch.backends.mps.is_available(),
    }
    if absent[device.type]:
        raise ValueError(
            f"device={name!r} was asked for, but torch finds no such device here; "
            "'auto' takes what there is, 'cpu' always works."
        )
    return device


def has_bfloat16(device):
    """Whether the device computes in bfloat16, rather than emulates it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def on_cpu(value):
    """Copy nested containers, with tensors and modules moved to the CPU."""
    if isinstance(value, torch.nn.Module):
        return copy.deepcopy(value).cpu()
    if isinstance(value, dict):
        return {key: on_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [on_cpu(item) for item in value]
    return value.cpu() if isinstance(value, torch.Tensor) else value
