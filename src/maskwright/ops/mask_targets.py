"""Targets of the R-CNN mask branch: ground-truth masks cropped to their RoIs and resampled to M x M.

Letters: R RoIs, M mask side, S samples per bin, h w crop of a mask, H W image.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwright.types import Masks

CHUNK_BYTES = 64 * 2**20


def from_bitmaps(masks: Masks, rows: Tensor, boxes: Tensor, side: int, *, aligned: bool) -> Tensor:
    """(R, M, M) float32 in [0, 1]: RoIAlign with adaptive sampling of mask `rows[r]` at `boxes[r]`.

    rows: (R,) int64. boxes: (R, 4) in the masks' frame. side: M. aligned: RoIAlign with (detectron2) or without
    (torchvision) the half-pixel shift. Equal to RoIAlign on the whole image, but works on the crops only.
    """
    out = torch.zeros((len(rows), side, side))
    if not len(rows):
        return out.to(rows.device)
    index, boxes = rows.cpu().numpy(), boxes.detach().float().cpu()
    extent = np.array([c.shape for c in masks.bitmaps]).reshape(-1, 2)[index].max(axis=0).clip(min=1)
    chunk = max(1, CHUNK_BYTES // (4 * int(extent[0]) * int(extent[1])))
    for start in range(0, len(index), chunk):
        part = slice(start, start + chunk)
        crops = np.zeros((len(index[part]), *extent), np.float32)
        for row, i in zip(crops, index[part], strict=True):
            row[: masks.bitmaps[i].shape[0], : masks.bitmaps[i].shape[1]] = masks.bitmaps[i]
        corner = torch.from_numpy(masks.corners[index[part]])
        x0, y0, x1, y1 = boxes[part].unbind(1)
        by_y = _axis_weights(y0, y1, corner[:, 0], int(extent[0]), masks.size[0], side, aligned=aligned)
        by_x = _axis_weights(x0, x1, corner[:, 1], int(extent[1]), masks.size[1], side, aligned=aligned)
        out[part] = by_y @ torch.from_numpy(crops) @ by_x.transpose(1, 2)
    return out.to(rows.device)


def _axis_weights(
    low: Tensor, high: Tensor, first: Tensor, length: int, limit: int, side: int, *, aligned: bool
) -> Tensor:
    """(R, M, length): weight of each pixel of the crop in each bin along one axis.

    Bilinear interpolation and the mean over a bin's samples are separable, so RoIAlign is one such matrix per axis.
    A sample more than one pixel outside the image counts as zero; others are clamped to the border pixel.
    """
    low, high = (low - 0.5, high - 0.5) if aligned else (low, high)
    extent = high - low if aligned else (high - low).clamp(min=1.0)
    bin_size = extent / side  # (R,)
    samples = torch.ceil(bin_size)  # per bin; none where the box has no extent
    counts = samples.clamp(min=1)
    s = torch.arange(int(counts.max()), dtype=torch.float32)  # (S,)
    used = s[None] < samples[:, None]  # (R, S)
    inside = (s[None] + 0.5) * (bin_size / counts)[:, None]  # (R, S) offset in the bin
    position = low[:, None, None] + torch.arange(side)[None, :, None] * bin_size[:, None, None] + inside[:, None]
    used = used[:, None] & (position >= -1) & (position <= limit)  # (R, M, S)
    position = position.clamp(0, limit - 1)
    cell = position.floor().clamp(max=max(limit - 2, 0))
    far = position - cell
    weights = torch.zeros((len(low), side, length))
    for taps, share in ((cell, 1 - far), (cell + 1, far)):
        column = taps.long() - first[:, None, None]
        valid = used & (column >= 0) & (column < length)
        weights.scatter_add_(2, column.clamp(0, length - 1), torch.where(valid, share, 0.0))
    return weights / counts[:, None, None]


def from_polygons(polygons: Sequence[Sequence[NDArray[np.float64]]], rows: Tensor, boxes: Tensor, side: int) -> Tensor:
    """(R, M, M) float32, 0 or 1: the polygons of object `rows[r]`, scaled so that `boxes[r]` fills M x M, rasterised.

    polygons: per object a list of flat x0, y0, x1, y1, ... arrays. Rasterised by the COCO API's rule, as in
    detectron2; box sides below 0.1 pixel count as 0.1.
    """
    from hotcoco import mask as rle

    out = np.zeros((len(rows), side, side), np.float32)
    for target, row, box in zip(out, rows.tolist(), boxes.detach().double().cpu().numpy(), strict=True):
        scale = side / np.maximum(box[2:] - box[:2], 0.1)
        parts = [((np.asarray(p).reshape(-1, 2) - box[:2]) * scale).ravel().tolist() for p in polygons[row]]
        if parts:
            target[:] = rle.decode(rle.merge([rle.fr_poly(part, side, side) for part in parts]))
    return torch.from_numpy(out).to(rows.device)
