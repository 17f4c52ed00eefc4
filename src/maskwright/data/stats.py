"""Numbers of a data set: images, classes, object sizes, coverage and overlap.

Letters: N objects, H W image, h w box. Crowd regions are counted, and left out of everything else.
Sizes come from the areas and boxes in the annotations; masks are drawn only on request.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskwright.data.dataset import Annotation, Dataset
from maskwright.errors import shortened
from maskwright.ops import boxes as box_ops
from maskwright.types import Size
from maskwright.wording import counted

Array = NDArray[np.float64]

_SMALL, _MEDIUM = 32.0**2, 96.0**2  # COCO: small below the first area, large from the second on
_MOST_STUFF = 8  # names of stuff that the text has
_ROWS = 1024  # objects of one image that are compared with all its others at once


@dataclass(frozen=True)
class Quantiles:
    """The distribution of values: `p25` is the 25% quantile. count: their number."""

    count: int
    mean: float
    minimum: float
    p05: float
    p25: float
    median: float
    p75: float
    p95: float
    maximum: float


@dataclass(frozen=True)
class ClassCount:
    """One class: its id in the file, its objects and crowd regions, and the images that show it."""

    name: str
    id: int
    objects: int
    crowds: int
    images: int


@dataclass(frozen=True)
class Overlap:
    """How much objects overlap.

    boxes: for each object, the highest IoU of its box with that of another object of its image.
    over_half: objects where it exceeds 0.5: NMS at 0.5 may lose one of such a pair.
    over_half_same: those of them where the other object has the same class.
    masks: for each object, the share of its pixels that another object covers too; None unless masks were drawn.
    """

    boxes: Quantiles | None
    over_half: int
    over_half_same: int
    masks: Quantiles | None = None


@dataclass(frozen=True)
class DataStats:
    """The numbers of a data set; a spread is None where there is nothing to measure.

    images, annotations (crowds included), crowds, empty (images without any annotation). parts: images in train,
    val ..., where the data set says so. classes: by label.
    sizes: the most frequent image sizes (H, W) and how often; distinct_sizes counts all. short_edge, long_edge: of
    the images, pixels. object_side: the square root of an object's area, pixels. relative_side: the same as a share
    of its image's short edge. small, medium, large: objects by COCO's limits of 32 and 96 pixels. per_image:
    objects. aspect: box width over height. covered: the share of an image that its objects fill; where nothing was
    drawn, pixels of two objects count twice. no_area: objects of no area or an empty box. boxes_only: objects without
    an outline; polygons, lengths: with one of that kind. landmarks: objects that have some. tracks: distinct track ids.
    stuff: names of the kinds in semantic maps. drawn: masks were drawn, so areas, covered and overlap are exact.
    """

    images: int
    annotations: int
    crowds: int
    empty: int
    parts: tuple[tuple[str, int], ...]
    classes: tuple[ClassCount, ...]
    sizes: tuple[tuple[Size, int], ...]
    distinct_sizes: int
    short_edge: Quantiles | None
    long_edge: Quantiles | None
    object_side: Quantiles | None
    relative_side: Quantiles | None
    small: int
    medium: int
    large: int
    per_image: Quantiles | None
    aspect: Quantiles | None
    covered: Quantiles | None
    overlap: Overlap
    no_area: int
    boxes_only: int
    polygons: int
    lengths: int
    landmarks: int
    tracks: int
    stuff: tuple[str, ...] = ()
    drawn: bool = False

    @property
    def objects(self) -> int:
        """Annotations that are no crowds."""
        return self.annotations - self.crowds

    @property
    def has_masks(self) -> bool:
        """Whether every object has an outline; also true where there are no objects."""
        return self.boxes_only == 0

    @property
    def has_landmarks(self) -> bool:
        """Whether any object has landmarks."""
        return self.landmarks > 0

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values that JSON can hold."""
        out = asdict(self)
        out["parts"] = dict(self.parts)
        out["classes"], out["stuff"] = list(out["classes"]), list(self.stuff)
        out["sizes"] = [{"height": s[0], "width": s[1], "images": n} for s, n in self.sizes]
        return {**out, "objects": self.objects, "has_masks": self.has_masks, "has_landmarks": self.has_landmarks}

    def report(self) -> str:
        """Everything as text."""
        lines = [_headline(self.images, self.empty, self.objects, self.crowds, len(self.classes))]
        if self.parts:
            lines.append("Parts: " + ", ".join(f"{name} {n}" for name, n in self.parts) + ".")
        kinds = {"polygons": self.polygons, "run lengths": self.lengths, "a box only": self.boxes_only}
        lines.append("Outlines: " + (", ".join(f"{n} {what}" for what, n in kinds.items() if n) or "none") + ".")
        lines += [f"Landmarks: {counted(self.landmarks, 'object')}."] if self.landmarks else []
        lines += [f"Tracks: {self.tracks}."] if self.tracks else []
        some = ", ".join(self.stuff[:_MOST_STUFF]) + (", ..." if len(self.stuff) > _MOST_STUFF else "")
        lines += [f"Maps of all pixels: {counted(len(self.stuff), 'kind')} of stuff ({some})."] if self.stuff else []
        shown = ", ".join(f"{h}x{w} {n}" for (h, w), n in self.sizes)
        more = f", ... ({self.distinct_sizes} in all)" if self.distinct_sizes > len(self.sizes) else ""
        lines += [f"Image sizes (height x width, how many): {shown}{more}."] if self.sizes else []
        return "\n".join([*lines, "", *self._spreads(), "", *self._objects(), "", *self._class_table()])

    def _spreads(self) -> list[str]:
        rows = {
            "image, short edge (pixels)": self.short_edge,
            "image, long edge (pixels)": self.long_edge,
            "objects per image": self.per_image,
            "object, root of its area (pixels)": self.object_side,
            "the same / short edge": self.relative_side,
            "object, width / height of its box": self.aspect,
            "share of the image covered": self.covered,
            "highest box IoU with another": self.overlap.boxes,
            "share of pixels under another": self.overlap.masks,
        }
        head = ("min", "5%", "25%", "median", "75%", "95%", "max", "mean")
        lines = [f"{'':34}" + "".join(f"{word:>9}" for word in head)]
        for name, q in rows.items():
            if q is not None:
                values = (q.minimum, q.p05, q.p25, q.median, q.p75, q.p95, q.maximum, q.mean)
                lines.append(f"{name:34}" + "".join(f"{_short(v):>9}" for v in values))
        return lines

    def _objects(self) -> list[str]:
        def share(count: int) -> str:
            return f"{count} ({count / max(self.objects, 1):.1%})"

        sizes = f"small {share(self.small)}, medium {share(self.medium)}, large {share(self.large)}"
        close, same = share(self.overlap.over_half), self.overlap.over_half_same
        lines = [f"Objects by area (limits 32x32 and 96x96 pixels): {sizes}."]
        lines.append(f"Objects whose box overlaps another by an IoU above 0.5: {close}, {same} of them in their class.")
        return lines + ([f"Objects without an area: {share(self.no_area)}."] if self.no_area else [])

    def _class_table(self) -> list[str]:
        names = [shortened(c.name) for c in self.classes]
        wide = max(map(len, names))
        lines = [f"{'class':{wide}}  {'objects':>9}{'share':>8}{'crowds':>8}{'images':>10}"]
        for name, c in zip(names, self.classes, strict=True):
            share = f"{c.objects / max(self.objects, 1):.1%}"
            lines.append(f"{name:{wide}}  {c.objects:>9}{share:>8}{c.crowds:>8}{c.images:>10}")
        return lines


