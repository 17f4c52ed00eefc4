"""Raw detections to instances on the image: threshold, map boxes back to the image, finish masks and landmarks.

One piece of code for every model: what differs between them is in `OutputSpec`, and in the parts that they return. A
part has one finisher in `FINISHERS`; each fills a field of the `Prediction`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskwright.geometry import Geometry
from maskwright.ops import boxes as box_ops
from maskwright.ops import components, heat_maps, prototypes
from maskwright.ops.paste import paste
from maskwright.results.prediction import CANDIDATES, MAX_INSTANCES, Prediction
from maskwright.types import (
    BoxMasks,
    Classes,
    HeatMaps,
    Masks,
    OutputSpec,
    Part,
    PrototypeMasks,
    RawDetections,
    Semantic,
)


@dataclass(frozen=True, eq=False)
class KeptRows:
    """The rows of one image that become instances, best first.

    image: its number in the batch. index (N,): rows of the raw detections. boxes (N, 4) on the image; scores (N,);
    box_scores (N,): those of the class alone where masks are rated, else None. raw_boxes (N, 4): in the input frame.
    limits: see `Prediction`.
    """

    image: int
    index: Tensor
    boxes: Tensor
    scores: Tensor
    box_scores: Tensor | None
    raw_boxes: Tensor
    geometry: Geometry
    output: OutputSpec
    limits: Mapping[str, float] = field(default_factory=dict)


def finish(
    raw: RawDetections,
    image: int,
    geometry: Geometry,
    classes: Classes,
    output: OutputSpec,
    labels: Sequence[int] | None = None,
) -> Prediction:
    """The instances of one image of the batch, in that image's pixels, best first.

    geometry: the map image -> input that `prepare` returned. labels: keep only these (None: all). Rows are chosen by
    the score of their class; where masks are rated, the rows are put in the order of class score x rating, and
    that, at most 1, becomes the score; `box_scores` keeps the class score.
    """
    return finished(raw, kept_rows(raw, image, geometry, output, labels), classes)


def kept_rows(
    raw: RawDetections, image: int, geometry: Geometry, output: OutputSpec, labels: Sequence[int] | None = None
) -> KeptRows:
    """Which rows of an image become instances; see `finish`."""
    scores = raw.scores[image].float().cpu()
    keep = (scores > 0) & (scores >= output.score_threshold)
    if labels is not None:
        keep &= torch.isin(raw.labels[image].cpu(), torch.tensor(list(labels), dtype=torch.int64))
    index = torch.nonzero(keep).flatten()
    raw_boxes = raw.boxes[image].float().cpu()
    boxes, good = _on_image(raw_boxes[index], geometry, output)
    boxes, index = boxes[good], index[good]
    limits = _reached(raw, image, index, output)
    boxes, index = boxes[: output.max_instances], index[: output.max_instances]
    shown, box_scores = scores[index], None
    masks = raw.part(PrototypeMasks)
    if masks is not None and masks.ratings is not None:
        rated = shown * masks.ratings[image].float().cpu()[index]  # a rating may be above 1
        order = torch.argsort(rated, descending=True, stable=True)
        boxes, index, shown, box_scores = boxes[order], index[order], rated[order].clamp(0, 1), shown[order]
    return KeptRows(image, index, boxes, shown, box_scores, raw_boxes[index], geometry, output, limits)


def _reached(raw: RawDetections, image: int, index: Tensor, output: OutputSpec) -> dict[str, float]:
    """The limits that left something out, see `Prediction.limits`. index: the rows that may be shown, best first."""
    scores, out = raw.scores[image].float().cpu(), dict[str, float]()
    if len(index) > output.max_instances > 0:
        out[MAX_INSTANCES] = float(scores[index[output.max_instances]])
    elif len(scores) and scores[-1] > 0 and scores[-1] >= output.score_threshold:  # all rows are used
        out[MAX_INSTANCES] = float(scores[-1])
    best = 0.0 if raw.left_out is None else float(raw.left_out[image])
    if not out and best > 0 and best >= output.score_threshold:
        out[CANDIDATES] = best
    return out


def finished(raw: RawDetections, kept: KeptRows, classes: Classes) -> Prediction:
    """The instances of the rows that `kept_rows` chose."""
    fields: dict[str, Any] = {}
    for part in raw.parts:
        fields |= FINISHERS[type(part)](part, kept)
    return Prediction(
        boxes=kept.boxes.numpy(),
        scores=kept.scores.numpy(),
        labels=raw.labels[kept.image].cpu()[kept.index].numpy().astype(np.int64),
        classes=classes,
        size=kept.geometry.source,
        box_scores=None if kept.box_scores is None else kept.box_scores.numpy(),
        limits=kept.limits,
        **fields,
    )


def _on_image(boxes: Tensor, geometry: Geometry, output: OutputSpec) -> tuple[Tensor, Tensor]:
    """(N, 4) of the input to boxes of the image, and (N,) bool: which of them are left."""
    boxes = torch.from_numpy(geometry.inverse().boxes(boxes.numpy()))
    if output.clip:
        boxes = box_ops.clip(boxes, geometry.source)
    if output.whole_boxes:
        boxes = boxes.trunc()
    if output.clip or output.whole_boxes:
        return boxes, box_ops.sides_at_least(boxes, 0)
    return boxes, torch.ones(len(boxes), dtype=torch.bool)


# ---- a finisher for each part ---------------------------------------------------------------------------------------


def _box_masks(part: BoxMasks, kept: KeptRows) -> dict[str, Masks]:
    """Masks, pasted into the boxes on the image."""
    probs, output = part.probs[kept.image].cpu()[kept.index], kept.output
    masks = paste(probs, kept.boxes, kept.geometry.source, rule=output.paste, threshold=output.mask_threshold)
    return {"crops": _parts_kept(masks, output)}


def _prototype_masks(part: PrototypeMasks, kept: KeptRows) -> dict[str, Masks]:
    """Masks, drawn of the prototypes and cropped by the boxes of the input, which are not clipped."""
    output = kept.output
    masks = prototypes.draw(
        part.prototypes[kept.image],
        part.coefficients[kept.image].cpu()[kept.index],
        kept.raw_boxes,
        part.span,
        kept.geometry,
        margin=output.crop_margin,
        upsample=output.upsample,
        threshold=output.mask_threshold,
    )
    return {"crops": _parts_kept(masks, output)}


def _parts_kept(masks: Masks, output: OutputSpec) -> Masks:
    return components.largest(masks) if output.largest_component else masks


def _heat_maps(part: HeatMaps, kept: KeptRows) -> dict[str, Any]:
    """Landmarks (N, P, 3): the peak of each map inside the box of the input, brought to the image; zeros behind the
    last landmark of a class."""
    logits = part.logits[kept.image].float().cpu()[kept.index]
    points = heat_maps.peaks(logits, kept.raw_boxes)
    points[..., :2] = kept.geometry.inverse().points(points[..., :2].reshape(-1, 2)).reshape(*points.shape[:2], 2)
    absent = np.arange(points.shape[1]) >= part.counts[kept.image].cpu()[kept.index].numpy()[:, None]
    points[absent] = 0
    return {"keypoints": points.astype(np.float32)}


def _semantic(part: Semantic, kept: KeptRows) -> dict[str, Any]:
    """(H, W) the class of every pixel."""
    labels = heat_maps.class_of_pixels(part.logits[kept.image].float().cpu(), part.span, kept.geometry)
    return {"semantic": labels, "semantic_classes": part.classes, "stuff_area": part.stuff_area}


FINISHERS: Mapping[type[Part], Callable[[Any, KeptRows], dict[str, Any]]] = MappingProxyType(
    {BoxMasks: _box_masks, PrototypeMasks: _prototype_masks, HeatMaps: _heat_maps, Semantic: _semantic}
)
"""What each kind of part adds to a prediction."""
