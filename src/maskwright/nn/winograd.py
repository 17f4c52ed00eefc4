"""3x3 convolution with a quarter of the multiplications: Winograd's F(4x4, 3x3) (Lavin and Gray 2015).

The picture is cut into 6x6 windows that overlap by two. In a transformed domain the convolution of a window is 36
independent products of channel vectors with channel matrices; transformed back they are a 4x4 tile of the result.
Direct convolution multiplies 4 x 4 x 9 = 144 times for each pair of channels and tile, this 36 times. In float32 the
result differs from the direct one by about 1e-5 of its size; the transform is too coarse for 16-bit types.

Letters: B batch, C input and O output channels, H W map, y x tiles of a map, T tiles worked on together.
"""

import torch
from torch import Tensor, nn

from maskwright.ops import memory

TILES = 304
"""Tiles worked on together: their 36-fold transforms (2 x 11 MB at 256 channels) then stay in the cache."""

# Interpolation at 0, 1, -1, 2, -2 and infinity.
_INPUT = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
          (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1))  # fmt: skip
_KERNEL = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
           (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))  # fmt: skip
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def _both_axes(rows: tuple[tuple[float, ...], ...]) -> Tensor:
    """The matrix that applies `rows` along both axes of a flattened window."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix)


class Winograd(nn.Module):
    """Same-size 3x3 convolution with bias, then ReLU where asked for, on float32 maps in channels_last memory."""

    def __init__(self, weight: Tensor, bias: Tensor, *, relu: bool) -> None:
        super().__init__()
        self.relu, self.channels = relu, weight.shape[0]
        kernel = _both_axes(_KERNEL) @ weight.detach().double().flatten(2).permute(2, 0, 1).flatten(1)  # (36, O*C)
        self.register_buffer("kernel", kernel.view(-1, weight.shape[1], 1, 1).float(), persistent=False)  # (36*O, C)
        self.register_buffer("bias", bias.detach().float(), persistent=False)
        self.register_buffer("forth", _both_axes(_INPUT).float(), persistent=False)  # (36, 36)
        self.register_buffer("back", _both_axes(_OUTPUT).float(), persistent=False)  # (16, 36)

    kernel: Tensor
    bias: Tensor
    forth: Tensor
    back: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W)."""
        maps = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        tiles = -(-maps.shape[1] // 4), -(-maps.shape[2] // 4)
        out = memory.empty((*maps.shape[:3], self.channels), x.dtype)
        together = max(1, TILES // (tiles[0] * tiles[1]))  # small maps: several at once
        height = max(1, round(TILES / tiles[1]))  # large ones: in strips
        for first in range(0, len(maps), together):
            for top in range(0, tiles[0], height):
                strip = slice(first, first + together), slice(4 * top, 4 * (top + height))
                self._strip(maps[strip[0]], out[strip], 4 * top)
        return out.permute(0, 3, 1, 2)

    def _strip(self, maps: Tensor, out: Tensor, top: int) -> None:
        """Rows `top` ... of `maps` (b, H, W, C), with a border of one, to `out` (b, rows, W, O)."""
        b, rows, width = out.shape[:3]
        y, x = -(-rows // 4), -(-width // 4)
        window = maps.new_zeros((b, 4 * y + 2, 4 * x + 2, maps.shape[3]))
        above, below = max(top - 1, 0), min(top + 4 * y + 1, maps.shape[1])
        window[:, above - top + 1 : below - top + 1, 1 : width + 1] = maps[:, above:below]
        s = window.stride()
        windows = window.as_strided((b, y, x, 6, 6, maps.shape[3]), (s[0], 4 * s[1], 4 * s[2], s[1], s[2], 1))
        tiles = self._tiles(windows.reshape(b * y * x, 36, maps.shape[3]))
        tiles = tiles.view(b, y, x, 4, 4, self.channels).permute(0, 1, 3, 2, 4, 5)  # (b, y, 4, x, 4, O)
        if (rows, width) == (4 * y, 4 * x):
            out.view(b, y, 4, x, 4, self.channels).copy_(tiles)
        else:
            out.copy_(tiles.reshape(b, 4 * y, 4 * x, self.channels)[:, :rows, :width])

    def _tiles(self, windows: Tensor) -> Tensor:
        """Windows (T, 36, C) to result tiles (T, 16, O)."""
        count, _, channels = windows.shape
        forth = torch.bmm(self.forth.expand(count, 36, 36), windows)  # (T, 36, C)
        # 36 products of (T, C) with (C, O): a 1x1 convolution with 36 groups.
        lines = forth.view(1, count, 1, 36 * channels).permute(0, 3, 1, 2)
        product = torch.conv2d(lines, self.kernel, groups=36).permute(0, 2, 3, 1)  # (1, T, 1, 36*O)
        tiles = torch.bmm(self.back.expand(count, 16, 36), product.reshape(count, 36, self.channels))
        tiles += self.bias
        return tiles.relu_() if self.relu else tiles
