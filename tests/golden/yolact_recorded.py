"""What the official YOLACT, YOLACT++ and YolactEdge code answered, and how their published files are written.

`recorded.Extract` reads the small part that lies in `data/`; `Recording` is the whole, in ../shared/golden/yolact.
"""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tests.golden.fill import digest
from tests.golden.fill_yolact import checksum, fill_all
from tests.golden.recorded import Extract
from torch import Tensor

from maskwright.models import yolact
from maskwright.models.yolact import YolactConfig

CONFIGS: Mapping[str, Callable[[], YolactConfig]] = MappingProxyType(
    {
        "yolact_resnet50": yolact.published,
        "yolact_plus_resnet50": yolact.plus,
        "yolact_darknet53": lambda: yolact.published(backbone="darknet53"),
        "yolact_edge_mobilenetv2": lambda: yolact.published(backbone="mobilenetv2"),
        "yolact_edge_resnet50": yolact.published,
    }
)
"""Recorded model to its config."""

IMAGES: Mapping[str, str] = MappingProxyType({"0": "astronaut", "1": "coffee"})
"""Suffix of the recorded names to the image, one that scikit-image carries."""

CHOICES: Mapping[str, str] = MappingProxyType({"fast": "det", "exact": "trad", "fast_cross": "ccfast"})
"""Kind of suppression to the start of the recorded names; the last two were recorded of one model."""

ZOO_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "yolact_resnet50": "yolact_r50",
        "yolact_plus_resnet50": "yolact_plus_r50",
        "yolact_darknet53": "yolact_darknet53",
        "yolact_edge_resnet50": "yolact_r50",
    }
)
"""Recorded model to the name under which its file is loaded."""

SIZE = 550
"""Side of the input in pixels. Recorded boxes before post-processing are fractions of it."""


class Recording:
    """All that was recorded of one model. Indexing gives an array of `golden.npz`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name
        self.arrays = _arrays(folder / "golden.npz")

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    @cached_property
    def stats(self) -> dict[str, NDArray[np.float64]]:
        """Mean, deviation, norm, least and largest value of every whole tensor."""
        return dict(zip(self["stat_names"].tolist(), self["stat_values"], strict=True))

    @property
    def trained(self) -> bool:
        """Whether a training step was recorded."""
        return (self.folder / "loss.npz").is_file()

    @cached_property
    def loss(self) -> dict[str, NDArray[Any]]:
        """The arrays of `loss.npz`: targets, loss terms and gradients of one training step."""
        return _arrays(self.folder / "loss.npz")

    @cached_property
    def spec(self) -> list[Any]:
        """Names, shapes and types of the published file."""
        rows: list[Any] = json.loads((self.folder / "spec.json").read_text())
        return rows

    def weights(self) -> dict[str, Tensor]:
        """The filled weights under the publisher's names; fails where NumPy draws other numbers here."""
        tensors = fill_all(self.spec)
        assert np.allclose(checksum(tensors), self["fill_checksum"], rtol=1e-9), "NumPy draws other random numbers here"
        return tensors

    def image(self, key: str) -> NDArray[np.uint8]:
        """Image "0" or "1", (H, W, 3) uint8 RGB."""
        image: NDArray[np.uint8] = self[f"img{key}_bgr"][:, :, ::-1]
        return np.ascontiguousarray(image)

    def masks(self, key: str) -> NDArray[np.bool_]:
        """(N, H, W) masks that were packed into bits, such as `pp0` here."""
        return unpacked(self.arrays, key)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as arrays:
        return dict(arrays)


def unpacked(arrays: Mapping[str, NDArray[Any]], key: str) -> NDArray[np.bool_]:
    """The (N, H, W) masks packed under `key`, such as `gtmask0` of a `loss.npz`."""
    shape = tuple(arrays[f"{key}_bits_shape"].tolist())
    return np.unpackbits(arrays[f"{key}_bits"], count=int(np.prod(shape))).reshape(shape).astype(bool)


def kind_of(key: str) -> str:
    """How the tensor recorded under `key` was cut: "loc" of `loc0`, "map" of `P3_0`."""
    kind = key[:-1]
    return kind if kind in ("in", "loc", "conf", "coef", "proto") else "map"


def steps(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The stride along each axis with which a tensor of one image was cut before it was recorded.

    kind: "in" (3, S, S), "map" (C, h, w), "loc", "conf", "coef" (N, values), "proto" (h, w, D).
    """
    if kind == "in":
        return (1, 11, 11)
    if kind == "map":
        side = max(1, shape[1] // 9)
        return (max(1, shape[0] // 32), side, side)
    if kind == "proto":
        return (6, 6, 1)
    rows = (23, 89, 41) if shape[0] > 40000 else (7, 29, 13)
    return (rows[("loc", "conf", "coef").index(kind)], 1)


def write_checkpoint(extract: Extract, folder: Path) -> Path:
    """The filled weights of a model as its publisher writes them: a bare state dict."""
    tensors = fill_all(extract.meta["spec"])
    found = digest(tensors)
    assert found == extract.meta["fill_sha256"], "NumPy draws other random numbers here; nothing can be compared"
    path = folder / f"{extract.name}.pth"
    torch.save(tensors, path)
    return path
