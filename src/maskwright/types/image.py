"""Values in the image's frame: classes, landmarks, masks, instances.

Letters: N instances, P landmarks, Q classes, H W image, h w crop.
Boxes are xyxy, absolute, continuous pixels: pixel (row i, column j) covers [j, j+1) x [i, i+1).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ConfigError, DataError
from maskwright.types import sides

Size = tuple[int, int]
"""(H, W) in pixels."""

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
ImageArray = NDArray[np.uint8]
"""An image as (H, W, 3) RGB."""

RGB = tuple[int, int, int]
"""One colour, 0..255."""


@dataclass(frozen=True)
class Landmarks:
    """The named points of one class, such as a person's wrists.

    names: P of them. links: pairs of positions that are drawn as lines. mirrored: for each point the position of the
    one that replaces it when the image is mirrored left-right; None takes the one whose name says the other side
    (`types.sides`).
    """

    names: tuple[str, ...]
    links: tuple[tuple[int, int], ...] = ()
    mirrored: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        if any(not 0 <= k < count for pair in self.links for k in pair):
            raise ConfigError(f"Landmarks: links join positions 0..{count - 1}, got {self.links}.")
        if self.mirrored is None:
            object.__setattr__(self, "mirrored", sides.mirrored(self.names))
        elif sorted(self.mirrored) != list(range(count)):
            raise ConfigError(f"Landmarks: mirrored names each of 0..{count - 1} once, got {self.mirrored}.")

    def __len__(self) -> int:
        return len(self.names)


class Classes(Sequence[str]):
    """The class names of a model or data set in label order, with the data set's own category ids.

    `classes[2]` is the name of label 2, `classes.ids[2]` its category id in annotation and result files, and
    `classes.landmarks[2]` its `Landmarks`, or None where the class has none. Without `ids` they are 1..Q, as most
    COCO-style files have it. Equal: the same names, ids and landmarks; or a list of the same names.
    """

    def __init__(
        self,
        names: Sequence[str],
        ids: Sequence[int] | None = None,
        landmarks: Sequence[Landmarks | None] | None = None,
    ) -> None:
        if isinstance(names, str):
            raise ConfigError(f"Classes is a list of names, got {names!r}; give [{names!r}].")
        self.names = tuple(str(n) for n in names)
        self.ids = tuple(int(i) for i in ids) if ids is not None else tuple(range(1, len(self.names) + 1))
        self.landmarks = tuple(landmarks) if landmarks is not None else (None,) * len(self.names)
        if not self.names:
            raise ConfigError("Classes needs at least one name, got none.")
        if len(self.ids) != len(self.names):
            raise ConfigError(f"Classes needs one id per name, got {len(self.names)} names and {len(self.ids)} ids.")
        if len(self.landmarks) != len(self.names):
            raise ConfigError(
                f"Classes needs landmarks or None per name, got {len(self.names)} names and {len(self.landmarks)}."
            )
        if len(set(self.ids)) != len(self.ids):
            raise ConfigError("Classes needs distinct ids, got duplicates.")

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self.names[index]

    def match(self, other: "Classes") -> IntArray:
        """(Q,) the label in `other` of each class, -1 where it does not have the class.

        Classes match by name; where a name occurs twice, by name and id.
        """
        labels = np.full(len(self), -1, np.int64)
        for label, (name, own) in enumerate(zip(self.names, self.ids, strict=True)):
            same = [k for k, n in enumerate(other.names) if n == name]
            if len(same) > 1 or self.names.count(name) > 1:
                same = [k for k in same if other.ids[k] == own]
            if same:
                labels[label] = same[0]
        return labels

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Classes):
            return (self.names, self.ids, self.landmarks) == (other.names, other.ids, other.landmarks)
        return isinstance(other, (tuple, list)) and self.names == tuple(other)

    def __hash__(self) -> int:
        return hash((self.names, self.ids, self.landmarks))

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:5]) + (", ..." if len(self) > 5 else "")
        marked = sum(marks is not None for marks in self.landmarks)
        return f"Classes({len(self)}: {shown}{f'; {marked} with landmarks' if marked else ''})"


@dataclass(frozen=True, eq=False, repr=False)
class Masks(Sequence["Masks"]):
    """N masks of one image, each a bitmap cropped to its own rectangle: memory follows the objects.

    size: (H, W) of the image.
    corners: (N, 2) int64, (top, left) of each bitmap in the image.
    bitmaps: N bool arrays (h, w); one may be empty (0, 0). Pixels of the image outside a mask's bitmap are False.
    """

    size: Size
    corners: IntArray
    bitmaps: tuple[BoolArray, ...]

    def __post_init__(self) -> None:
        height, width = (int(v) for v in self.size)
        object.__setattr__(self, "size", (height, width))
        object.__setattr__(self, "bitmaps", tuple(self.bitmaps))
        corners = np.asarray(self.corners, dtype=np.int64).reshape(-1, 2)
        object.__setattr__(self, "corners", corners)
        if len(corners) != len(self.bitmaps):
            raise DataError(f"Masks: {len(corners)} corners for {len(self.bitmaps)} bitmaps.")
        for (top, left), bitmap in zip(corners, self.bitmaps, strict=True):
            if bitmap.ndim != 2 or bitmap.dtype != np.bool_:
                raise DataError(f"Masks: a bitmap is a bool array (h, w), got {bitmap.dtype} {bitmap.shape}.")
            if top < 0 or left < 0 or top + bitmap.shape[0] > height or left + bitmap.shape[1] > width:
                raise DataError(f"Masks: bitmap {bitmap.shape} at ({top}, {left}) leaves the image {self.size}.")

    def __len__(self) -> int:
        return len(self.bitmaps)

    def __repr__(self) -> str:
        return f"Masks({len(self)} on {self.size[0]}x{self.size[1]} (height x width))"

    def __getitem__(self, index: Any) -> "Masks":
        """Rows by integer, slice, bool or integer array; always a Masks."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        return Masks(self.size, self.corners[rows], tuple(self.bitmaps[r] for r in rows))

    def __iter__(self) -> Iterator["Masks"]:
        return (self[i] for i in range(len(self)))

    @classmethod
    def empty(cls, size: Size) -> "Masks":
        """No masks on an image of `size`."""
        return cls(size, np.zeros((0, 2), np.int64), ())

    @classmethod
    def from_dense(cls, masks: NDArray[Any], size: Size | None = None) -> "Masks":
        """Crop (N, H, W) bitmaps to their contents; `size` is needed only where N may be 0 and H, W unknown."""
        masks = np.asarray(masks)
        if masks.ndim != 3:
            raise DataError(f"Masks.from_dense needs (N, H, W), got shape {masks.shape}.")
        height, width = masks.shape[1:] if size is None else size
        if len(masks) and masks.shape[1:] != (height, width):
            raise DataError(f"Masks.from_dense: bitmaps are {masks.shape[1:]}, the image is {(height, width)}.")
        corners, crops = [], []
        for mask in masks.astype(bool, copy=False):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            top, bottom = (rows[0], rows[-1] + 1) if len(rows) else (0, 0)
            left, right = (columns[0], columns[-1] + 1) if len(columns) else (0, 0)
            corners.append((top, left))
            crops.append(mask[top:bottom, left:right].copy())
        return cls((int(height), int(width)), np.array(corners, np.int64).reshape(-1, 2), tuple(crops))

    @property
    def windows(self) -> list[tuple[slice, slice]]:
        """The rows and columns of the image that each bitmap covers: `image[window][bitmap]` are a mask's pixels."""
        return [
            (slice(top, top + bitmap.shape[0]), slice(left, left + bitmap.shape[1]))
            for (top, left), bitmap in zip(self.corners.tolist(), self.bitmaps, strict=True)
        ]

    def dense(self) -> BoolArray:
        """(N, H, W) bool: memory N x H x W, so ask for it only where the image is small."""
        out = np.zeros((len(self), *self.size), np.bool_)
        for row, window, bitmap in zip(out, self.windows, self.bitmaps, strict=True):
            row[window] = bitmap
        return out

    def areas(self) -> IntArray:
        """(N,) pixels set."""
        return np.array([int(c.sum()) for c in self.bitmaps], dtype=np.int64)

    def boxes(self) -> FloatArray:
        """(N, 4) tight boxes of the pixels set; an empty mask has a box of zeros."""
        out = np.zeros((len(self), 4), np.float32)
        for row, (top, left), crop in zip(out, self.corners, self.bitmaps, strict=True):
            rows, columns = np.flatnonzero(crop.any(axis=1)), np.flatnonzero(crop.any(axis=0))
            if len(rows):
                row[:] = left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
        return out


