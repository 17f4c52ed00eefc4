"""Memory for large results, and what is no longer needed."""

import ctypes
import sys

import numpy as np
import torch
from torch import Tensor

HUGE_BYTES = 4 << 20
"""Results from this size on are worth huge pages."""


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised CPU tensor, contiguous; a big one lies in huge pages where the system has them.

    NumPy asks the system for them and PyTorch by default does not; a fresh result then costs 512 times fewer page
    faults, which for a feature map take as long as the arithmetic.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    if size < HUGE_BYTES:
        return torch.empty(shape, dtype=dtype)
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return torch.from_numpy(memory[start : start + size]).view(dtype).view(shape)


def give_back() -> None:
    """Hand freed memory back to the system where the C library would keep it (glibc); elsewhere nothing.

    After a model is loaded that is about as much as its weights: what was read, and what was folded.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
