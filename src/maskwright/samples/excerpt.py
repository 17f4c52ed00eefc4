"""A few typical images of a data set, cut to windows at the network's scale: enough to see whether it can be learnt.

Letters: N objects, H W image, h w window.
"""

from pathlib import Path

import numpy as np

from maskwright import media
from maskwright.data.dataset import RLE, Annotation, Dataset, ImageRecord
from maskwright.geometry import Geometry
from maskwright.ops import masks as mask_ops
from maskwright.ops.warp import input_size
from maskwright.samples.augment import Choice, apply
from maskwright.samples.loader import usable
from maskwright.samples.sample import Objects, Sample
from maskwright.types import InputSpec, Masks, Size

LEAST_SHARE = 0.4
"""An object of which a window shows less is marked as crowd: neither object nor background."""


def typical(dataset: Dataset, count: int) -> list[int]:
    """Positions of up to `count` images with objects: all classes if possible, then the most usual object counts."""
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
    """Windows of the images, at most `side` pixels wide and high and scaled as `spec` wants them, as a data set.

    Each window is the one with the most objects whole. The images are written into `folder`.
    """
    records, annotations = [], {}
    for i in positions:
        sample = Sample(dataset.image(i), _objects(dataset, i))
        seen = _window(sample, spec, side)
        size: Size = (seen.image.shape[0], seen.image.shape[1])
        record = ImageRecord(dataset.images[i].id, f"{i}.png", size)
        media.write_image(folder / record.file_name, seen.image)
        records.append(record)
        annotations[record.id] = _annotations(seen.objects, record)
    return Dataset(dataset.classes, tuple(records), annotations, folder, dataset.source)


def _objects(dataset: Dataset, i: int) -> Objects:
    masks = dataset.masks(i) if all(a.segmentation is not None for a in dataset.of(i)) else None
    return Objects(dataset.boxes(i), dataset.labels(i), masks, dataset.crowd(i))


def _window(sample: Sample, spec: InputSpec, side: int) -> Sample:
    size: Size = (sample.image.shape[0], sample.image.shape[1])
    scaled = input_size(size, spec)
    whole = Geometry.resize(size, scaled)
    window = (min(side, scaled[0]), min(side, scaled[1]))
    room = np.array([scaled[1] - window[1], scaled[0] - window[0]])
    boxes = whole.boxes(sample.objects.boxes[~sample.objects.crowd])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    corners = np.clip(centres - np.array(window[::-1]) / 2, 0, room).astype(np.int64)  # (N, 2) left, top
    inside = (boxes[None, :, :2] >= corners[:, None]) & (boxes[None, :, 2:] <= (corners + window[::-1])[:, None])
    left, top = corners[int(inside.all(2).sum(1).argmax())].tolist()
    cut = Geometry.crop(scaled, top, left, window)
    return apply(sample, Choice(whole.then(cut), min_share=LEAST_SHARE, cut="ignore"))


def _annotations(objects: Objects, record: ImageRecord) -> tuple[Annotation, ...]:
    masks: Masks | None = objects.masks
    lengths: list[RLE] | list[None] = [None] * len(objects) if masks is None else mask_ops.encode(masks)
    rows: list[Annotation] = []
    for k, outline in enumerate(lengths):
        x1, y1, x2, y2 = (float(v) for v in objects.boxes[k])
        area = (x2 - x1) * (y2 - y1) if masks is None else float(masks.areas()[k])
        rows.append(
            Annotation(
                id=1000 * len(rows) + record.id,
                image_id=record.id,
                label=int(objects.labels[k]),
                box=(x1, y1, x2, y2),
                segmentation=outline,
                area=area,
                crowd=bool(objects.crowd[k]),
            )
        )
    return tuple(rows)
