"""Proposers of the R-CNN family: the region proposal network (Ren et al. 2015) with the loss that teaches it, and
`Given`, for proposals that come with the inputs, such as those of selective search.

A proposer has `propose` for prediction and `learn` for training.

Letters: B batch, L levels, A anchors of a cell, n anchors of a level, N = all anchors of an image, C channels,
P proposals.
logits: before the sigmoid. deltas: dx, dy, dw, dh from the anchor. Rows of a level are ordered (y, x, anchor).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from maskwright.errors import DataError
from maskwright.models.rcnn.config import RPNConfig
from maskwright.nn.layers import conv
from maskwright.ops import anchors as anchor_ops
from maskwright.ops import boxes as box_ops
from maskwright.ops import losses, matching
from maskwright.ops.losses import Term
from maskwright.ops.nms import nms_by_level
from maskwright.ops.rows import exporting, with_room
from maskwright.types import Inputs, Size, Target

NEXT = 1000
"""Boxes of a level, beyond the limit of proposals, that are checked for objects that the limit left out."""


@dataclass(frozen=True, eq=False)
class Proposals:
    """Boxes that may hold an object, best first.

    boxes (B, P, 4), clipped to the image; scores (B, P): logits or probabilities, what they are ranked by; alive (B, P)
    bool: dead rows come last and are zero. passed_over: for each image boxes (R, 4) that the limits on proposals may
    have left out though they are more likely an object than not, best first, with their probabilities (R,).
    """

    boxes: Tensor
    scores: Tensor
    alive: Tensor
    passed_over: Sequence[tuple[Tensor, Tensor]] = ()

    def of(self, image: int) -> Tensor:
        """The live boxes (K, 4) of one image."""
        return self.boxes[image][self.alive[image]]


class Given:
    """The proposals that come with the inputs (R-CNN, Fast R-CNN): clipped to each image, of score 1; rows of zeros are
    none. DataError where there are none for every image."""

    def propose(self, features: Sequence[Tensor], inputs: Inputs, keep: int | None = None) -> Proposals:
        """The same for prediction and training, whatever is asked for."""
        if inputs.proposals is None:
            raise DataError(
                "This network is given the boxes that may hold an object: Inputs.proposals has (N, 4) of each image. "
                "`Predictor` and the training batches find them by selective search."
            )
        most = max((len(boxes) for boxes in inputs.proposals), default=0)
        boxes = torch.zeros(len(inputs), most, 4, device=inputs.images.device)
        for i, rows in enumerate(inputs.proposals):
            boxes[i, : len(rows)] = rows.to(boxes)
        alive = boxes.any(dim=2)
        return Proposals(box_ops.clip_each(boxes, inputs.sizes), alive.float(), alive)

    def learn(
        self,
        features: Sequence[Tensor],
        inputs: Inputs,
        targets: Sequence[Target],
        draws: Sequence[torch.Generator | None],
    ) -> tuple[dict[str, Term], Proposals]:
        """Nothing is learnt."""
        return {}, self.propose(features, inputs)


@dataclass(frozen=True, eq=False)
class Anchored:
    """The head's outputs for every anchor, level by level: logits (B, n), deltas (B, n, 4), anchors (n, 4)."""

    logits: list[Tensor]
    deltas: list[Tensor]
    anchors: list[Tensor]


