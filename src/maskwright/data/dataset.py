"""An annotated data set in memory: names, sizes and outlines of the file; images and masks are read when needed.

Letters: N annotations of one image, H W image. Boxes are xyxy in the image's continuous pixels.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright import media
from maskwright.data.agreement import require_fit, require_labels, require_size
from maskwright.data.file_names import FileNames
from maskwright.data.split import clip_of, held_out, together
from maskwright.errors import NOTHING_TO_LEARN, ConfigError, DataError
from maskwright.ops import masks as mask_ops
from maskwright.types import (
    FULL,
    BoolArray,
    Classes,
    Clip,
    FloatArray,
    Frame,
    Instances,
    IntArray,
    Intensity,
    Landmarks,
    Masks,
    Panoptic,
    Size,
)
from maskwright.wording import counted

Polygons = tuple[NDArray[np.float64], ...]
"""The parts of one object, each a flat array x0, y0, x1, y1, ...; the object is their union."""

RLE = dict[str, Any]
"""COCO run lengths {"size": [H, W], "counts": str (compressed) or list of int}."""

ALL_CROWDS = (
    "all {count} annotations are crowd regions (iscrowd 1){shape}, which no model learns; where each is one object, "
    "set iscrowd to 0"
)
"""What is said of a data set without any object."""

_PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""The names that tools give to the parts of a data set, in lower case."""


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """One annotated object.

    id, image_id: as in the file. label: 0..Q-1. box: xyxy. area: pixels, as the file states it.
    segmentation: polygons, run lengths, or None where only the box is known.
    crowd: a region of many objects that is neither object nor background. keypoints: (P, 3) x, y as in the file,
    visibility (0 not annotated, 1 hidden, 2 seen) of the class's landmarks, or None. track_id: names one object in all
    images of a clip. extra: the file's other fields. place: where it is stated, for messages; empty where the id tells.
    """

    id: int
    image_id: int
    label: int
    box: tuple[float, float, float, float]
    segmentation: Polygons | RLE | None
    area: float
    crowd: bool = False
    keypoints: NDArray[np.float64] | None = None
    track_id: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""

    @property
    def has_landmarks(self) -> bool:
        """Whether a landmark is annotated, seen or hidden."""
        return self.keypoints is not None and bool((self.keypoints[:, 2] > 0).any())


@dataclass(frozen=True, slots=True, eq=False)
class ImageRecord:
    """One image of a data set.

    file_name: relative to the data set's root. extra: the file's other fields. frame: which frame of which clip it is,
    or None for a still image.
    """

    id: int
    file_name: str
    size: Size
    extra: Mapping[str, Any] = field(default_factory=dict)
    frame: Frame | None = None


