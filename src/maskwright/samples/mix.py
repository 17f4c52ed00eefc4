"""Augmentation with several images: copy-paste and mosaic. `vary` applies everything that `Augment` has.

Each image is moved in one pass and has its own random stream: the augmentation of the first image is the same with and
without copy-paste and mosaic, except for its window in a mosaic.

Letters: N objects, H W image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from maskwright.errors import ConfigError, DataError
from maskwright.geometry import Geometry
from maskwright.samples.augment import Augment, apply, apply_alike, choose, cut_objects
from maskwright.samples.sample import Objects, Sample, join, join_proposals, move_points
from maskwright.types import RGB, BoolArray, FloatArray, Masks, Size


class Another(Protocol):
    """Draws another image of the data set; `filled`: one that has an object."""

    def __call__(self, rng: np.random.Generator, *, filled: bool) -> Sample: ...


@dataclass(frozen=True)
class View:
    """How an image becomes network input before it is augmented.

    scaled: the input's size from the image's. fill: colour outside images. antialias: average where they shrink.
    """

    scaled: Callable[[Size], Size]
    fill: RGB = (0, 0, 0)
    antialias: bool = True

    def varied(self, sample: Sample, config: Augment, rng: np.random.Generator) -> Sample:
        """The sample after one randomly drawn augmentation."""
        return self.varied_alike([sample], config, rng)[0]

    def varied_alike(self, samples: Sequence[Sample], config: Augment, rng: np.random.Generator) -> list[Sample]:
        """Frames of a clip after one augmentation, drawn for the first one and the same for all."""
        first = samples[0]
        choice = choose(config, rng, first.size, self.scaled(first.size), first.objects)
        return apply_alike(samples, choice, fill=self.fill, antialias=self.antialias)


def vary(
    sample: Sample, config: Augment, rng: np.random.Generator, view: View, another: Another | None = None
) -> Sample:
    """The sample, augmented by `config`. The same `rng` state gives the same result.

    another: draws the other images. Raises ConfigError where the config needs it and there is none.
    """
    if another is None:
        if config.mosaic or config.copy_paste:
            raise ConfigError("Augment: mosaic and copy_paste need other images to draw from, got none.")
        return view.varied(sample, config, rng)
    aside = rng.spawn(1)[0]  # does not change the stream of the first image
    tiles, source = aside.spawn(2)
    chance = aside.random(2)
    if chance[0] < config.mosaic:
        out = mosaic(sample, config, rng, view, another, tiles)
    else:
        out = view.varied(sample, config, rng)
    if chance[1] < config.copy_paste:
        out = paste(out, cut_out(out.size, config, view, another, source), config.min_share, config.cut)
    return out


# ---- mosaic ---------------------------------------------------------------------------------------------------------


def mosaic(
    sample: Sample, config: Augment, rng: np.random.Generator, view: View, another: Another, tiles: np.random.Generator
) -> Sample:
    """Four images around a point in the middle 40% of the canvas, `sample` at the upper left.

    The canvas has the size of `config.crop`, else of the sample's input. Each image is augmented by itself and seen
    through a window as large as its tile; a smaller image touches the point, and the rest of its tile has the fill
    colour and no class in the semantic map, which the result has where any of the images has one. `tiles` draws the
    point and the other images. (YOLOv4, Bochkovskiy et al. 2020, section 3.3; there the images are shrunk first, here
    `scale` says whether they are.)
    """
    height, width = config.crop or view.scaled(sample.size)
    shares = tiles.uniform(0.3, 0.7, 2)
    y, x = max(1, round(height * shares[0])), max(1, round(width * shares[1]))
    image = np.empty((height, width, 3), np.uint8)
    image[:] = view.fill
    semantic, mapped, parts = np.full((height, width), -1, np.int64), False, list[Objects]()
    boxes: list[FloatArray | None] = []
    for k, stream in enumerate([rng, *tiles.spawn(3)]):
        low, right = divmod(k, 2)
        tile = (height - y if low else y, width - x if right else x)
        if min(tile) < 1:
            continue
        source_image = sample if k == 0 else another(stream, filled=False)
        seen = view.varied(source_image, replace(config, crop=tile), stream)
        h, w = seen.size
        top, left = y if low else y - h, x if right else x - w
        image[top : top + h, left : left + w] = seen.image
        if seen.semantic is not None:
            semantic[top : top + h, left : left + w], mapped = seen.semantic, True
        parts.append(_placed(seen, top, left, (height, width)))
        boxes.append(seen.proposals_moved(Geometry.crop(seen.size, -top, -left, (height, width))))
    return Sample(image, join(parts), semantic if mapped else None, proposals=join_proposals(boxes))


def _placed(seen: Sample, top: int, left: int, size: Size) -> Objects:
    """The objects of an image that is placed at (top, left) of one of `size`."""
    move, masks = Geometry.crop(seen.size, -top, -left, size), seen.objects.masks
    corner = np.array([top, left])
    return replace(
        seen.objects,
        boxes=move.boxes(seen.objects.boxes),
        masks=None if masks is None else Masks(size, masks.corners + corner, masks.bitmaps),  # nothing to resample
        keypoints=move_points(seen.objects, move),
    )


# ---- copy-paste -----------------------------------------------------------------------------------------------------


def cut_out(size: Size, config: Augment, view: View, another: Another, rng: np.random.Generator) -> Sample:
    """The sample to paste onto an image of `size`: another image, augmented by itself at a random place, and some of
    its objects, from one to all that are visible.

    Crowds are left out, and so are objects that touch the border of their own image: pasted they would have edges that
    no object has. (Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for
    Instance Segmentation", 2021, section 3; without its optional blending, and the window always holds an object.)
    """
    image = another(rng, filled=True)
    objects = image.objects[_whole(image)]
    near = replace(config, crop=size, focus=1.0)
    choice = choose(near, rng, image.size, view.scaled(image.size), objects)
    window = choice.geometry.size
    top, left = (int(rng.integers(have - want + 1)) for have, want in zip(size, window, strict=True))
    placed = replace(choice, geometry=choice.geometry.then(Geometry.crop(window, -top, -left, size)))
    moved = apply(replace(image, objects=objects), placed, fill=view.fill, antialias=view.antialias)
    pasted = np.flatnonzero(~moved.objects.crowd)  # also what the window cuts, where `cut` is "ignore"
    count = int(rng.integers(1, len(pasted) + 1)) if len(pasted) else 0
    return replace(moved, objects=moved.objects[np.sort(rng.permutation(pasted)[:count])])


def _whole(image: Sample) -> BoolArray:
    """(N,) objects that do not touch the image's border."""
    boxes, (height, width) = _masks(image.objects).boxes(), image.size
    return np.asarray(((boxes[:, :2] > 0) & (boxes[:, 2:] < (width, height))).all(axis=1))


def paste(base: Sample, source: Sample, min_share: float = 0.0, cut: Literal["drop", "ignore"] = "drop") -> Sample:
    """All objects of `source` pasted onto `base`, an image of the same size, by their exact masks.

    The pixels that they hide are cut from the masks of `base`, whose boxes become tight again; objects of which less
    than `min_share` is left are dropped or marked as crowd. Hidden landmarks get visibility 1. The pasted objects come
    last, and so do the proposals of `source`. Where `base` has a semantic map, pasted pixels bring the class they have
    in `source`, -1 where it has no map. Raises DataError where either has no masks.
    """
    masks = _masks(source.objects)
    if source.size != base.size:
        raise DataError(f"paste: the images are {base.size} and {source.size}, they must have one size.")
    cover = np.zeros(base.size, np.bool_)
    for window, bitmap in zip(masks.windows, masks.bitmaps, strict=True):
        cover[window] |= bitmap
    image = base.image.copy()
    image[cover] = source.image[cover]
    objects, semantic = join([_hide(base.objects, cover, min_share, cut), source.objects]), base.semantic
    if semantic is not None:
        semantic = np.where(cover, -1 if source.semantic is None else source.semantic, semantic)
    return Sample(image, objects, semantic, proposals=join_proposals([base.proposals, source.proposals]))


def _hide(objects: Objects, cover: BoolArray, min_share: float, cut: Literal["drop", "ignore"]) -> Objects:
    """The objects without the pixels of `cover` (H, W)."""
    masks = _masks(objects)
    seen = (bitmap & ~cover[window] for window, bitmap in zip(masks.windows, masks.bitmaps, strict=True))
    left_over = Masks(masks.size, masks.corners, tuple(seen))
    share = (left_over.areas() / np.maximum(masks.areas(), 1)).astype(np.float32)
    points = objects.keypoints
    if points is not None:
        points = points.copy()
        columns, rows = (np.clip(points[:, :, k].astype(np.int64), 0, cover.shape[1 - k] - 1) for k in (0, 1))
        points[:, :, 2] = np.where(cover[rows, columns], np.minimum(points[:, :, 2], 1), points[:, :, 2])
    hidden = replace(objects, boxes=left_over.boxes(), masks=left_over, keypoints=points)
    return cut_objects(hidden, share, min_share, cut)


def _masks(objects: Objects) -> Masks:
    if objects.masks is None:
        raise DataError("Copy-paste needs outlines, these objects have boxes only. Set copy_paste = 0.")
    return objects.masks
