"""From samples to network inputs and their targets, augmented or exactly as in prediction.

Letters: h w one input image.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskwright.geometry import Geometry
from maskwright.ops.warp import input_size, normalise, resize_normalise
from maskwright.samples.augment import Augment, Choice, move_objects
from maskwright.samples.mix import Another, View, vary
from maskwright.samples.sample import Objects, Sample
from maskwright.types import FloatArray, InputSpec, IntArray, Target


def scaled_spec(spec: InputSpec, size: int) -> InputSpec:
    """`spec` at another short edge or side of the square, its long-edge limit in proportion."""
    limit = None if spec.max_size is None else max(1, round(spec.max_size * size / spec.size))
    return replace(spec, size=size, max_size=limit)


class Prepared(NamedTuple):
    """A network's input (3, h, w), its annotation, and for a network that is given them its proposals (P, 4)."""

    image: Tensor
    target: Target
    proposals: Tensor | None


def prepare_samples(
    samples: Sequence[Sample],
    spec: InputSpec,
    config: Augment | None,
    rng: np.random.Generator,
    another: Another | None = None,
) -> list[Prepared]:
    """The network inputs and what goes with them in the input frame, for an image or several frames of a clip.

    Without augmentation the input is exactly that of prediction. With it the image is moved and scaled in one pass by
    the spec's filter, then normalised by the same function as in prediction. Pixels outside the image get the mean
    colour, which is normalised to zero like padding. Frames are augmented as the first of them. another: draws the
    images for mosaic and copy-paste, which only a single image can have.
    """
    if config is None:
        size = samples[0].size
        still = Choice(Geometry.resize(size, input_size(size, spec)))
        move = still.geometry
        return [
            _prepared(
                resize_normalise(s.image, spec),
                move_objects(s.objects, still),
                s.semantic_moved(move),
                s.proposals_moved(move),
            )
            for s in samples
        ]
    mean = spec.mean if spec.channels == "RGB" else spec.mean[::-1]
    fill = (round(mean[0]), round(mean[1]), round(mean[2]))
    view = View(lambda size: input_size(size, spec), fill, antialias=spec.resize == "pillow")
    if len(samples) > 1:
        moved = view.varied_alike(samples, config, rng)
    else:
        moved = [vary(samples[0], config, rng, view, another)]
    return [_prepared(normalise(one.image, spec), one.objects, one.semantic, one.proposals) for one in moved]


def _prepared(image: Tensor, objects: Objects, semantic: IntArray | None, proposals: FloatArray | None) -> Prepared:
    target = Target(
        boxes=torch.from_numpy(objects.boxes),
        labels=torch.from_numpy(objects.labels),
        masks=objects.masks,
        crowd=torch.from_numpy(objects.crowd),
        keypoints=None if objects.keypoints is None else torch.from_numpy(objects.keypoints),
        semantic=None if semantic is None else torch.from_numpy(semantic),
    )
    return Prepared(image, target, None if proposals is None else torch.from_numpy(proposals))
