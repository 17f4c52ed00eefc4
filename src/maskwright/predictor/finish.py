"""Raw detections to instances on the image: threshold, undo the geometry, draw the masks.

One piece of code for every model: what differs between them is in `OutputSpec`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maskwright.geometry import Geometry
from maskwright.ops import boxes as box_ops
from maskwright.ops import components, prototypes
from maskwright.ops.paste import paste
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Masks, OutputSpec, RawDetections


def finish(
    raw: RawDetections,
    row: int,
    geometry: Geometry,
    classes: Classes,
    output: OutputSpec,
    labels: Sequence[int] | None = None,
) -> Prediction:
    """The instances of image `row` of the batch, in that image's pixels, best first.

    geometry: the map image -> input that `prepare` returned. labels: keep only these (None: all). Rows are chosen by
    the score of their class; where masks are rated, the rows are put in the order of class score x rating, and
    that, at most 1, becomes the score; `box_scores` keeps the class score.
    """
    scores = raw.scores[row].float().cpu()
    keep = (scores > 0) & (scores >= output.score_threshold)
    if labels is not None:
        keep &= torch.isin(raw.labels[row].cpu(), torch.tensor(list(labels), dtype=torch.int64))
    index = torch.nonzero(keep).flatten()
    boxes, good = _on_image(raw.boxes[row].float().cpu()[index], geometry, output)
    boxes, index = boxes[good][: output.max_instances], index[good][: output.max_instances]
    shown, box_scores = scores[index], None
    if raw.mask_ratings is not None:
        box_scores = shown
        rated = box_scores * raw.mask_ratings[row].float().cpu()[index]  # a rating may be above 1
        order = torch.argsort(rated, descending=True, stable=True)
        boxes, index, shown, box_scores = boxes[order], index[order], rated[order].clamp(0, 1), box_scores[order]
    return Prediction(
        boxes=boxes.numpy(),
        scores=shown.numpy(),
        labels=raw.labels[row].cpu()[index].numpy().astype(np.int64),
        classes=classes,
        size=geometry.source,
        crops=_masks(raw, row, index, boxes, geometry, output),
        box_scores=None if box_scores is None else box_scores.numpy(),
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


def _masks(
    raw: RawDetections, row: int, index: Tensor, boxes: Tensor, geometry: Geometry, output: OutputSpec
) -> Masks | None:
    """Of the rows `index`, whose boxes on the image are `boxes`; prototypes are cropped by their own, not clipped."""
    if raw.mask_probs is not None:
        probs = raw.mask_probs[row].cpu()[index]
        masks = paste(probs, boxes, geometry.source, rule=output.paste, threshold=output.mask_threshold)
    elif raw.coefficients is not None and raw.prototypes is not None and raw.span is not None:
        masks = prototypes.draw(
            raw.prototypes[row],
            raw.coefficients[row].cpu()[index],
            raw.boxes[row].cpu()[index],
            raw.span,
            geometry,
            margin=output.crop_margin,
            upsample=output.upsample,
            threshold=output.mask_threshold,
        )
    else:
        return None
    return components.largest(masks) if output.largest_component else masks
