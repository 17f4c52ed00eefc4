"""Mask targets from whole images."""

import numpy as np
import torch
from pycocotools import mask as coco
from torch import Tensor
from torchvision.ops import roi_align

from maskwright.types import Masks


def from_bitmaps(masks: Masks, rows: Tensor, boxes: Tensor, side: int, aligned: bool) -> Tensor:
    """RoIAlign over dense images, adaptive sampling."""
    dense = torch.from_numpy(masks.dense()[rows.numpy()].astype(np.float32))[:, None]
    rois = torch.cat([torch.arange(len(rows))[:, None].float(), boxes], 1)
    return roi_align(dense, rois, side, 1.0, sampling_ratio=-1, aligned=aligned)[:, 0]


def from_polygons(polygons, rows: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Each polygon moved into its box's frame and rasterised by the COCO API."""
    out = np.zeros((len(rows), side, side), np.float32)
    for r, (row, box) in enumerate(zip(rows.tolist(), boxes.double().tolist(), strict=True)):
        width, height = max(box[2] - box[0], 0.1), max(box[3] - box[1], 0.1)
        parts = []
        for polygon in polygons[row]:
            flat = list(polygon)
            flat[0::2] = [(x - box[0]) * (side / width) for x in flat[0::2]]
            flat[1::2] = [(y - box[1]) * (side / height) for y in flat[1::2]]
            parts.append(flat)
        if parts:
            out[r] = coco.decode(coco.merge(coco.frPyObjects(parts, side, side)))
    return torch.from_numpy(out)