_ROWS = ("boxes", "scores", "labels", "crops", "keypoints", "track_ids", "box_scores")
"""The fields of `Instances` that have one row per object."""


@dataclass(eq=False, repr=False)
class Instances:
    """The detected or annotated objects of one image; coordinates in that image's pixels.

    boxes (N, 4) float32 xyxy; scores (N,) float32 in [0, 1]; labels (N,) int64 in 0..Q-1; size (H, W).
    crops: the masks as `Masks`, or None. keypoints: (N, P, 3) float32 x, y, score, or None. track_ids: (N,) or None.
    box_scores: (N,) float32 in [0, 1], the scores that rank boxes where they differ from those of the masks (YOLACT++
    rates its masks), or None.
    Raises DataError where shapes or ranges disagree.
    """

    boxes: FloatArray
    scores: FloatArray
    labels: IntArray
    classes: Classes
    size: Size
    crops: Masks | None = None
    keypoints: FloatArray | None = None
    track_ids: IntArray | None = None
    box_scores: FloatArray | None = None

    def __post_init__(self) -> None:
        self.boxes = np.asarray(self.boxes, np.float32).reshape(-1, 4)
        self.scores = np.asarray(self.scores, np.float32).reshape(-1)
        self.labels = np.asarray(self.labels, np.int64).reshape(-1)
        self.size = (int(self.size[0]), int(self.size[1]))
        names: Sequence[str] = self.classes
        self.classes = names if isinstance(names, Classes) else Classes(names)
        if self.box_scores is not None:
            self.box_scores = np.asarray(self.box_scores, np.float32).reshape(-1)
        for name in _ROWS:
            value = getattr(self, name)
            if value is not None and len(value) != len(self.boxes):
                raise DataError(f"Instances: {len(self.boxes)} boxes but {len(value)} {name}.")
        if len(self) and not (self.labels.min() >= 0 and self.labels.max() < len(self.classes)):
            found = f"{self.labels.min()}..{self.labels.max()}"
            raise DataError(f"Instances: labels must be in 0..{len(self.classes) - 1}, got {found}.")
        for name in ("scores", "box_scores"):
            value = getattr(self, name)
            if value is not None and not ((value >= 0) & (value <= 1)).all():
                raise DataError(f"Instances: {name} must be in [0, 1], got {value.min()} to {value.max()}.")
        if self.keypoints is not None and (self.keypoints.ndim != 3 or self.keypoints.shape[2] != 3):
            raise DataError(f"Instances: keypoints are (N, P, 3), got {self.keypoints.shape}.")
        if self.crops is not None and self.crops.size != self.size:
            raise DataError(f"Instances: masks are for an image {self.crops.size}, the image is {self.size}.")

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        """A few lines: how many, on what image, with what, of which classes."""
        height, width = self.size
        kinds = {"crops": "masks", "keypoints": "keypoints", "track_ids": "track ids", "box_scores": "box scores"}
        parts = ", ".join(kind for name, kind in kinds.items() if getattr(self, name) is not None) or "boxes alone"
        head = f"{type(self).__name__}: {len(self)} on {height}x{width} (height x width), {parts}"
        if not len(self):
            return head
        counts = np.bincount(self.labels, minlength=len(self.classes))
        order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
        shown = ", ".join(f"{self.classes[k][:40]} {counts[k]}" for k in order[:6])
        more = f", and {len(order) - 6} more classes" if len(order) > 6 else ""
        return f"{head}\n  {shown}{more}\n  scores {self.scores.min():.2f} to {self.scores.max():.2f}"

    def __getitem__(self, index: Any) -> Self:
        """Rows by integer, slice, bool or integer array; always the same type as before."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        cut: dict[str, Any] = {}
        for name in _ROWS:
            value = getattr(self, name)
            cut[name] = None if value is None else value[rows]
        return replace(self, **cut)

    @property
    def masks(self) -> BoolArray | None:
        """(N, H, W) bool, made on each access; `crops` has the same masks in less memory."""
        return None if self.crops is None else self.crops.dense()
