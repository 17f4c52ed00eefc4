"""What the official implementations answered, and how their published files are written.

`Extract` is the small part that lies in `data/`; `Recording` is the whole, in ../shared, which only the stage tests
and `extract.py` need. Both keep only some values of a big tensor: every s-th along each axis.
"""

import hashlib
import json
import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from tests.golden.fill import digest, fill_all
from torch import Tensor

DATA = Path(__file__).parent / "data"

ZOO_NAMES = {
    "mask_rcnn_R_50_FPN_3x": "mask_rcnn_r50_fpn.detectron2",
    "mask_rcnn_R_50_C4_3x": "mask_rcnn_r50_c4",
    "tv_maskrcnn_resnet50_fpn": "mask_rcnn_r50_fpn.torchvision",
    "tv_maskrcnn_resnet50_fpn_v2": "mask_rcnn_r50_fpn_v2",
    "panoptic_fpn_R_50_3x": "panoptic_fpn_r50",
    "keypoint_rcnn_R_50_FPN_3x": "keypoint_rcnn_r50_fpn.detectron2",
    "tv_keypointrcnn_resnet50_fpn": "keypoint_rcnn_r50_fpn.torchvision",
}
"""Recorded model to the name it has here."""

IMAGES = {"s320": "chelsea", "s800": "coffee"}
"""Variant (its digits are the input's short edge) to the image, one that scikit-image carries."""

Steps = tuple[int, ...]


def publisher(name: str) -> str:
    """Whose implementation was recorded under `name`."""
    return "torchvision" if "tv_" in name else "detectron2"


def source_image(name: str) -> NDArray[np.uint8]:
    """One of scikit-image's images, (H, W, 3) uint8 RGB."""
    image: NDArray[np.uint8] = getattr(skimage.data, name)()
    return image


def image_digest(image: NDArray[np.uint8]) -> str:
    """sha256 of the pixels."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def strided(tensor: Tensor, steps: Sequence[int]) -> Tensor:
    """Every s-th value along each axis."""
    return tensor[tuple(slice(None, None, step) for step in steps)]


class Extract:
    """`data/<name>.npz`. Indexing gives an array; `meta` is the JSON that describes them."""

    def __init__(self, name: str) -> None:
        with np.load(DATA / f"{name}.npz") as arrays:
            self.arrays = dict(arrays)
        self.name = name
        self.meta: dict[str, Any] = json.loads(bytes(self.arrays.pop("meta_json")))

    def __getitem__(self, key: str) -> NDArray[Any]:
        array: NDArray[Any] = self.arrays[key]
        return array

    def image(self, key: str) -> NDArray[np.uint8]:
        """The image of variant `key`; fails where scikit-image carries another one under its name."""
        wanted = self.meta["pictures"][key]
        image = source_image(wanted["name"])
        assert image_digest(image) == wanted["sha256"], f"scikit-image's {wanted['name']} is not the recorded one"
        return image


class Archive(Mapping[str, NDArray[Any]]):
    """The arrays of an `.npz` file, each read when it is asked for; no file stays open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with np.load(path) as arrays:
            self.names = tuple(arrays.files)

    def __getitem__(self, key: str) -> NDArray[Any]:
        with np.load(self.path) as arrays:
            array: NDArray[Any] = arrays[key]
            return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, key: object) -> bool:
        return key in self.names


class Recording:
    """`<folder>/golden.npz`: all that was recorded of one model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrays = Archive(folder / "golden.npz")

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def json(self, key: str) -> Any:
        """A JSON value stored as bytes."""
        return json.loads(bytes(self.arrays[key]))

    def steps(self, key: str) -> Steps:
        """The stride along each axis of a stored subset; all ones where the whole was stored."""
        stored = self.arrays[key].shape
        whole = self.arrays[f"shape/{key}"].tolist() if f"shape/{key}" in self.arrays else stored
        if len(whole) == len(stored) + 1 and whole[1] == 1:  # soft masks: their channel was dropped
            whole = [whole[0], *whole[2:]]
        return tuple(math.ceil(w / s) for w, s in zip(whole, stored, strict=True))

    @cached_property
    def spec(self) -> list[Any]:
        """Names, shapes and types of the published file."""
        return self._file("spec.json")

    @cached_property
    def extra(self) -> list[Any]:
        """What a zoo file of 2019 holds besides."""
        return self._file("spec_zoo_extra.json")

    def _file(self, name: str) -> list[Any]:
        path = self.folder / name
        return json.loads(path.read_text()) if path.is_file() else []


def write_checkpoint(extract: Extract, folder: Path) -> Path:
    """The filled weights of a model as its publisher writes them: a torch state dict, or a pickle of the 2019 zoo."""
    tensors = fill_all(extract.meta["spec"])
    found = digest(tensors)
    assert found == extract.meta["fill_sha256"], "NumPy draws other random numbers here; nothing can be compared"
    if publisher(extract.name) == "torchvision":
        path = folder / f"{extract.name}.pth"
        torch.save(tensors, path)
        return path
    path = folder / f"{extract.name}.pkl"
    path.write_bytes(zoo_pickle({**tensors, **fill_all(extract.meta["extra"])}))
    return path


def zoo_pickle(tensors: Mapping[str, Tensor]) -> bytes:
    """A pickle as detectron2 wrote it in 2019: protocol 3, NumPy arrays under the module name of that time."""
    content = {"model": {n: t.numpy() for n, t in tensors.items()}, "__author__": "Detectron2 Model Zoo"}
    return pickle.dumps(content, protocol=3).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
