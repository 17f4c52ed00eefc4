"""Faults of the data set as a whole, and between training and validation.

Letters: T training images, V validation images.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from maskwright.data.dataset import ALL_CROWDS, usual_part
from maskwright.data.doubt import Tally
from maskwright.data.faults.looks import ImageLook, Looks
from maskwright.data.faults.raw_rows import GONE
from maskwright.data.faults.table import Finding
from maskwright.data.faults.view import CheckedImage, RecordIndex, marks_crowd, sides_of
from maskwright.data.formats.shared.fields import short
from maskwright.types import IntArray

Findings = Iterator[Finding | None]
Usable = list[tuple[CheckedImage, ImageLook]]
_CROWDS = 5  # fewer crowd regions of one piece are no fault
_BITS = 8  # of 63 in which the sketches of two similar images may differ
_ALIKE = 0.98  # correlation of their 16 x 16 grey images


def geometry(view: RecordIndex) -> Iterator[Finding]:
    """Boxes without outline in a set of outlines, and outlines that are only boxes."""
    with_outline = without = rectangles = polygons = 0
    bare = []
    for k, row in view.annotations():
        outline = row.get("segmentation")
        if outline:
            with_outline += 1
            if isinstance(outline, list):
                polygons += 1
                rectangles += _is_rectangle(outline)
        elif row.get("bbox") is not None:
            without += 1
            bare.append(k)
    for k in bare if with_outline else ():
        text = f"a box only; {with_outline} objects have outlines, {without} do not"
        yield Finding("box-only-object", view.rows.where(k), text, "annotations", k)
    if rectangles >= 10 and rectangles > 0.5 * with_outline:
        text = f"{rectangles} of {with_outline} outlines are upright rectangles"
        yield Finding("rectangular-masks", view.rows.path.name, text)


def crowds(view: RecordIndex, tally: Tally) -> Iterator[Finding]:
    """Crowd regions that are probably objects: all annotations are such, or many are, each of one piece."""
    rows = [row for _, row in view.annotations()]
    count, single = sum(map(marks_crowd, rows)), tally.single
    shape = ", each one connected thing" if count == single else ""
    if rows and count == len(rows):
        yield Finding("no-objects", view.rows.path.name, ALL_CROWDS.format(count=count, shape=shape))
    elif single >= max(_CROWDS, 0.1 * len(rows)) and single >= 0.9 * count:
        text = f"{single} of {len(rows)} annotations are crowd regions, each one connected thing"
        yield Finding("crowd-regions", view.rows.path.name, text)


def _is_rectangle(outline: list[object]) -> bool:
    part = outline[0]
    if len(outline) != 1 or not isinstance(part, list) or len(part) not in (8, 10):
        return False
    points = set(zip(part[0::2], part[1::2], strict=True))
    return len(points) == 4 and len({x for x, _ in points}) == 2 == len({y for _, y in points})


def between(train: RecordIndex, looks: Looks, val: RecordIndex, val_looks: Looks, *, files: bool) -> Findings:
    """Images that are in both training and validation, and differences of their classes.

    files: whether the image files were opened; without, only their names are compared.
    """
    yield from _classes(train, val)
    if files:
        yield from _shared(_usable(train.images, looks), _usable(val.images, val_looks))
        return
    a, b = train.rows.root, val.rows.root
    names = {image.name for image in val.images} if a and b and a.resolve() == b.resolve() else set()
    for image in train.images:
        if image.name in names:
            yield image.finding("in-train-and-val", "the validation file lists it too")


def _classes(train: RecordIndex, val: RecordIndex) -> Findings:
    ours, theirs = (
        {number: view.name(number) for number, k in view.categories.items() if view.rows.categories[k] is not GONE}
        for view in (train, val)
    )
    if ours == theirs:
        return
    missing, extra = (sorted(set(a.values()) - set(b.values())) for a, b in ((ours, theirs), (theirs, ours)))
    if missing or extra:
        text = f"only in training: {short(missing)}; only in validation: {short(extra)}"
    else:
        moved = [n for n in ours if theirs.get(n) != ours[n]]
        text = f"the same names have other ids, for example {moved[0]} is '{ours[moved[0]]}' in training"
    yield Finding("val-classes-differ", val.rows.path.name, text)


def between_parts(view: RecordIndex, looks: Looks) -> Findings:
    """Images that are both in the training part of a data set and in a part that is held out."""
    learnt, held_out = sides_of(view)
    yield from _shared(_usable(learnt, looks), _usable(held_out, looks))


def _shared(ours: Usable, theirs: Usable) -> Findings:
    yield from _identical(ours, theirs)
    yield from _similar(ours, theirs)


def _usable(images: Sequence[CheckedImage], looks: Looks) -> Usable:
    pairs = [(p, looks[p.at]) for p in images if p.at in looks]
    return [(p, look) for p, look in pairs if look.problem is None and not look.blank]


def _identical(ours: Usable, theirs: Usable) -> Findings:
    by_bytes = {look.digest: image for image, look in theirs if look.digest}
    by_pixels = {look.pixels: image for image, look in theirs if look.pixels}
    for image, look in ours:
        same = by_bytes.get(look.digest)
        other = same or by_pixels.get(look.pixels)
        if other is not None:
            what = "bytes" if same else "pixels"
            yield image.finding("in-train-and-val", f"the same {what} as {other.name} in {_part(other)}")


def _part(image: CheckedImage) -> str:
    return "test" if usual_part(image.row.get("split")) == "test" else "validation"


def _similar(ours: Usable, theirs: Usable) -> Findings:
    if not ours or not theirs:
        return
    seen = Sketches([look for _, look in theirs])
    for image, look in ours:
        rows, alike = seen.like(look)
        if len(rows):
            best = int(alike.argmax())
            other = theirs[int(rows[best])][0]
            yield image.finding("near-duplicate-in-val", f"looks like {other.name} (correlation {alike[best]:.3f})")


class Sketches:
    """The small forms of images that can be read, among which similar ones are found."""

    def __init__(self, looks: Sequence[ImageLook]) -> None:
        self._bits = np.array([look.sketch for look in looks], np.uint64)  # (V,)
        small = [np.zeros((16, 16), np.uint8) if look.small is None else look.small for look in looks]
        self._small = _normal(np.stack(small)) if small else np.zeros((0, 256), np.float32)  # (V, 256)

    def like(self, look: ImageLook) -> tuple[IntArray, NDArray[np.float32]]:
        """The positions of the images that look like this one, and the correlation with each."""
        if look.small is None:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        close = np.flatnonzero(np.bitwise_count(self._bits ^ np.uint64(look.sketch)) <= _BITS)
        alike = self._small[close] @ _normal(look.small[None])[0]
        return close[alike >= _ALIKE], alike[alike >= _ALIKE]


def _normal(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, 16, 16) to (n, 256) of mean 0 and length 1."""
    flat = small.reshape(len(small), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    out: NDArray[np.float32] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return out
