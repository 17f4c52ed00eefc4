"""What `Predictor.predict` is given: one image or several, in whatever form."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskwright import media
from maskwright.errors import ImageError


def listed(source: Any) -> list[Any] | None:
    """The images of a list, of a folder or pattern (see `media.find_images`) or of a tensor (B, 3, H, W); None for what
    is one image."""
    if isinstance(source, (list, tuple)):
        return [of_tensor(one) if isinstance(one, torch.Tensor) else one for one in source]
    if isinstance(source, torch.Tensor) and source.ndim == 4:
        return [of_tensor(one) for one in source]
    if isinstance(source, (str, os.PathLike)) and _names_several(source):
        return list(media.find_images([source]))
    return None


def _names_several(source: str | os.PathLike[str]) -> bool:
    text = str(source)
    if "://" in text:
        return False
    try:
        return Path(text).is_dir() or (any(c in text for c in "*?[") and not Path(text).exists())
    except (OSError, ValueError):  # a name that no system takes: `read_image` says so
        return False


def of_tensor(image: torch.Tensor) -> NDArray[np.uint8]:
    """(H, W) or (C, H, W), uint8 or floats in 0..1 as torchvision has them, to (H, W) or (H, W, C) uint8.

    Raises ImageError for other shapes, types and values, such as those of a normalised image.
    """
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[0] not in (1, 3, 4)):
        facts = f"got {tuple(image.shape)}"
        if image.ndim == 3 and image.shape[2] in (1, 3, 4):
            facts += "; permute(2, 0, 1) makes it so"
        raise ImageError(f"A tensor is one image as (3, H, W) or (H, W), or several as (B, 3, H, W); {facts}.")
    values = image.detach().to("cpu")
    if values.is_floating_point():
        low, high = (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)
        if not (low >= 0 and high <= 1):
            raise ImageError(
                f"A tensor of floats is an image in 0..1, got values from {low:g} to {high:g}. Give it as it was "
                "before it was normalised, or uint8 in 0..255."
            )
        values = (values.float() * 255).round().to(torch.uint8)
    if values.dtype != torch.uint8:
        raise ImageError(f"A tensor is an image of uint8 in 0..255 or of floats in 0..1, got {values.dtype}.")
    array: NDArray[np.uint8] = values.numpy()
    return array if array.ndim == 2 else np.ascontiguousarray(array.transpose(1, 2, 0))
