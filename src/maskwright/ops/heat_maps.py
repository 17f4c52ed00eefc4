"""Maps of logits to answers on the image: the peak of a landmark's map, the class of every pixel.

Letters: N instances, P landmarks, M side of a map, S classes, h w cells, H W image.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.geometry import Geometry
from maskwright.types import FloatArray, IntArray, Size


def peaks(logits: Tensor, boxes: Tensor) -> FloatArray:
    """Where each landmark is and how sure that is: logits (N, P, M, M) over boxes (N, 4) to (N, P, 3) x, y, score.

    A map is enlarged to its box, bicubically and to whole pixels, and its highest value is the landmark. The score is
    the share of the peak in the softmax over the map, at most 1. As detectron2 does it (Mask R-CNN, section 5).
    """
    out = torch.zeros((*logits.shape[:2], 3))
    if not out.numel():
        return out.numpy()
    for row, maps, (x0, y0, x1, y1) in zip(out, logits, boxes.tolist(), strict=True):
        width, height = max(x1 - x0, 1.0), max(y1 - y0, 1.0)
        columns, rows = math.ceil(width), math.ceil(height)
        large = F.interpolate(maps[None], (rows, columns), mode="bicubic", align_corners=False)[0].flatten(1)
        best, at = large.max(dim=1)
        row[:, 0] = x0 + (at % columns + 0.5) * (width / columns)
        row[:, 1] = y0 + (at // columns + 0.5) * (height / rows)
        row[:, 2] = (best - maps.flatten(1).logsumexp(dim=1)).exp().clamp(max=1)
    return out.numpy()


def class_of_pixels(logits: Tensor, span: Size, geometry: Geometry) -> IntArray:
    """The best class of every pixel: logits (S, h, w) that span an input of size `span` to labels (H, W).

    geometry: the map image -> input. The maps are enlarged to the input, its padding is cut off, and they are brought
    to the image's size, both times bilinearly. One class at a time: memory does not grow with their number.
    """
    (height, width), size = geometry.size, geometry.source
    best, label = torch.full(size, -torch.inf), torch.zeros(size, dtype=torch.int64)
    for k in range(len(logits)):
        wide = F.interpolate(logits[k][None, None], span, mode="bilinear", align_corners=False)[..., :height, :width]
        value = F.interpolate(wide, size, mode="bilinear", align_corners=False)[0, 0]
        label[value > best] = k
        best = torch.maximum(best, value)
    return label.numpy()
