"""The landmarks of each detection (Mask R-CNN, section 5): one heat map over its box for each landmark of its class.

Letters: B batch, K rows kept, R RoIs, F foreground RoIs, C channels, S pooled side, P the most landmarks of any class,
T landmarks of all classes together, M side of a heat map (4 x S).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.errors import DataError
from maskwright.models.base import Detections
from maskwright.models.rcnn.heads import Sampled, together
from maskwright.models.rcnn.reader import RoIReader
from maskwright.nn.layers import Norm, conv
from maskwright.ops import losses
from maskwright.ops.losses import Term
from maskwright.ops.rows import rows_to_refine, spread
from maskwright.types import HeatMaps, Target


class KeypointHead(nn.Module):
    """Pooled features (R, C, S, S) to logits: `convs` 3x3 layers, a 4x4 deconvolution of stride 2, bilinear to M.

    landmarks: how many each class has. Classes share the 3x3 layers; each has maps of its own.
    """

    def __init__(self, inputs: int, width: int, landmarks: Sequence[int], convs: int, norm: Norm | None = None) -> None:
        super().__init__()
        layers = [conv(inputs if i == 0 else width, width, 3, norm, relu=True) for i in range(convs)]
        self.conv = nn.Sequential(*layers)
        self.deconv = nn.ConvTranspose2d(width if convs else inputs, sum(landmarks), 4, stride=2, padding=1)
        nn.init.kaiming_normal_(self.deconv.weight, mode="fan_out", nonlinearity="relu")
        assert self.deconv.bias is not None
        nn.init.zeros_(self.deconv.bias)
        first, most = [sum(landmarks[:label]) for label in range(len(landmarks))], max(landmarks)
        rows = [
            [start + k if k < count else -1 for k in range(most)] for start, count in zip(first, landmarks, strict=True)
        ]
        self.register_buffer("rows", torch.tensor(rows), persistent=False)

    rows: Tensor
    """(Q, P): which of the T maps belongs to a landmark of a class; -1 behind its last one."""

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """(R, C, S, S) and labels (R,) to the logits (R, P, M, M) of each RoI's class; 0 behind its last landmark."""
        maps, rows = self.low(self.conv(x)), self.rows[labels]  # (R, T, 2S, 2S), (R, P)
        own = maps[torch.arange(len(maps), device=maps.device)[:, None], rows.clamp(min=0)]
        own = own * (rows >= 0)[:, :, None, None]
        return F.interpolate(own, scale_factor=2.0, mode="bilinear", align_corners=False)

    def low(self, x: Tensor) -> Tensor:
        """The deconvolution: (R, C, S, S) to (R, T, 2S, 2S)."""
        out: Tensor = self.deconv(x)
        return out

    def counts(self, labels: Tensor) -> Tensor:
        """How many landmarks the class of each label has, of the shape of `labels`."""
        return (self.rows >= 0).sum(dim=1)[labels]


@dataclass(frozen=True, eq=False)
class KeypointBranch:
    """A heat map for each landmark of the predicted class; where it is highest is the landmark."""

    reader: RoIReader
    head: KeypointHead

    def terms(
        self, features: Sequence[Tensor], sampled: Sequence[Sampled], targets: Sequence[Target]
    ) -> dict[str, Term]:
        """`keypoint`: cross-entropy over the cells of a map, of all annotated landmarks inside foreground RoIs."""
        boxes = [s.foreground for s in sampled]
        labels = torch.cat([s.labels[: len(s.truth)] for s in sampled])
        logits = self.head(self.reader(features, *together(boxes)), labels).flatten(2)  # (F, P, M * M)
        most, side = logits.shape[1], round(logits.shape[2] ** 0.5)
        points = torch.cat(
            [logits.new_zeros(0, most, 3)]
            + [self._points(target, s.objects, most) for target, s in zip(targets, sampled, strict=False)]
        )
        cells, seen = cells_of(points, torch.cat(boxes), side)
        seen = seen & (self.head.rows[labels] >= 0)
        total = losses.class_cross_entropy_sum(logits[seen], cells[seen])
        return {"keypoint": Term(total + 0 * logits.sum(), int(seen.sum()))}

    @staticmethod
    def _points(target: Target, objects: Tensor, most: int) -> Tensor:
        """(F, P, 3) of one image: the annotated landmarks of `objects` (F,)."""
        if target.keypoints is None:
            if len(objects):
                raise DataError(
                    "The targets have boxes but no landmarks; a model with landmarks needs both to learn from."
                )
            return torch.zeros(0, most, 3, device=objects.device)
        points = target.keypoints[objects].float()
        if points.shape[1] < most:
            raise DataError(f"The targets have {points.shape[1]} landmarks, the model's classes up to {most}.")
        return points[:, :most]

    def detect(self, features: Sequence[Tensor], found: Detections) -> HeatMaps:
        """The heat maps of detections, logits over their boxes."""
        batch, keep = found.scores.shape
        rows, alive = rows_to_refine(found.alive), found.alive.flatten()
        labels = found.labels.flatten()[rows]
        seen = self.reader(features, found.boxes.flatten(0, 1)[rows], rows // keep)
        logits = self.head(seen, labels).float() * alive[rows, None, None, None]
        counts = self.head.counts(labels) * alive[rows]
        wide, many = (spread(value, rows, batch * keep).unflatten(0, (batch, keep)) for value in (logits, counts))
        return HeatMaps(wide, many)


def cells_of(points: Tensor, boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The cell of each landmark in a map of `side` x `side` over its box, and whether it lies in the box and is known.

    points (R, P, 3) x, y, visibility; boxes (R, 4); to (R, P) int64 and (R, P) bool. The right and the lower edge
    belong to the last cell, as detectron2 and torchvision have it.
    """
    corner, far = boxes[:, None, :2], boxes[:, None, 2:]
    places = points[:, :, :2]
    cells = torch.floor((places - corner) * (side / (far - corner)))
    cells = torch.where(places == far, float(side - 1), cells)
    seen = ((cells >= 0) & (cells < side) & (far > corner)).all(dim=2) & (points[:, :, 2] > 0)
    cells = torch.where(seen[:, :, None], cells, 0.0).long()
    return cells[:, :, 1] * side + cells[:, :, 0], seen