def stats(dataset: Dataset, *, draw: bool = False) -> DataStats:
    """Measure a data set. draw: draw every mask, for exact areas, cover and overlaps; else the file's areas are used.

    Raises DataError, with `draw`, where an object has only a box or an outline that cannot be drawn.
    """
    rows = [a for i in range(len(dataset)) for a in dataset.of(i)]
    objects = [a for a in rows if not a.crowd]
    groups = [[a for a in dataset.of(i) if not a.crowd] for i in range(len(dataset))]
    sizes = np.array([r.size for r in dataset.images], np.float64).reshape(-1, 2)
    boxes = np.array([a.box for a in objects], np.float64).reshape(-1, 4)
    counts = np.array([len(g) for g in groups], np.int64)
    areas, covered, shared = _drawn(dataset) if draw else _stated(objects, counts, sizes)
    side = np.sqrt(areas)
    w, h = np.maximum(boxes[:, 2] - boxes[:, 0], 0), np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    full = (w > 0) & (h > 0)
    edges = sizes.min(axis=1), sizes.max(axis=1)
    common = Counter(r.size for r in dataset.images)
    return DataStats(
        images=len(dataset),
        annotations=len(rows),
        crowds=len(rows) - len(objects),
        empty=sum(not dataset.of(i) for i in range(len(dataset))),
        parts=tuple((name, len(part)) for name, part in dataset.parts().items()),
        classes=_classes(dataset, rows),
        sizes=tuple(common.most_common(5)),
        distinct_sizes=len(common),
        short_edge=_spread(edges[0]),
        long_edge=_spread(edges[1]),
        object_side=_spread(side),
        relative_side=_spread(side / np.repeat(edges[0], counts)),
        small=int((areas < _SMALL).sum()),
        medium=int(((areas >= _SMALL) & (areas < _MEDIUM)).sum()),
        large=int((areas >= _MEDIUM).sum()),
        per_image=_spread(counts.astype(np.float64)),
        aspect=_spread(w[full] / h[full]),
        covered=_spread(covered),
        overlap=_overlap(groups, shared),
        no_area=int((~full | (areas == 0)).sum()),
        boxes_only=sum(a.segmentation is None for a in objects),
        polygons=sum(isinstance(a.segmentation, tuple) for a in objects),
        lengths=sum(isinstance(a.segmentation, dict) for a in objects),
        landmarks=sum(a.has_landmarks for a in objects),
        tracks=len({a.track_id for a in rows if a.track_id is not None}),
        stuff=dataset.semantic_classes.names[1:] if dataset.semantic_maps and dataset.semantic_classes else (),
        drawn=draw,
    )


