"""A contact sheet of training samples: what the network sees, beside the images that it comes from.

Letters: H W image, h w input.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from maskwright import draw
from maskwright.data.dataset import Dataset
from maskwright.geometry import Geometry
from maskwright.samples.augment import Choice, move_objects
from maskwright.samples.loader import Item, SampleKey, Sampling, TrainingSamples, order
from maskwright.samples.sample import Objects, Sample
from maskwright.types import Classes, ImageArray, InputSpec, Instances
from maskwright.wording import counted

LARGEST = 512
"""Long edge in pixels up to which samples are enlarged, by a whole factor, or to which they are shrunk."""

PER_IMAGE = 3
"""Augmented samples of each image, where there are enough images."""

GROUND, INK, GAP, LINE = (255, 255, 255), (40, 40, 40), 8, 18


def sheet(data: Dataset, spec: InputSpec, sampling: Sampling, count: int = 12) -> NDArray[np.uint8]:
    """`count` training samples (H, W, 3), those of each image in a row after the original.

    The samples are those of the first images in the first epochs of a run, in the colours of the input; crowds are
    marked, and kinds of stuff are tinted. Raises DataError where no image has an object, or an image cannot be used.
    """
    samples = TrainingSamples(data, spec, replace(sampling, masks=data.has_masks))
    positions = order(samples.shown, sampling.seed, 0)[: math.ceil(count / PER_IMAGE)]
    each = math.ceil(count / len(positions))
    originals, seen = [], []
    for row, position in enumerate(int(p) for p in positions):
        originals.append(samples.sample(position))
        keys = [SampleKey(epoch, 0, position) for epoch in range(min(each, count - row * each))]
        seen.append([as_seen(samples[key], spec, originals[-1].objects) for key in keys])
    factor = _factor(max(max(one.size) for row in seen for one in row))  # one for all, so that sizes can be compared
    rows = []
    for position, original, varied in zip(positions, originals, seen, strict=True):
        caption = f"{data.images[position].file_name}, {described(original)}"
        cells = [_cell(original, data, caption, _factor(max(original.size)))]
        cells += [_cell(one, data, f"epoch {k}, {described(one)}", factor) for k, one in enumerate(varied)]
        rows.append(cells)
    return _grid(rows)


def _factor(long: int) -> float:
    return LARGEST // long if long <= LARGEST else LARGEST / long


def as_seen(item: Item, spec: InputSpec, like: Objects) -> Sample:
    """The prepared image in colours that can be shown, without padding, and the target's objects.

    like: the objects in the data set, which name the landmarks.
    """
    pixels = item.image.permute(1, 2, 0).numpy() * np.array(spec.std, np.float32) + np.array(spec.mean, np.float32)
    pixels = np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
    target = item.target
    objects = Objects(
        boxes=target.boxes.numpy(),
        labels=target.labels.numpy(),
        masks=target.masks,  # type: ignore[arg-type]
        crowd=np.zeros(len(target), np.bool_) if target.crowd is None else target.crowd.numpy(),
        keypoints=None if target.keypoints is None else target.keypoints.numpy(),
        landmarks=like.landmarks,
    )
    labels = None if target.semantic is None else target.semantic.numpy()
    return Sample(np.ascontiguousarray(pixels if spec.channels == "RGB" else pixels[:, :, ::-1]), objects, labels)


def described(sample: Sample) -> str:
    """Height, width and objects of a sample, as captions say it."""
    count = len(sample.objects)
    return f"{sample.size[0]}x{sample.size[1]}, {counted(count, 'object')}"


# ---- drawing --------------------------------------------------------------------------------------------------------


def _cell(sample: Sample, data: Dataset, caption: str, factor: float) -> ImageArray:
    """A sample at the size it is shown, annotated, with a line of text above."""
    shown = _overlaid(_resized(sample, factor), data)
    height, width = shown.shape[:2]
    canvas = Image.new("RGB", (max(width, 220), height + LINE), GROUND)
    canvas.paste(Image.fromarray(shown), (0, LINE))
    font = ImageFont.load_default(12)
    pen = ImageDraw.Draw(canvas)
    while pen.textlength(caption, font=font) > canvas.width and len(caption) > 1:
        caption = caption[1:]  # a file name's end tells more than its folder
    pen.text((0, 1), caption, fill=INK, font=font)
    return np.array(canvas)


def _resized(sample: Sample, factor: float) -> Sample:
    """The sample at the size it is shown; pixels are repeated or averaged."""
    if factor == 1:
        return sample
    h, w = (max(1, round(side * factor)) for side in sample.size)
    geometry = Geometry.resize(sample.size, (h, w))
    image = sample.image.repeat(int(factor), 0).repeat(int(factor), 1) if factor > 1 else geometry.image(sample.image)
    return Sample(image, move_objects(sample.objects, Choice(geometry)), sample.semantic_moved(geometry))


def _overlaid(sample: Sample, data: Dataset) -> ImageArray:
    objects, names = sample.objects, data.classes.names
    crowds = [f"{name} (crowd)" for name in names]
    points = objects.keypoints
    if points is not None:
        points = points.copy()
        points[:, :, 2] = points[:, :, 2] > 0
    instances = Instances(
        boxes=objects.boxes,
        scores=np.ones(len(objects), np.float32),
        labels=objects.labels + len(names) * objects.crowd,
        classes=Classes([*names, *crowds], landmarks=data.classes.landmarks * 2),
        size=sample.size,
        crops=objects.masks,
        keypoints=points,
    )
    several = len(names) > 1 or bool(objects.crowd.any())
    return draw.overlay(
        _tinted(sample), instances, labels=several, scores=False, boxes=True, opacity=0.15, outline=1, legend=False
    )


def _tinted(sample: Sample) -> ImageArray:
    """The image with the stuff of its semantic map, one colour for each kind."""
    if sample.semantic is None:
        return sample.image
    shades = np.array([draw.colour_of(k) for k in range(int(sample.semantic.max(initial=0)) + 1)], np.float32)
    mixed = 0.7 * sample.image + 0.3 * shades[sample.semantic.clip(0)]
    return np.where(sample.semantic[..., None] > 0, np.rint(mixed).astype(np.uint8), sample.image)


def _grid(rows: Sequence[Sequence[ImageArray]]) -> ImageArray:
    """Cells under and beside each other, columns and rows as wide and high as they need."""
    columns = max(len(row) for row in rows)
    widths = [max((row[k].shape[1] for row in rows if k < len(row)), default=0) for k in range(columns)]
    heights = [max(cell.shape[0] for cell in row) for row in rows]
    size = (sum(heights) + GAP * (len(rows) + 1), sum(widths) + GAP * (columns + 1))
    out = np.empty((*size, 3), np.uint8)
    out[:] = GROUND
    top = GAP
    for row, high in zip(rows, heights, strict=True):
        left = GAP
        for cell, wide in zip(row, widths, strict=False):
            out[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
            left += wide + GAP
        top += high + GAP
    return out
