"""Region proposal network (Ren et al. 2015): boxes that may hold an object, and the loss that teaches it.

Letters: B batch, L levels, A anchors of a cell, N = all anchors of an image, C channels, K proposals.
logits: before the sigmoid. deltas: dx, dy, dw, dh from the anchor. Rows of a level are ordered (y, x, anchor).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from maskwright.errors import ConfigError
from maskwright.nn.layers import conv
from maskwright.ops import anchors as anchor_ops
from maskwright.ops import boxes as box_ops
from maskwright.ops import losses, matching
from maskwright.ops.losses import Term
from maskwright.ops.nms import batched_nms
from maskwright.types import Target


@dataclass(frozen=True)
class RPNConfig:
    """Anchors, selection and sampling of the proposals.

    sizes: anchor sides in pixels for each level; ratios: height / width. rounded: anchors in whole pixels.
    stride_from_input: anchors step by padded input size // feature size, per axis (torchvision), instead of by the
        level's nominal stride (detectron2).
    convs: 3x3 layers before the two answers. before, after: proposals kept for each level before suppression and in
        all after it. train_before, train_after: the same while training. rank_by: what orders the proposals.
    min_side: proposals with a shorter side are dropped (0: only the empty ones).
    samples, foreground: anchors an image contributes to the loss, and the share of objects among them.
    beta: of the smooth L1 (0: L1). mean_over: divide the sums by the sampled anchors, or by samples x images.
    """

    sizes: tuple[tuple[float, ...], ...] = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rounded: bool = False
    stride_from_input: bool = False
    convs: int = 1
    before: int = 1000
    after: int = 1000
    train_before: int = 2000
    train_after: int = 1000
    nms: float = 0.7
    rank_by: Literal["logit", "probability"] = "logit"
    min_side: float = 0.0
    low: float = 0.3
    high: float = 0.7
    samples: int = 256
    foreground: float = 0.5
    beta: float = 0.0
    mean_over: Literal["budget", "sampled"] = "budget"

    def __post_init__(self) -> None:
        if self.rank_by not in ("logit", "probability") or self.mean_over not in ("budget", "sampled"):
            raise ConfigError(
                f"RPNConfig: rank_by is 'logit' or 'probability', mean_over is 'budget' or 'sampled', got "
                f"{self.rank_by!r} and {self.mean_over!r}."
            )


class RPN(nn.Module):
    """One small head slid over every level."""

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

    @torch.no_grad()
    def propose(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        *,
        training: bool,
    ) -> list[tuple[Tensor, Tensor]]:
        """For each image its proposals (K, 4), clipped to its size, and their scores (K,), best first."""
        c = self.config
        before, after = (c.train_before, c.train_after) if training else (c.before, c.after)
        boxes, scores, level = _best(logits, deltas, anchors, before)  # (B, K, 4), (B, K), (K,)
        if c.rank_by == "probability":
            scores = scores.sigmoid()
        boxes = box_ops.clip_each(boxes, sizes)
        good = box_ops.sides_at_least(boxes, c.min_side) & torch.isfinite(boxes).all(-1) & torch.isfinite(scores)
        image, row = torch.nonzero(good, as_tuple=True)
        counts = good.sum(1).tolist()
        kept = zip(boxes[image, row].split(counts), scores[image, row].split(counts), level[row].split(counts),
                   strict=True)  # fmt: skip
        proposals = []
        for own, score, group in kept:
            keep = batched_nms(own, score, group, c.nms, finite=True)[:after]
            proposals.append((own[keep], score[keep]))
        return proposals

    def terms(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        targets: Sequence[Target],
        draws: Sequence[torch.Generator | None],
    ) -> dict[str, Term]:
        """`rpn_class`: is there an object at the anchor; `rpn_box`: how far is its box. draws: one per image."""
        c = self.config
        every = torch.cat(list(anchors))  # (N, 4)
        all_logits, all_deltas = torch.cat(list(logits), 1).flatten(), torch.cat(list(deltas), 1).flatten(0, 1)
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


def _best(
    logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor], before: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The `before` highest logits of each level and image, decoded: boxes (B, K, 4), logits (B, K), level (K,)."""
    boxes, scores, levels = [], [], []
    for level, (row, delta, anchor) in enumerate(zip(logits, deltas, anchors, strict=True)):
        top, index = row.float().topk(min(before, row.shape[1]), dim=1)
        boxes.append(box_ops.decode(torch.take_along_dim(delta, index[..., None], 1), anchor[index]))
        scores.append(top)
        levels.append(torch.full((index.shape[1],), level, device=index.device))
    return torch.cat(boxes, 1), torch.cat(scores, 1), torch.cat(levels)