def _classes(dataset: Dataset, rows: Sequence[Annotation]) -> tuple[ClassCount, ...]:
    objects = Counter(a.label for a in rows if not a.crowd)
    crowds = Counter(a.label for a in rows if a.crowd)
    shown = Counter(label for i in range(len(dataset)) for label in {a.label for a in dataset.of(i)})
    pairs = zip(dataset.classes.names, dataset.classes.ids, strict=True)
    return tuple(ClassCount(n, i, objects[k], crowds[k], shown[k]) for k, (n, i) in enumerate(pairs))


def _stated(objects: Sequence[Annotation], counts: NDArray[np.int64], sizes: Array) -> tuple[Array, Array, None]:
    """(N,) areas as the file states them and the share of each image they add up to, at most 1."""
    areas = np.array([a.area for a in objects], np.float64)
    owner = np.repeat(np.arange(len(counts)), counts)
    total = np.bincount(owner, weights=areas, minlength=len(counts))
    return areas, np.minimum(total / sizes.prod(axis=1), 1.0), None


def _drawn(dataset: Dataset) -> tuple[Array, Array, Array]:
    """(N,) pixels of the drawn masks, the share of each image that they fill, (N,) the share others cover too."""
    areas: list[int] = []
    covered: list[float] = []
    shared: list[float] = []
    for i, record in enumerate(dataset.images):
        masks = dataset.masks(i)[np.flatnonzero(~dataset.crowd(i))]
        times = np.zeros(record.size, np.int32)
        placed = list(zip(masks.windows, masks.bitmaps, strict=True))
        for window, bitmap in placed:
            times[window] += bitmap
        own = masks.areas().tolist()
        areas += own
        twice = [int((times[window][bitmap] > 1).sum()) for window, bitmap in placed]
        shared += [n / a if a else 0.0 for n, a in zip(twice, own, strict=True)]
        covered.append(float((times > 0).mean()))
    return np.array(areas, np.float64), np.array(covered, np.float64), np.array(shared, np.float64)


def _overlap(groups: Sequence[Sequence[Annotation]], shared: Array | None) -> Overlap:
    highest, same = np.concatenate([np.zeros((2, 0)), *map(_highest_iou, groups)], axis=1)
    masks = None if shared is None else _spread(shared)
    return Overlap(_spread(highest), int((highest > 0.5).sum()), int((same > 0.5).sum()), masks)


def _highest_iou(objects: Sequence[Annotation]) -> Array:
    """(2, N) the highest IoU of each box with another, and with another of its class; 0 where there is none."""
    n, labels = len(objects), np.array([a.label for a in objects])
    rows = torch.tensor([a.box for a in objects], dtype=torch.float64).reshape(-1, 4)
    out = np.zeros((2, n))
    for start in range(0, n if n > 1 else 0, _ROWS):
        part = slice(start, start + _ROWS)
        iou = box_ops.iou(rows[part], rows).numpy()  # (_ROWS, N)
        own = np.arange(len(iou))
        iou[own, start + own] = 0
        out[0, part] = iou.max(axis=1)
        out[1, part] = np.where(labels[part, None] == labels, iou, 0).max(axis=1)
    return out


def _spread(values: Array) -> Quantiles | None:
    if len(values) == 0:
        return None
    points = np.quantile(values, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).tolist()
    return Quantiles(len(values), float(values.mean()), *points)


def most_objects(dataset: Dataset) -> int:
    """Objects of the fullest image."""
    return max((sum(not a.crowd for a in dataset.of(i)) for i in range(len(dataset))), default=0)


def room(objects: int) -> int:
    """A limit of detections that leaves room for this many objects: half as many again, in fifties, at least 100."""
    return max(100, 50 * math.ceil(1.5 * objects / 50))


def object_side(objects: Sequence[Annotation]) -> Array:
    """(N,) the size of objects in pixels: the square root of the area that the file states."""
    side: Array = np.sqrt(np.array([a.area for a in objects], np.float64))
    return side


def summary(dataset: Dataset) -> str:
    """One line: how many images, objects, crowd regions and classes."""
    rows = [dataset.of(i) for i in range(len(dataset))]
    crowds = sum(a.crowd for own in rows for a in own)
    objects = sum(map(len, rows)) - crowds
    return _headline(len(dataset), sum(not own for own in rows), objects, crowds, len(dataset.classes))


def _headline(images: int, empty: int, objects: int, crowds: int, classes: int) -> str:
    regions = f", {counted(crowds, 'crowd region')}" if crowds else ""
    kinds = counted(classes, "class", "es")
    return f"{counted(images, 'image')} ({empty} empty), {counted(objects, 'object')}{regions}, {kinds}."


def _short(value: float) -> str:
    """Four significant digits, no exponent."""
    if abs(value) >= 1000 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.4g}" if value >= 0.001 else "<0.001"