def usual_part(name: object) -> str:
    """train, val or test for the usual spellings of an image's "split", else ""."""
    return next((part for part, names in _PARTS.items() if str(name).lower() in names), "")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images and their annotations.

    annotations: by image id; every image has an entry, maybe an empty one. root: the images' folder, or None.
    source: the annotation file, for messages. notes: what is unusual about the file, one sentence each.
    class_extra: by label, the other fields of the file's class records; empty where there are none. extra: the file's
    other sections.
    intensity: how images with more than 8 bits are read, see `types.Intensity`.
    semantic_maps: reads the map of an image as `semantic` returns it, or None where it has none; processes that prepare
    images get a copy, so it can be pickled. semantic_classes: the names of its labels, things and stuff.
    panoptic_maps: reads the segments of an image, in the same way; the things are the annotations.
    outline_maps: reads the masks of an image's objects where the annotations are but markers of them, None where it has
    none; can be pickled as well. Data sets without it have the outlines in their annotations.
    doubt: why its objects may not be what was meant, in the words of `data.doubt`; empty where there is no reason.
    """

    classes: Classes
    images: tuple[ImageRecord, ...]
    annotations: Mapping[int, tuple[Annotation, ...]]
    root: Path | None
    source: Path
    notes: tuple[str, ...] = ()
    class_extra: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    semantic_maps: Callable[[ImageRecord], IntArray | None] | None = None
    semantic_classes: Classes | None = None
    panoptic_maps: Callable[[ImageRecord], Panoptic | None] | None = None
    outline_maps: Callable[[ImageRecord], Masks | None] | None = None
    doubt: str = ""
    intensity: Intensity = FULL

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        """Three lines: the file, how much is in it, the classes."""
        objects = sum(map(len, self.annotations.values()))
        counts = f"{counted(len(self), 'image')}, {counted(objects, 'annotation')}"
        return f"Dataset of {self.source}\n  {counts}, images in {self.root or 'no folder'}\n  {self.classes}"

    @property
    def marked(self) -> list[tuple[str, Landmarks]]:
        """The names and landmarks of the classes that have some."""
        pairs = zip(self.classes.names, self.classes.landmarks, strict=True)
        return [(name, marks) for name, marks in pairs if marks is not None]

    def index(self, image_id: int) -> int:
        """The position of the image with this id. Raises DataError for an unknown id."""
        for position, record in enumerate(self.images):
            if record.id == image_id:
                return position
        raise DataError(f"{self.source}: no image has the id {image_id}.")

    def previous_frames(self, i: int, count: int) -> tuple[int, ...]:
        """Positions of up to `count` frames before image `i` in its clip, nearest first; none for a still image.

        Frames that the data set does not have are passed over.
        """
        frame = self.images[i].frame
        if frame is None:
            return ()
        frames = self.clips[frame.clip]
        here = frames.index((frame.index, i))
        return tuple(position for _, position in reversed(frames[max(0, here - count) : here]))

    @cached_property
    def clips(self) -> dict[Clip, list[tuple[int, int]]]:
        """(number of the frame, position) of all images of each clip, in order."""
        clips: dict[Clip, list[tuple[int, int]]] = {}
        for position, record in enumerate(self.images):
            if record.frame is not None:
                clips.setdefault(record.frame.clip, []).append((record.frame.index, position))
        return {clip: sorted(frames) for clip, frames in clips.items()}

    # ---- the images -----------------------------------------------------------------------------------------

    def path(self, i: int) -> Path:
        """Where image `i` lies. Raises DataError if the data set was loaded without an image folder."""
        if self.root is None:
            raise DataError(f"{self.source} was loaded without an image folder: name it.", options=("images",))
        return self.root / self.images[i].file_name

    def image(self, i: int, told: media.Readings | None = None) -> NDArray[np.uint8]:
        """Image `i` as (H, W, 3) uint8 RGB. Raises DataError where its size is not the annotated one."""
        record, path = self.images[i], self.path(i)
        image: NDArray[np.uint8] = media.read_image(path, intensity=self.intensity, told=told)
        require_size(path, record.size, (image.shape[0], image.shape[1]), f"{self.source}: image id {record.id}")
        return image

    def semantic(self, i: int) -> IntArray | None:
        """(H, W) int64, the label of each pixel of image `i` among `semantic_classes`, -1 where it is not annotated.

        None where the image has no map. Raises DataError for a map of another size, or with other labels.
        """
        record = self.images[i]
        found = None if self.semantic_maps is None else self.semantic_maps(record)
        if found is None:
            return None
        labels = np.asarray(found, np.int64)
        require_labels(labels, record.size, len(self.semantic_classes or ()), f"{self.source}: {record.file_name}")
        return labels

    def panoptic(self, i: int) -> Panoptic | None:
        """The segments of image `i`; None where it has no map. Raises DataError for a map of another size."""
        record = self.images[i]
        found = None if self.panoptic_maps is None else self.panoptic_maps(record)
        if found is not None:
            require_fit(found.size, record.size, f"{self.source}: {record.file_name}", "panoptic map")
        return found

    def missing_files(self) -> tuple[Path, ...]:
        """The image files that do not exist, in order."""
        return tuple(path for path in (self.path(i) for i in range(len(self))) if not os.path.isfile(path))

    def require_sizes(self) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
        """Compare each image's size, from its header, with its record.

        Gives the files that do not exist, and those that an EXIF tag turns though both ways have one size, so that the
        size does not say which way they were annotated. Raises DataError as `image` does, ImageError for a file that is
        no image.
        """
        missing, either = [], []
        for i, record in enumerate(self.images):
            path = self.path(i)
            if os.path.isfile(path):
                with media.opened(path) as file:
                    found, alike = file.size(), file.turn() != 1 and file.size() == file.stored_size()
                require_size(path, record.size, found, f"{self.source}: image id {record.id}")
                either += [path] if alike else []
            else:
                missing.append(path)
        return tuple(missing), tuple(either)

    def require_files(self) -> None:
        """Raises DataError, naming the first ones, where image files are missing."""
        missing = self.missing_files()
        if missing:
            some = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            found, there = missing[0].parent, None
            if found.is_dir():
                names = FileNames(os.listdir(found))
                there = names.spelled(missing[0].name) or names.other_suffix(missing[0].name)
            hint = "Give the folder that the file names are relative to."
            if there is not None:
                repair = "let the repair of `maskwright data check` do so"
                hint = f"There is {found / there}: correct the file names, or {repair}."
            text = f"{self.source}: {len(missing)} of {len(self)} image files are missing: {some}. {hint}"
            raise DataError(text, options=("images", "skip"))

    def require_objects(self) -> None:
        """Raises DataError where no annotation is an object: there are none, or all are crowd regions."""
        rows = [a for i in range(len(self)) for a in self.of(i)]
        if all(a.crowd for a in rows):
            text = f"{self.source}: none of the {len(self)} images has an object, nothing can be learnt."
            if rows:
                text += f" The reason: {ALL_CROWDS.format(count=len(rows), shape='')}."
            raise DataError(text, code=NOTHING_TO_LEARN)

    # ---- the annotations of one image, rows in the order of `of(i)` --------------------------------------------

    def of(self, i: int) -> tuple[Annotation, ...]:
        """The annotations of image `i`, crowds included."""
        return self.annotations[self.images[i].id]

    def where(self, i: int, a: Annotation) -> str:
        """Where an annotation of image `i` is stated, for messages."""
        return a.place or f"{self.source}: annotation {a.id} of {self.images[i].file_name}"

    def boxes(self, i: int) -> FloatArray:
        """(N, 4) float32 xyxy."""
        return np.array([a.box for a in self.of(i)], np.float32).reshape(-1, 4)

    def labels(self, i: int) -> IntArray:
        """(N,) int64 in 0..Q-1."""
        return np.array([a.label for a in self.of(i)], np.int64)

    def keypoints(self, i: int) -> FloatArray | None:
        """(N, P, 3) float32 x, y, visibility, P the most landmarks of any class; None where no class has any."""
        if not self.marked:
            return None
        most = max(len(marks) for _, marks in self.marked)
        out = np.zeros((len(self.of(i)), most, 3), np.float32)
        for row, a in zip(out, self.of(i), strict=True):
            if a.keypoints is not None:
                row[: len(a.keypoints)] = a.keypoints
        return out

    def crowd(self, i: int) -> BoolArray:
        """(N,) bool."""
        return np.array([a.crowd for a in self.of(i)], np.bool_)

    @property
    def has_masks(self) -> bool:
        """Whether every annotation has an outline, not only a box."""
        return all(a.segmentation is not None for rows in self.annotations.values() for a in rows)

    def masks(self, i: int) -> Masks:
        """The N masks of image `i`, drawn now. Raises DataError where an annotation has only a box."""
        return self.draw(i, self.of(i))

    def truth(self, i: int, *, crowd: bool = False) -> Instances:
        """The annotations of image `i` as a perfect result: scores 1; crowds only if asked for.

        A keypoint's score is 1 where it is annotated, hidden or seen, and 0 where it is not. Track ids are given where
        every object has one.
        """
        keep = np.flatnonzero(~self.crowd(i) | crowd)
        rows = tuple(self.of(i)[k] for k in keep)
        points, tracks = self.keypoints(i), [a.track_id for a in rows if a.track_id is not None]
        if points is not None:
            points = points[keep]
            points[:, :, 2] = points[:, :, 2] > 0
        return Instances(
            boxes=self.boxes(i)[keep],
            scores=np.ones(len(keep), np.float32),
            labels=self.labels(i)[keep],
            classes=self.classes,
            size=self.images[i].size,
            crops=self.draw(i, rows) if all(a.segmentation is not None for a in rows) else None,
            keypoints=points,
            track_ids=np.array(tracks, np.int64) if rows and len(tracks) == len(rows) else None,
        )

    def draw(self, i: int, rows: Sequence[Annotation]) -> Masks:
        """The masks of some annotations of image `i`, in their order. Raises DataError where one cannot be drawn."""
        outlines = []
        for a in rows:
            where = self.where(i, a)
            if a.segmentation is None:
                advice = "Add one, remove the annotation, or use boxes only."
                raise DataError(f"{where} has no segmentation, so it has no mask. {advice}")
            outlines.append((a.segmentation, where))
        return draw_named(outlines, self.images[i].size)

    # ---- parts of the data set ------------------------------------------------------------------------------------

    def subset(self, indices: Iterable[int]) -> "Dataset":
        """The images at these positions, in this order. Raises ConfigError for a repeated or unknown position."""
        chosen = [int(i) for i in indices]
        if len(set(chosen)) != len(chosen) or any(not 0 <= i < len(self) for i in chosen):
            raise ConfigError(f"A subset needs distinct positions in 0..{len(self) - 1}, got {chosen}.")
        images = tuple(self.images[i] for i in chosen)
        return replace(self, images=images, annotations={r.id: self.annotations[r.id] for r in images})

    def parts(self) -> dict[str, "Dataset"]:
        """The images by part (train, val, ...), the field "split" of their records; empty where some have none."""
        names = [record.extra.get("split") for record in self.images]
        if not all(isinstance(name, str) for name in names):
            return {}
        return {n: self.subset(i for i, own in enumerate(names) if own == n) for n in dict.fromkeys(map(str, names))}

    def split(
        self, fraction: float, salt: str = "", alike: Iterable[Sequence[int]] = ()
    ) -> tuple["Dataset", "Dataset"]:
        """(rest, held out): about `fraction` of the images held out, chosen by a hash of each file name or clip.

        Frames of one clip stay on one side, and so do the positions in each group of `alike`. The split is the same on
        every machine, and an image stays on its side when others are added or removed, unless a clip holds much of
        the data. Neither side is empty if there are two groups or more and 0 < fraction < 1. Another salt gives another
        split.
        """
        if not 0 <= fraction <= 1:
            raise ConfigError(f"split: fraction is between 0 and 1, got {fraction}.")
        held = held_out(self.together(alike), fraction, salt)
        return self.subset(i for i in range(len(self)) if i not in held), self.subset(sorted(held))

    def together(self, alike: Iterable[Sequence[int]] = ()) -> dict[str, list[int]]:
        """The positions of images that belong on one side of a split, by a name: a clip's, or that of the only file."""
        return together([clip_of(record) or record.file_name for record in self.images], alike)


def draw_named(outlines: Sequence[tuple[Polygons | RLE, str]], size: Size) -> Masks:
    """The masks of (outline, where) pairs, in order. Raises DataError that begins with the `where` at fault."""
    try:
        return draw_segmentations([outline for outline, _ in outlines], size)
    except DataError:
        for outline, where in outlines:  # once more, one by one, to find which it is
            try:
                draw_segmentations([outline], size)
            except DataError as error:
                raise DataError(f"{where}: {error}") from error
        raise


def draw_segmentations(segmentations: list[Polygons | RLE], size: Size) -> Masks:
    """The masks of polygons and run lengths on an image of `size` (H, W), in order."""
    if not segmentations:
        return Masks.empty(size)
    polygons: list[Any] = [list(s) for s in segmentations if not isinstance(s, dict)]
    lengths = [s for s in segmentations if isinstance(s, dict)]
    drawn = iter(mask_ops.from_coco_polygons(polygons, size)), iter(mask_ops.decode(lengths) if lengths else ())
    rows = [next(drawn[isinstance(s, dict)]) for s in segmentations]
    return Masks(size, np.concatenate([m.corners for m in rows]), tuple(m.bitmaps[0] for m in rows))
