"""Parts of a grey image found again in another: each by an affine map, in Gauss-Newton steps (Lucas and Kanade 1981).

All parts take their steps together. Pixels that fit badly, as where something else lies in front, count little; a part
may become brighter or darker as a whole. The slopes are those of the first image (Baker and Matthews 2004).

Letters: N parts, n sampled points of a part.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE = 8.0
"""Scale of the robust weight, in grey levels: a point with a residual of this size has the weight 1/4."""

LOOSE, STIFF, BRIGHTER = 3.0, 0.15, 10.0
"""Standard deviations that are expected beforehand: of the shift from the start in pixels, of the linear part, and of
the brightness in grey levels. Points are not independent: each counts as a quarter of one."""

STEPS = 8

REACH, PREFER, MOST = 6, 0.1, 40.0
"""Of the search for a start: pixels in each direction, in steps of two; grey levels per pixel; grey levels."""


def align(before: Tensor, now: Tensor, points: Tensor, weights: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """The maps (N, 2, 3) from `before` to `now` near `start`, and the weighted mean difference that is left (N,).

    before, now: (H, W) float32. points: (N, n, 2) x, y in continuous pixels of `before`. weights: (N, n), how much each
    counts. start: (N, 2, 3).
    """
    middle, half = _middle(points, weights)
    offset = (points - middle[:, None]) / half[:, None, None]  # (N, n, 2)
    wanted, (dx, dy) = sampled(before, points), (sampled(s, points) for s in slopes(before))
    ones = torch.ones_like(dx)
    rows = torch.stack([dx, dy, *(d * offset[..., k] for d in (dx, dy) for k in (0, 1)), ones], dim=2)  # (N, n, 7)
    linear = (STIFF * half)[:, None].expand(-1, 4)
    loose = torch.cat([half.new_full((len(half), 2), LOOSE), linear, half.new_full((len(half), 1), BRIGHTER)], dim=1)
    prior = 4 * NOISE**2 / loose.square()
    begin = values = _values(start, middle, half)
    for _ in range(STEPS):
        error = wanted - sampled(now, _moved(points, values, offset)) - values[:, None, 6]
        trust = weights / (1 + (error / NOISE).square()).square()
        weighted = rows * trust[..., None]
        normal = weighted.transpose(1, 2) @ rows + torch.diag_embed(prior)
        gain = (weighted.transpose(1, 2) @ error[..., None])[..., 0] - prior * (values - begin)
        values = values + torch.linalg.solve(normal, gain)
    error = (wanted - sampled(now, _moved(points, values, offset)) - values[:, None, 6]).abs()
    left = (error * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-6)
    return _maps(values, middle, half), left


def nearest_start(before: Tensor, now: Tensor, points: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    """Of the maps `starts` (S, N, 2, 3), and of each moved by up to `REACH` pixels, the one that fits each part best.

    Moved ones have to fit better by `PREFER` for each pixel. Differences above `MOST` count as that. See `align`.
    """
    steps = torch.arange(-REACH, REACH + 1, 2.0)
    shifts = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=2).reshape(-1, 2)  # (O, 2)
    wanted, share = sampled(before, points), weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
    best, costs = starts[0], torch.full((len(points),), float("inf"))
    for start in starts:
        there = points @ start[:, :, :2].transpose(1, 2) + start[:, None, :, 2]
        off = (sampled(now, there + shifts[:, None, None]) - wanted).abs().clamp_(max=MOST)  # (O, N, n)
        cost = (off * share).sum(dim=2) + PREFER * shifts.norm(dim=1)[:, None]
        least, which = cost.min(dim=0)
        moved = torch.cat([start[:, :, :2], (start[:, :, 2] + shifts[which])[..., None]], dim=2)
        best = torch.where((least < costs)[:, None, None], moved, best)
        costs = torch.minimum(least, costs)
    return best


def sampled(image: Tensor, points: Tensor) -> Tensor:
    """An image (H, W) at points (..., 2), bilinear, its border going on."""
    height, width = image.shape
    grid = points.reshape(1, 1, -1, 2) * points.new_tensor([2 / width, 2 / height]) - 1
    return F.grid_sample(image[None, None], grid, padding_mode="border", align_corners=False).view(points.shape[:-1])


def slopes(image: Tensor) -> tuple[Tensor, Tensor]:
    """The slopes of an image (H, W) along x and y, in grey levels per pixel."""
    padded = F.pad(image[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    return (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2, (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2


def _middle(points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The middle (N, 2) of the points that count, and half the size (N,) of the part."""
    share = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
    middle = (points * share[..., None]).sum(dim=1)
    spread = ((points - middle[:, None]).square().sum(dim=2) * share).sum(dim=1).sqrt()
    return middle, spread.clamp(min=1.0)


def _values(maps: Tensor, middle: Tensor, half: Tensor) -> Tensor:
    """Maps as (N, 7): the shift of the middle, the linear part in pixels at the distance `half`, the brightness 0."""
    there = (maps[:, :, :2] @ middle[..., None])[..., 0] + maps[:, :, 2]
    linear = (maps[:, :, :2] - torch.eye(2)) * half[:, None, None]
    return torch.cat([there - middle, linear.flatten(1), torch.zeros_like(half)[:, None]], dim=1)


def _maps(values: Tensor, middle: Tensor, half: Tensor) -> Tensor:
    linear = values[:, 2:6].view(-1, 2, 2) / half[:, None, None] + torch.eye(2)
    shift = middle + values[:, :2] - (linear @ middle[..., None])[..., 0]
    return torch.cat([linear, shift[..., None]], dim=2)


def _moved(points: Tensor, values: Tensor, offset: Tensor) -> Tensor:
    """Where the points (N, n, 2) go."""
    return points + offset @ values[:, 2:6].view(-1, 2, 2).transpose(1, 2) + values[:, None, :2]
