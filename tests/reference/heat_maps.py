"""Peaks of landmarks' maps with plain loops, and the class of each pixel from maps that are all enlarged at once."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def peaks(maps, box):
    """(P, M, M) logits over a box to a list of [x, y, score]."""
    x0, y0, x1, y1 = box
    width, height = max(x1 - x0, 1), max(y1 - y0, 1)
    columns, rows = math.ceil(width), math.ceil(height)
    out = []
    for single in maps:
        total = sum(math.exp(float(v) - float(single.max())) for v in single.ravel())
        large = F.interpolate(
            torch.from_numpy(np.array(single))[None, None], (rows, columns), mode="bicubic", align_corners=False
        )[0, 0].tolist()
        best = (-math.inf, 0, 0)
        for i in range(rows):
            for j in range(columns):
                if large[i][j] > best[0]:
                    best = (large[i][j], i, j)
        value, i, j = best
        x, y = x0 + (j + 0.5) * width / columns, y0 + (i + 0.5) * height / rows
        out.append([x, y, min(1.0, math.exp(value - float(single.max())) / total)])
    return out


def class_of_pixels(logits, span, size, source):
    """(S, h, w) logits that span `span` to (H, W) labels of an image of `source` that fills `size` of the input."""
    wide = F.interpolate(logits[None], span, mode="bilinear", align_corners=False)[..., : size[0], : size[1]]
    return F.interpolate(wide, source, mode="bilinear", align_corners=False)[0].argmax(dim=0).numpy()