class RPN(nn.Module):
    """One small head slid over every level. Proposes boxes from the feature maps alone."""

    def __init__(self, config: RPNConfig, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.strides = tuple(strides)
        count = len(self.cell(0))
        self.conv = nn.Sequential(*(conv(channels, channels, 3, relu=True, std=0.01) for _ in range(config.convs)))
        self.logits = conv(channels, count, 1, std=0.01)[0]
        self.deltas = conv(channels, count * 4, 1, std=0.01)[0]

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """L maps (B, C, h, w) to L logits (B, h*w*A) and L deltas (B, h*w*A, 4)."""
        logits, deltas = [], []
        for feature in features:
            hidden = self.conv(feature)
            logits.append(self.logits(hidden).permute(0, 2, 3, 1).flatten(1))  # (B, h*w*A)
            deltas.append(self.deltas(hidden).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)))  # (B, h*w*A, 4)
        return logits, deltas

    def cell(self, level: int) -> Tensor:
        """(A, 4) anchors of one cell, centred on 0; always float32, whatever type the network computes in."""
        return anchor_ops.cell_anchors(self.config.sizes[level], self.config.ratios, rounded=self.config.rounded)

    def anchors(self, features: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """(h*w*A, 4) of each level for an input of `size` (H, W)."""
        out = []
        for level, (feature, nominal) in enumerate(zip(features, self.strides, strict=True)):
            h, w = feature.shape[-2:]
            stride = (size[0] // h, size[1] // w) if self.config.stride_from_input else (nominal, nominal)
            out.append(anchor_ops.grid_anchors(self.cell(level).to(feature.device), (h, w), stride))
        return out

    def anchored(self, features: Sequence[Tensor], size: tuple[int, int]) -> Anchored:
        """The head's outputs beside their anchors, for an input of `size` (H, W)."""
        logits, deltas = self(features)
        return Anchored(logits, deltas, self.anchors(features, size))

    def propose(self, features: Sequence[Tensor], inputs: Inputs, keep: int | None = None) -> Proposals:
        """The proposals for prediction. keep: detections asked for, where more than usual."""
        c = self.config if keep is None else self.config.for_rows(keep)
        found = self.anchored(features, inputs.padded)
        best = self.best(found, inputs.sizes, c.before, c.after)
        if exporting():
            return best
        over = [self._passed_over(found, best, i, size, c) for i, size in enumerate(inputs.sizes)]
        return replace(best, passed_over=over)

    @torch.no_grad()
    def _passed_over(
        self, found: Anchored, proposals: Proposals, image: int, size: Size, c: RPNConfig
    ) -> tuple[Tensor, Tensor]:
        """Of one image what `Proposals.passed_over` holds; of each level no more than the next `NEXT`."""
        kept, least = proposals.of(image), 0.5 if c.rank_by == "probability" else 0.0
        cut = len(kept) == c.after and bool(proposals.scores[image, -1] > least)  # likely objects after suppression
        boxes, logits = [kept[:0]], [kept[:0, 0]]
        for rows, deltas, anchors in zip(found.logits, found.deltas, found.anchors, strict=True):
            top, index = rows[image].float().topk(min(c.before + NEXT, rows.shape[1]))
            first = 0 if cut else min(c.before, len(top))
            top, index = top[first:][top[first:] > 0], index[first:][top[first:] > 0]
            boxes.append(box_ops.clip(box_ops.decode(deltas[image][index], anchors[index]), size))
            logits.append(top)
        every, score = torch.cat(boxes), torch.cat(logits).sigmoid()
        good = box_ops.sides_at_least(every, c.min_side) & torch.isfinite(every).all(1)
        order = score[good].argsort(descending=True)
        return every[good][order], score[good][order]

    def learn(
        self,
        features: Sequence[Tensor],
        inputs: Inputs,
        targets: Sequence[Target],
        draws: Sequence[torch.Generator | None],
    ) -> tuple[dict[str, Term], Proposals]:
        """The losses of a batch and the proposals that the heads learn from. draws: one generator for each image."""
        found, c = self.anchored(features, inputs.padded), self.config
        return self.terms(found, targets, draws), self.best(found, inputs.sizes, c.train_before, c.train_after)

    @torch.no_grad()
    def best(self, found: Anchored, sizes: Sequence[tuple[int, int]], before: int, after: int) -> Proposals:
        """The best boxes, clipped to each image's size: `before` of each level, `after` of all after suppression."""
        c = self.config
        boxes, scores, counts = _best(found, before)  # (B, K, 4), (B, K)
        if c.rank_by == "probability":
            scores = scores.sigmoid()
        boxes = box_ops.clip_each(boxes, sizes)
        valid = box_ops.sides_at_least(boxes, c.min_side) & torch.isfinite(boxes).all(-1) & torch.isfinite(scores)
        kept = [
            nms_by_level(own, score, good, counts, c.nms, after)
            for own, score, good in zip(boxes, scores, valid, strict=True)
        ]
        if not kept:
            return Proposals(boxes, scores, valid)
        row, alive = (torch.stack(column) for column in zip(*kept, strict=True))
        boxes = torch.where(alive[..., None], torch.take_along_dim(boxes, row[..., None], 1), 0.0)
        return Proposals(boxes, torch.where(alive, torch.take_along_dim(scores, row, 1), 0.0), alive)

    def terms(
        self, found: Anchored, targets: Sequence[Target], draws: Sequence[torch.Generator | None]
    ) -> dict[str, Term]:
        """`rpn_class`: is there an object at the anchor; `rpn_box`: how far is its box."""
        c = self.config
        every = torch.cat(found.anchors)  # (N, 4)
        all_logits, all_deltas = torch.cat(found.logits, 1).flatten(), torch.cat(found.deltas, 1).flatten(0, 1)
        positive, negative, truth = [every.new_zeros(0).long()], [every.new_zeros(0).long()], [every[:0]]
        for i, (target, draw) in enumerate(zip(targets, draws, strict=True)):
            objects, crowds = split_crowd(target)
            matches, best = matching.match(objects, every, low=c.low, high=c.high, keep_best=True)
            matches = matching.ignore_crowds(matches, every, crowds)
            yes, no = matching.sample(matches, c.samples, c.foreground, draw)
            truth.append(objects[best[yes]].to(every))
            positive.append(yes + i * len(every))
            negative.append(no + i * len(every))
        foreground = torch.cat(positive)  # rows of all images' anchors, one after the other
        chosen = torch.cat([foreground, *negative])
        labels = torch.arange(len(chosen), device=chosen.device) < len(foreground)
        wanted = box_ops.encode(torch.cat(truth), every[foreground % max(1, len(every))])
        total = len(chosen) if c.mean_over == "sampled" else c.samples * len(targets)
        return {
            "rpn_class": Term(losses.objectness_bce_sum(all_logits[chosen], labels), total),
            "rpn_box": Term(losses.smooth_l1_sum(all_deltas[foreground], wanted, c.beta), total),
        }


def split_crowd(target: Target) -> tuple[Tensor, Tensor]:
    """The boxes of the objects (G, 4) and of the crowd regions."""
    if target.crowd is None:
        return target.boxes, target.boxes[:0]
    return target.boxes[~target.crowd], target.boxes[target.crowd]


def _best(found: Anchored, before: int) -> tuple[Tensor, Tensor, list[int]]:
    """The `before` highest logits of each level and image, decoded: boxes (B, K, 4), logits (B, K), rows of a level."""
    boxes, scores, counts = [], [], []
    for row, delta, anchor in zip(found.logits, found.deltas, found.anchors, strict=True):
        row, delta = with_room(row.float(), before, -torch.inf, dim=1), with_room(delta, before, dim=1)
        top, index = row.topk(min(before, row.shape[1]), dim=1)
        anchor = with_room(anchor, before)
        boxes.append(box_ops.decode(delta.gather(1, index[..., None].expand(-1, -1, 4)), anchor[index]))
        scores.append(top)
        counts.append(index.shape[1])
    return torch.cat(boxes, 1), torch.cat(scores, 1), counts
