"""bf16 on this device: whether matrix products support it, and whether they are fast."""

import platform

import torch

from maskwright.errors import ConfigError

_NEEDED = {"x86_64": "AVX-512 (or AVX-NE-CONVERT)", "amd64": "AVX-512 (or AVX-NE-CONVERT)"}
_NEEDED |= dict.fromkeys(("aarch64", "arm64"), "the BF16 extension of ARMv8.6")


def takes_bf16() -> bool:
    """Whether oneDNN multiplies bf16 matrices on this processor."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the device has instructions that multiply bf16 numbers, so that it needs about half the time."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities() if device.type == "cpu" and takes_bf16() else {}
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's


def require_bf16(device: torch.device) -> None:
    """Raises ConfigError where the processor cannot compute in bf16."""
    if device.type == "cpu" and not takes_bf16():
        needed = _NEEDED.get(platform.machine().lower(), "instructions for it")
        raise ConfigError(
            f"precision 'bf16' needs a processor with {needed}, which oneDNN does not find on this one "
            f"({platform.machine()}). Use 'float32': it finds the same objects, and bf16 would not be faster here.",
            options=("precision",),
        )
