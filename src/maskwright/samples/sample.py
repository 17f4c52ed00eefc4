"""A training image and its objects, the value that augmentation works on.

Letters: N objects, P landmarks, H W image. Boxes are xyxy in continuous pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from maskwright.data.dataset import Dataset
from maskwright.errors import DataError
from maskwright.geometry import Geometry
from maskwright.types import BoolArray, FloatArray, ImageArray, IntArray, Landmarks, Masks, Size, sides

_ROWS = ("labels", "masks", "crowd", "keypoints")


@dataclass(frozen=True, eq=False)
class Objects:
    """The N objects of one image: boxes (N, 4), labels (N,), masks or None, crowd (N,) bool.

    keypoints: (N, P, 3) x, y, visibility (0 not annotated, 1 hidden, 2 seen), or None. landmarks: by label, the names
    of the points and which of them a mirrored image exchanges; None for a class without any. mirrored: by label, the
    label that replaces it in a mirrored image, such as that of the right ear for the left one; empty where none does.
    """

    boxes: FloatArray
    labels: IntArray
    masks: Masks | None
    crowd: BoolArray
    keypoints: FloatArray | None = None
    landmarks: tuple[Landmarks | None, ...] = ()
    mirrored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in _ROWS:
            value = getattr(self, name)
            if value is not None and len(value) != len(self.boxes):
                raise DataError(f"Objects: {len(self.boxes)} boxes but {len(value)} {name}.")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: Any) -> "Objects":
        """Rows by slice, bool or integer array."""
        cut = {name: value[rows] for name in ("boxes", *_ROWS) if (value := getattr(self, name)) is not None}
        return replace(self, **cut)


def move_points(objects: Objects, geometry: Geometry) -> FloatArray | None:
    """The landmarks (N, P, 3) moved by the map; those that leave the image become zeros, that is, not annotated.

    A map that mirrors exchanges left and right by the class's `Landmarks.mirrored`.
    """
    points = objects.keypoints
    if points is None:
        return None
    height, width = geometry.size
    places = geometry.points(points[:, :, :2])
    inside = ((places >= 0) & (places <= (width, height))).all(axis=2) & (points[:, :, 2] > 0)
    moved = np.where(inside[:, :, None], np.concatenate([places, points[:, :, 2:]], axis=2), 0).astype(np.float32)
    if geometry.mirrors:
        for label in np.unique(objects.labels):
            marks = objects.landmarks[label] if label < len(objects.landmarks) else None
            if marks is not None and marks.mirrored is not None:
                rows = np.flatnonzero(objects.labels == label)
                moved[rows, : len(marks)] = moved[rows][:, list(marks.mirrored)]
    return moved


def move_labels(objects: Objects, geometry: Geometry) -> IntArray:
    """The labels (N,) after the map: one that mirrors exchanges the classes of the two sides."""
    return _exchanged(objects.labels, objects.mirrored) if geometry.mirrors else objects.labels


def _exchanged(labels: IntArray, mirrored: tuple[int, ...]) -> IntArray:
    """Labels of any shape, -1 is none, each replaced by its partner."""
    if not mirrored:
        return labels
    return np.where(labels < 0, labels, np.array(mirrored, np.int64)[labels])


def join(parts: Sequence[Objects]) -> Objects:
    """The objects of several images that share one frame, in order; at least one part.

    Raises DataError where some have masks or landmarks and others have not.
    """
    first = parts[0]
    for name in ("masks", "keypoints"):
        if len({getattr(part, name) is None for part in parts}) > 1:
            raise DataError(f"Objects cannot be joined: some have {name}, others have not.")
    masks = None
    if first.masks is not None:
        all_masks = [part.masks for part in parts if part.masks is not None]
        if len({one.size for one in all_masks}) > 1:
            raise DataError(f"Objects cannot be joined: their images are {[one.size for one in all_masks]}.")
        corners = np.concatenate([one.corners for one in all_masks])
        masks = Masks(first.masks.size, corners, tuple(crop for one in all_masks for crop in one.bitmaps))
    points = [part.keypoints for part in parts if part.keypoints is not None]
    return Objects(
        boxes=np.concatenate([part.boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        masks=masks,
        crowd=np.concatenate([part.crowd for part in parts]),
        keypoints=np.concatenate(points) if points else None,
        landmarks=first.landmarks,
        mirrored=first.mirrored,
    )


@dataclass(frozen=True, eq=False)
class Sample:
    """An image (H, W, 3) uint8 RGB and its objects.

    semantic: (H, W) int64, the class of each pixel, -1 where it is not annotated; None where the image has no map.
    semantic_mirrored: of its labels what `Objects.mirrored` is of theirs. proposals: (P, 4) boxes that may hold an
    object; None where the network finds its own.
    """

    image: ImageArray
    objects: Objects
    semantic: IntArray | None = None
    semantic_mirrored: tuple[int, ...] = ()
    proposals: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.semantic is not None and self.semantic.shape != self.image.shape[:2]:
            raise DataError(f"Sample: semantic is {self.semantic.shape}, the image is {self.image.shape[:2]}.")
        masks = self.objects.masks
        if masks is not None and masks.size != self.image.shape[:2]:
            raise DataError(f"Sample: masks are for {masks.size}, the image is {self.image.shape[:2]}.")

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.image.shape[0], self.image.shape[1]

    def proposals_moved(self, geometry: Geometry) -> FloatArray | None:
        """The proposals in the new frame, cut off at its edges, without those of which less than a pixel is left."""
        if self.proposals is None:
            return None
        height, width = geometry.size
        boxes = np.clip(geometry.boxes(self.proposals), 0, np.array([width, height, width, height], np.float32))
        return boxes[((boxes[:, 2:] - boxes[:, :2]) >= 1).all(axis=1)]

    def semantic_moved(self, geometry: Geometry) -> IntArray | None:
        """The semantic map in the new frame."""
        if self.semantic is None:
            return None
        moved = geometry.label_map(self.semantic)
        return _exchanged(moved, self.semantic_mirrored) if geometry.mirrors else moved


def join_proposals(parts: Sequence[FloatArray | None]) -> FloatArray | None:
    """The proposals of several images that share one frame, in order; None where none has any."""
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if found else None


def sample_of(dataset: Dataset, i: int, *, masks: bool) -> Sample:
    """Image `i` of a data set with its annotations. masks: draw them; else boxes alone."""
    objects = Objects(
        boxes=dataset.boxes(i),
        labels=dataset.labels(i),
        masks=dataset.masks(i) if masks else None,
        crowd=dataset.crowd(i),
        keypoints=dataset.keypoints(i),
        landmarks=dataset.classes.landmarks,
        mirrored=sides.mirrored(dataset.classes.names),
    )
    semantic = dataset.semantic_classes.names if dataset.semantic_classes else ()
    return Sample(dataset.image(i), objects, dataset.semantic(i), sides.mirrored(semantic))
