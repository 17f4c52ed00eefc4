"""A few typical images of a data set, cut to windows at the scale of the network: enough for a quick trial.

Letters: N objects, H W image, h w window.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from maskwright import media
from maskwright.data.dataset import RLE, Dataset, ImageRecord
from maskwright.data.formats.shared.fields import box_tuple
from maskwright.data.formats.shared.outlines import FileObject, collect
from maskwright.geometry import Geometry
from maskwright.ops import masks as mask_ops
from maskwright.ops.warp import input_size
from maskwright.samples.augment import Choice, apply
from maskwright.samples.loader import usable
from maskwright.samples.sample import Objects, Sample, sample_of
from maskwright.types import InputSpec, IntArray

LEAST_SHARE = 0.4
"""Objects of which a window shows less are marked as crowd, that is, ignored."""


def typical(dataset: Dataset, count: int) -> list[int]:
    """Positions of up to `count` images with objects: all classes if possible, then the most common object counts."""
    labels = [[a.label for a in dataset.of(i) if not a.crowd] for i in range(len(dataset))]
    full = usable(dataset, keep_empty=False).tolist()
    median = float(np.median([len(labels[i]) for i in full]))
    full.sort(key=lambda i: (abs(np.log(len(labels[i]) / median)), i))
    frequency = np.bincount([k for i in full for k in set(labels[i])], minlength=len(dataset.classes))
    chosen: list[int] = []
    for label in np.argsort(frequency, kind="stable").tolist():  # the rarest class first
        if any(label in labels[i] for i in chosen):
            continue
        chosen += [i for i in full if label in labels[i]][:1]
    chosen = chosen[:count]
    return chosen + [i for i in full if i not in chosen][: count - len(chosen)]


def windows(dataset: Dataset, positions: list[int], spec: InputSpec, side: int, folder: Path) -> Dataset:
    """Windows of the images, scaled as `spec` says and at most `side` pixels wide and high, as a data set.

    Each window is the one that holds the most whole objects. The images are written into `folder`.
    """
    dataset = replace(dataset, intensity=spec.intensity)
    maps: dict[str, IntArray] = {}

    def seen(i: int) -> tuple[ImageRecord, list[FileObject]]:
        masks = all(a.segmentation is not None for a in dataset.of(i))
        window = _window(sample_of(dataset, i, masks=masks), spec, side)
        record = ImageRecord(dataset.images[i].id, f"{i}.png", window.size)
        media.write_image(folder / record.file_name, window.image)
        if window.semantic is not None:
            maps[record.file_name] = window.semantic
        return record, _stated(window.objects, record.file_name)

    records, annotations = collect(map(seen, positions))
    cut = Dataset(dataset.classes, records, annotations, folder, dataset.source)
    return replace(cut, semantic_maps=_Maps(maps), semantic_classes=dataset.semantic_classes) if maps else cut


@dataclass(frozen=True)
class _Maps:
    """The semantic maps of windows, by the names of their files."""

    maps: Mapping[str, IntArray]

    def __call__(self, record: ImageRecord) -> IntArray | None:
        return self.maps.get(record.file_name)


def _window(sample: Sample, spec: InputSpec, side: int) -> Sample:
    scaled = input_size(sample.size, spec)
    whole = Geometry.resize(sample.size, scaled)
    window = (min(side, scaled[0]), min(side, scaled[1]))
    room = np.array([scaled[1] - window[1], scaled[0] - window[0]])
    boxes = whole.boxes(sample.objects.boxes[~sample.objects.crowd])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    corners = np.clip(centres - np.array(window[::-1]) / 2, 0, room).astype(np.int64)  # (N, 2) left, top
    inside = (boxes[None, :, :2] >= corners[:, None]) & (boxes[None, :, 2:] <= (corners + window[::-1])[:, None])
    left, top = corners[int(inside.all(2).sum(1).argmax())].tolist()
    cut = Geometry.crop(scaled, top, left, window)
    return apply(sample, Choice(whole.then(cut), min_share=LEAST_SHARE, cut="ignore"))


def _stated(objects: Objects, where: str) -> list[FileObject]:
    """The objects with their masks as run lengths."""
    masks = objects.masks
    lengths: list[RLE] | list[None] = [None] * len(objects) if masks is None else mask_ops.encode(masks)
    return [
        FileObject(where, int(label), rle, box_tuple(box), bool(crowd))
        for label, rle, box, crowd in zip(objects.labels, lengths, objects.boxes, objects.crowd, strict=True)
    ]
