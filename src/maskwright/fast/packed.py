"""Kernels in the block order in which the processor's products read them.

oneDNN brings a kernel into that order at every call unless it is there already. The order depends on the number of
rows that are multiplied and on the number of threads; a kernel in another order than the wanted one is brought into it
slowly, so the order is asked for before a kernel is used.

Letters: G groups, O output and C input channels of a group, T rows.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

KEPT = 2
"""Orders of one kernel that are kept at a time."""

SIZES = 16
"""Sizes of inputs whose order is remembered at a time."""

_OPS = torch.ops.mkldnn
_AVAILABLE = torch.backends.mkldnn.is_available() and all(
    hasattr(_OPS, name)
    for name in ("_convolution_pointwise", "_reorder_convolution_weight", "_get_mkldnn_serialized_md")
)


class GroupedProduct:
    """G products of (T, C) with (C, O) at once, each with a bias (O,), in float32 on a CPU.

    kernel: makes the matrices as (G, O, C); it is called again whenever another order is wanted. bias: (G, O).
    """

    def __init__(self, kernel: Callable[[], Tensor], bias: Tensor) -> None:
        self.kernel, self.groups, self.bias = kernel, bias.shape[0], bias.flatten()
        self.plain = None if _AVAILABLE else self._made()
        self.packed: dict[bytes, Tensor] = {}

    def __call__(self, rows: Tensor) -> Tensor:
        """(T, G, C) to (T, G, O), both contiguous."""
        count, _, channels = rows.shape
        lines = rows.view(1, count, 1, self.groups * channels).permute(0, 3, 1, 2)
        if self.plain is not None:
            product = torch.conv2d(lines, self.plain, self.bias, groups=self.groups)
        else:
            shape = ([0, 0], [1, 1], [1, 1], self.groups)
            product = _OPS._convolution_pointwise(lines, self._for(count, channels), self.bias, *shape, "none", [], "")
        return product.permute(0, 2, 3, 1).reshape(count, self.groups, -1)

    def _for(self, count: int, channels: int) -> Tensor:
        outputs = len(self.bias) // self.groups
        wanted = order(self.groups, outputs, channels, count, torch.get_num_threads())
        if wanted not in self.packed:
            while len(self.packed) >= KEPT:
                del self.packed[next(iter(self.packed))]
            self.packed[wanted] = _pack(self._made(), self.groups, count)
        return self.packed[wanted]

    def _made(self) -> Tensor:
        kernel = self.kernel()
        return kernel.flatten(0, 1)[:, :, None, None]


class PackedKernel:
    """The kernel of a convolution on a CPU, (O, C / groups, h, w), for inputs of several sizes.

    Inputs of other sizes mostly want the same order, which is kept once. The kernel is not: it is passed at every use.
    """

    def __init__(self, padding: Sequence[int], stride: Sequence[int], dilation: Sequence[int], groups: int) -> None:
        self.how = (list(padding), list(stride), list(dilation), groups)
        self.packed: dict[tuple[int, ...], Tensor] = {}

    def of(self, kernel: Tensor, size: Sequence[int]) -> Tensor:
        """The kernel for an input of `size` (B, C, H, W), for the current number of threads."""
        if not _AVAILABLE:
            return kernel
        key = (torch.get_num_threads(), *size)
        packed = self.packed.get(key)
        if packed is None:
            made: Tensor = _OPS._reorder_convolution_weight(kernel, *self.how, list(size))
            known = list(self.packed.values())  # other threads may add to it
            packed = {_description(other): other for other in known}.get(_description(made), made)
            if len(known) >= SIZES:
                self.packed.clear()
            self.packed[key] = packed
        return packed


@functools.lru_cache(maxsize=4096)
def order(groups: int, outputs: int, inputs: int, count: int, threads: int) -> bytes:
    """oneDNN's description of the kernel that it wants for `count` rows on this many threads (the current number)."""
    del threads
    return _description(_pack(torch.empty(groups * outputs, inputs, 1, 1), groups, count))


def _description(packed: Tensor) -> bytes:
    return bytes(_OPS._get_mkldnn_serialized_md(packed).numpy())


def _pack(kernel: Tensor, groups: int, count: int) -> Tensor:
    size = [1, groups * kernel.shape[1], count, 1]
    packed: Tensor = _OPS._reorder_convolution_weight(kernel, [0, 0], [1, 1], [1, 1], groups, size)
    return packed
