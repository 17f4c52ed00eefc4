import platform
from pathlib import Path

import numpy as np
import pytest
import torch

from maskwright.ops import memory


@pytest.mark.parametrize("shape", [(0,), (3, 5), (1 << 10, 1 << 11), (7, 1 << 18)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_empty_is_an_aligned_contiguous_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    made = memory.empty(shape, dtype)
    assert (tuple(made.shape), made.dtype) == (shape, dtype)
    assert made.is_contiguous()
    assert made.data_ptr() % 64 == 0
    made.fill_(1)
    assert bool((made == 1).all())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give memory back by themselves")
def test_freed_memory_is_given_back() -> None:
    """Below a block that is kept, glibc keeps what was freed."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    blocks = [np.ones(100_000, np.uint8) for _ in range(1000)]
    kept = blocks[-1]
    del blocks
    before = resident()
    memory.give_back()
    pages = 100_000 * 1000 // 4096
    assert resident() < before - pages // 2
    assert kept.all()
