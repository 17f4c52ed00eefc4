"""Raw detections to instances on the picture: threshold, undo the geometry, draw the masks.

The same code finishes what a PyTorch model, an exported file and a server answer.
"""

from collections.abc import Sequence

import numpy as np
import torch

from maskwright.engine.prediction import Prediction
from maskwright.geometry import Geometry
from maskwright.ops import boxes as box_ops
from maskwright.ops.paste import paste
from maskwright.types import Classes, OutputSpec, RawDetections


def finish(
    raw: RawDetections,
    row: int,
    geometry: Geometry,
    classes: Classes,
    output: OutputSpec,
    labels: Sequence[int] | None = None,
) -> Prediction:
    """The instances of picture `row` of the batch, in that picture's pixels, best first.

    geometry: the map picture -> input that `prepare` returned. labels: keep only these (None: all).
    """
    scores = raw.scores[row].float().cpu()
    keep = (scores > 0) & (scores >= output.score_threshold)
    if labels is not None:
        keep &= torch.isin(raw.labels[row].cpu(), torch.tensor(list(labels), dtype=torch.int64))
    index = torch.nonzero(keep).flatten()
    boxes = torch.from_numpy(geometry.inverse().boxes(raw.boxes[row].float().cpu()[index].numpy()))
    if output.clip:
        boxes = box_ops.clip(boxes, geometry.source)
        good = box_ops.sides_at_least(boxes, 0)
        boxes, index = boxes[good], index[good]
    boxes, index = boxes[: output.max_instances], index[: output.max_instances]
    crops = None
    if raw.mask_probs is not None:
        probs = raw.mask_probs[row].cpu()[index]
        crops = paste(probs, boxes, geometry.source, rule=output.paste, threshold=output.mask_threshold)
    return Prediction(
        boxes=boxes.numpy(),
        scores=scores[index].numpy(),
        labels=raw.labels[row].cpu()[index].numpy().astype(np.int64),
        classes=classes,
        size=geometry.source,
        crops=crops,
    )
