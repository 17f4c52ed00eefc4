"""Allocation of large results, and return of freed memory to the system."""

import ctypes
import sys

import numpy as np
import torch
from torch import Tensor

HUGE_BYTES = 4 << 20
"""Smallest result for which huge pages pay."""


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised, contiguous CPU tensor, 64-byte aligned; a large one uses huge pages where the system has them.

    NumPy requests huge pages and PyTorch by default does not. A fresh result then causes 512 times fewer page faults,
    which for a feature map would take as long as the arithmetic.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    if size < HUGE_BYTES:
        return torch.empty(shape, dtype=dtype)
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return torch.from_numpy(memory[start : start + size]).view(dtype).view(shape)


def give_back() -> None:
    """Return freed memory to the system where the C library would keep it (glibc); elsewhere do nothing.

    After a model has been loaded this is about the size of its weights: the file's copy and the unfolded tensors.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
