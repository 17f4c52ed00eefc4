"""Motion between two small grey images by matching blocks, from coarse to fine, then to fractions of a pixel.

A cell is a square of `CELL` pixels; its block is it and the eight around it, so that blocks overlap. A flow says where
the surface at a cell was before: now(p) = before(p + flow), as in `ops.flow`. The search is exhaustive around a start;
the last step is that of Lucas and Kanade (1981), which leaves an exact match of whole pixels as it is.

Letters: H W image, h w cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.ops.align import sampled, slopes

CELL = 4

LEVELS = 3
"""Of the pyramid of images, each half as large as the one below."""

REACH = (1, 2, 4)
"""Pixels searched in each direction at each level, finest first."""

PREFER = 0.05
"""Grey levels per pixel by which another place than the start must fit better: flat surfaces stay where they are."""

STEPS, DAMPING = 3, 4.0
"""Of the refinement. The damping, in squared grey levels per pixel, keeps flat surfaces still."""


def block_motion(now: Tensor, before: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Flow (h, w, 2) in pixels, x before y, and the mean absolute difference that is left in each block (h, w).

    now, before: (H, W) float32, at least one cell high and wide. start (h, w, 2): a guess, else no motion.
    """
    height, width = now.shape
    pyramid = [(now, before)]
    while len(pyramid) < LEVELS and min(pyramid[-1][0].shape) >= 6 * CELL:
        pyramid.append((_halved(pyramid[-1][0]), _halved(pyramid[-1][1])))
    flow = now.new_zeros((*cells(height, width), 2)) if start is None else start
    for level in reversed(range(len(pyramid))):
        a, b = pyramid[level]
        flow = _resized(flow / 2**level if level == len(pyramid) - 1 else flow * 2, cells(*a.shape))
        flow = searched(a, b, flow.round(), REACH[level])
        flow = _median(flow)
    return _refined(now, before, flow)


def cells(height: int, width: int) -> tuple[int, int]:
    """How many cells an image has, the last of each row and column cut off at its border."""
    return -(-height // CELL), -(-width // CELL)


def centres(height: int, width: int) -> Tensor:
    """(h, w, 2): x, y of the cells' centres in continuous pixels."""
    y, x = ((torch.arange(n, dtype=torch.float32) + 0.5) * CELL for n in cells(height, width))
    return torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), dim=2)


def _halved(image: Tensor) -> Tensor:
    return F.avg_pool2d(image[None, None], 2, ceil_mode=True, count_include_pad=False)[0, 0]


def _resized(flow: Tensor, size: tuple[int, int]) -> Tensor:
    if flow.shape[:2] == size:
        return flow
    return F.interpolate(flow.permute(2, 0, 1)[None], size, mode="nearest")[0].permute(1, 2, 0)


def _pixels(flow: Tensor, height: int, width: int) -> Tensor:
    """(h, w, 2) of cells to (H, W, 2) of their pixels."""
    return flow.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)[:height, :width]


def _blocks(values: Tensor) -> Tensor:
    """(..., H, W) to the means over the blocks (..., h, w): of a cell and the eight around it, inside the image."""
    height, width = values.shape[-2:]
    h, w = cells(height, width)
    flat = values.reshape(-1, 1, height, width)
    flat = F.pad(flat, (0, w * CELL - width, 0, h * CELL - height), mode="replicate")
    own = flat.reshape(-1, h, CELL, w, CELL).mean(dim=(2, 4))
    return F.avg_pool2d(own, 3, 1, padding=1, count_include_pad=False).reshape(*values.shape[:-2], h, w)


def searched(now: Tensor, before: Tensor, start: Tensor, reach: int) -> Tensor:
    """The best whole displacement within `reach` of the start (h, w, 2), which is whole too, for each block."""
    height, width = now.shape
    margin = reach + int(start.abs().max())
    wide = F.pad(before[None, None], (margin,) * 4, mode="replicate")[0, 0]
    step = _pixels(start, height, width).long()
    row, column = torch.arange(margin, margin + height)[:, None], torch.arange(margin, margin + width)
    at = (row + step[..., 1]) * wide.shape[1] + column + step[..., 0]
    offsets = [(dx, dy) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    costs = torch.empty(len(offsets), *start.shape[:2])
    for i, (dx, dy) in enumerate(offsets):
        moved = wide.take(at + (dy * wide.shape[1] + dx))
        costs[i] = _blocks(moved.sub_(now).abs_()) + PREFER * (dx * dx + dy * dy) ** 0.5
    best = torch.tensor(offsets, dtype=torch.float32)[costs.argmin(dim=0)]
    return start + best


def _median(flow: Tensor) -> Tensor:
    """Each component's median over 3 x 3 cells."""
    around = F.pad(flow.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")[0]
    return around.unfold(1, 3, 1).unfold(2, 3, 1).flatten(3).median(dim=3).values.permute(1, 2, 0)


def _refined(now: Tensor, before: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Newton steps of every block, each at most one pixel from the search; and the differences left."""
    searched = flow
    for _ in range(STEPS):
        moved = _sampled(before, flow)
        dx, dy = slopes(moved)
        error = now - moved
        xx, yy, xy, xe, ye = _blocks(torch.stack([dx * dx, dy * dy, dx * dy, dx * error, dy * error]))
        xx, yy = xx + DAMPING, yy + DAMPING
        step = torch.stack([yy * xe - xy * ye, xx * ye - xy * xe], dim=2) / (xx * yy - xy * xy)[..., None]
        flow = searched + (flow + step - searched).clamp_(-1, 1)
    return flow, _blocks((now - _sampled(before, flow)).abs_()[None])[0]


def _sampled(image: Tensor, flow: Tensor) -> Tensor:
    """The image at p + flow."""
    height, width = image.shape
    centre = torch.stack(torch.meshgrid(torch.arange(width) + 0.5, torch.arange(height) + 0.5, indexing="xy"), dim=2)
    return sampled(image, centre + _pixels(flow, height, width))
