"""The losses of YOLACT and YOLACT++: class, box, mask, semantic and mask-IoU terms (Bolya et al. 2019, 2020).

As in the published code, with three differences that keep training stable: the mask loss is computed from logits, so
that a confident wrong prediction still has a gradient; where the loss is divided by the area of a box, a side shorter
than one prototype cell counts as one cell; and objects whose box has no area are not matched to any prior.

Letters: B batch, N priors, G objects of an image, F foreground priors, R of them whose masks are compared,
D prototypes, Q classes, h w prototype map, h' w' semantic map, U objects of all images, T cells.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.errors import DataError
from maskwright.models.yolact.config import LossConfig
from maskwright.models.yolact.parts import Raw
from maskwright.ops import boxes as box_ops
from maskwright.ops import losses, prior_matching
from maskwright.ops import masks as mask_ops
from maskwright.ops import prototypes as prototype_ops
from maskwright.ops.losses import Term
from maskwright.ops.mask_cells import MaskCells, Rectangles
from maskwright.ops.matching import BACKGROUND
from maskwright.types import Masks, Size, Target

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Weights of the box offsets, in training and in decoding: one over SSD's variances 0.1 and 0.2."""
OUTSIDE = 100.0
"""Loss of a ground truth cell outside the crop window; the published code clamps its logarithm there."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the network returns for a batch.

    raw: of all priors. prototypes (B, h, w, D), after ReLU. semantic (B, Q, h', w') logits on the finest level.
    priors (N, 4) xyxy in the input frame. size: (H, W) of the padded input that prototypes and semantic map span.
    """

    raw: Raw
    prototypes: Tensor
    semantic: Tensor
    priors: Tensor
    size: Size


def terms(
    outputs: Outputs,
    targets: Sequence[Target],
    config: LossConfig,
    draws: Sequence[torch.Generator | None],
    scorer: nn.Module | None = None,
) -> dict[str, Term]:
    """`class`, `box`, `mask`, `semantic` and, with a scorer, `mask_iou`; the weights are in the totals.

    All but `semantic` (a mean over images) are means over the foreground priors of the batch. Raises DataError where
    a target has objects but no masks.
    """
    with torch.autocast(outputs.priors.device.type, enabled=False):
        truth = Truth.of(targets, outputs)
        matches = match(truth, outputs.priors, config)
        sampled = SampledPriors.draw(matches, truth, config.masks, draws)
        count, sums = len(sampled.prior), {}
        sums["class"] = config.class_weight * class_sum(outputs.raw.logits, matches, truth.labels, config.negatives)
        sums["box"] = config.box_weight * box_sum(outputs, sampled, truth)
        sums["mask"] = config.mask_weight * mask_sum(outputs, sampled, truth)
        semantic = config.semantic_weight * semantic_sum(outputs, truth)
    if scorer is not None:
        sums["mask_iou"] = config.mask_iou_weight * mask_iou_sum(outputs, sampled, truth, scorer, config.smallest)
    return {**{name: Term(value, count) for name, value in sums.items()}, "semantic": Term(semantic, len(targets))}


# ---- matching and sampling ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Truth:
    """The ground truth of all images, one after the other, without crowd regions.

    boxes (U, 4); labels (U,); image (U,); first: row of each image's first object, and U; crowds: of each image
    (K, 4); cells: their masks.
    """

    boxes: Tensor
    labels: Tensor
    image: Tensor
    first: list[int]
    crowds: list[Tensor]
    cells: MaskCells

    @classmethod
    def of(cls, targets: Sequence[Target], outputs: Outputs) -> "Truth":
        """Raises DataError where masks are missing."""
        device = outputs.priors.device
        boxes, labels = [outputs.priors.new_zeros(0, 4)], [torch.zeros(0, dtype=torch.int64, device=device)]
        masks, crowds, first = [], [], [0]
        for target in targets:
            crowd = torch.zeros(len(target), dtype=torch.bool) if target.crowd is None else target.crowd
            crowd = crowd.to(target.boxes.device)
            boxes.append(target.boxes[~crowd].to(boxes[0]))
            labels.append(target.labels[~crowd].to(labels[0]))
            crowds.append(target.boxes[crowd].to(boxes[0]))
            masks.append(_bitmaps(target, torch.nonzero(~crowd).flatten().tolist(), outputs.size))
            first.append(first[-1] + len(boxes[-1]))
        counts = torch.tensor([len(b) for b in boxes[1:]], dtype=torch.int64, device=device)
        image = torch.repeat_interleave(torch.arange(len(targets), device=device), counts)
        return cls(torch.cat(boxes), torch.cat(labels), image, first, crowds, MaskCells(masks, device))


def _bitmaps(target: Target, rows: list[int], size: Size) -> Masks:
    """The masks of some rows of a target."""
    if not rows:
        return Masks.empty(size)
    if target.masks is None:
        raise DataError("The targets have boxes but no masks; YOLACT needs both to learn from.")
    if isinstance(target.masks, Masks):
        return target.masks[rows]
    return mask_ops.from_coco_polygons([[p.tolist() for p in target.masks[row]] for row in rows], size)


@torch.no_grad()
def match(truth: Truth, priors: Tensor, config: LossConfig) -> Tensor:
    """(B, N) int64: for every prior of every image the row in `truth` it is matched to, or BACKGROUND, or IGNORED."""
    out = torch.full((len(truth.crowds), len(priors)), BACKGROUND, dtype=torch.int64, device=priors.device)
    for matches, crowds, first, end in zip(out, truth.crowds, truth.first[:-1], truth.first[1:], strict=True):
        found = prior_matching.match_priors(truth.boxes[first:end], priors, low=config.negative, high=config.positive)
        found = prior_matching.leave_out_crowds(found, priors, crowds, config.crowd)
        matches.copy_(torch.where(found >= 0, found + first, found))
    return out


@dataclass(frozen=True, eq=False)
class SampledPriors:
    """The foreground priors of all images, and the random sample of them that the mask losses use.

    image, prior, object (F,): the image, the prior and the matched ground truth row of each. drawn (R,): the sampled
    rows among the F. scale (R,): foreground priors of the image / sampled ones.
    """

    image: Tensor
    prior: Tensor
    object: Tensor
    drawn: Tensor
    scale: Tensor

    @classmethod
    def draw(cls, matches: Tensor, truth: Truth, most: int, draws: Sequence[torch.Generator | None]) -> "SampledPriors":
        """Sample at most `most` of each image with its own generator."""
        image, prior = torch.nonzero(matches >= 0, as_tuple=True)
        counts = torch.bincount(image, minlength=len(matches)).tolist()
        drawn, scale, start = [image[:0]], [truth.boxes.new_zeros(0)], 0
        for count, generator in zip(counts, draws, strict=True):
            rows = torch.arange(start, start + count, device=image.device)
            if count > most:
                device = image.device if generator is None else generator.device
                chosen = torch.randperm(count, generator=generator, device=device)[:most]
                rows = rows[chosen.to(rows.device)]
            drawn.append(rows)
            scale.append(truth.boxes.new_full((len(rows),), count / max(1, len(rows))))
            start += count
        return cls(image, prior, matches[image, prior], torch.cat(drawn), torch.cat(scale))


# ---- the terms, as sums ---------------------------------------------------------------------------------------------


def class_sum(logits: Tensor, matches: Tensor, labels: Tensor, negatives: int) -> Tensor:
    """Cross-entropies of the foreground priors and, in each image, `negatives` times as many background priors.

    logits (B, N, Q+1), background last; matches (B, N) of rows in labels (U,). The background priors with the highest
    loss are taken (hard negative mining).
    """
    background = logits.shape[2] - 1
    with torch.no_grad():
        values = logits.detach().float()
        hardness = values.logsumexp(dim=2) - values[..., -1]
        hardness = hardness.masked_fill(matches != BACKGROUND, -torch.inf).nan_to_num(torch.inf, torch.inf, -torch.inf)
        wanted = torch.full_like(matches, background)
        foreground = matches >= 0
        wanted[foreground] = labels[matches[foreground]]
        chosen = foreground.clone()
        counts = zip(foreground.sum(dim=1).tolist(), (matches == BACKGROUND).sum(dim=1).tolist(), strict=True)
        for row, value, (positive, rest) in zip(chosen, hardness, counts, strict=True):
            row[value.topk(min(negatives * positive, rest, len(row) - 1)).indices] = True
    return losses.class_cross_entropy_sum(logits[chosen], wanted[chosen])


def box_sum(outputs: Outputs, sampled: SampledPriors, truth: Truth) -> Tensor:
    """Smooth L1 of the offsets of the foreground priors."""
    wanted = box_ops.encode(truth.boxes[sampled.object], outputs.priors[sampled.prior], BOX_WEIGHTS)
    return losses.smooth_l1_sum(outputs.raw.deltas[sampled.image, sampled.prior], wanted, 1.0)


def mask_sum(outputs: Outputs, sampled: SampledPriors, truth: Truth) -> Tensor:
    """Binary cross-entropies of the sampled masks inside the ground truth box and one cell around it.

    Each is divided by the cells of its box. A ground truth cell outside costs `OUTSIDE`. Only these cells are computed,
    for objects of similar size together: memory does not grow with the size of the prototypes.
    """
    shape = _hw(outputs.prototypes)
    owner, order = torch.sort(sampled.object[sampled.drawn], stable=True)
    objects, rows = torch.unique_consecutive(owner, return_counts=True)
    chosen = sampled.drawn[order]
    coefficients = outputs.raw.coefficients[sampled.image[chosen], sampled.prior[chosen]].float()  # (R, D)
    weight = sampled.scale[order] / _cells_of_boxes(truth.boxes[owner], shape, outputs.size)
    windows = Rectangles.around(truth.boxes[objects], shape, outputs.size)
    around = windows | truth.cells.extents(shape, outputs.size)[objects]
    which, y, x = around.cells()
    true = truth.cells.at(objects[which], y, x, shape, outputs.size)
    inside = windows.hold(which, y, x)
    place = (truth.image[objects[which]] * shape[0] + y) * shape[1] + x
    missed = torch.bincount(which[true & ~inside], minlength=len(objects)).repeat_interleave(rows)
    table = outputs.prototypes.float().flatten(0, 2)  # (B * h * w, D)
    groups = list(_alike(around.areas, rows))  # cells (u, c), their mask, rows (u, r), their mask
    seen = F.embedding(_joint([place[cell] for cell, _, _, _ in groups], place), table)
    asked = F.embedding(_joint([row for _, _, row, _ in groups], place), coefficients)
    total = (missed * weight).sum() * OUTSIDE + seen[:0].sum() + asked[:0].sum()
    features = seen.split([cell.numel() for cell, _, _, _ in groups])
    answers = asked.split([row.numel() for _, _, row, _ in groups])
    for (cell, keep, row, use), feature, answer in zip(groups, features, answers, strict=True):
        depth = table.shape[1]
        logits = torch.bmm(feature.view(*cell.shape, depth), answer.view(*row.shape, depth).mT)  # (u, c, r)
        wanted = true[cell].to(logits)[..., None].expand_as(logits)
        error = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        summed = torch.bmm((keep & inside[cell]).to(error)[:, None], error)[:, 0]  # (u, r)
        total = total + (summed * (weight[row] * use)).sum()
    return total


def _joint(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.cat([like[:0], *(part.flatten() for part in parts)])


def _alike(cells: Tensor, rows: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Groups of u objects with similar numbers of `cells` (U,) and `rows` (U,), which lie one after the other.

    Yields the indices of their cells (u, c) and rows (u, r), each with a mask that is False for padding.
    """
    kinds = cells.clamp(min=1).log2().ceil() * 64 + rows.log2().ceil()
    for kind in kinds.unique():
        some = torch.nonzero((kinds == kind) & (cells > 0)).flatten()
        out: list[Tensor] = []
        for counts in (cells, rows):
            step = torch.arange(int(counts[some].max()) if len(some) else 0, device=cells.device)
            real = step < counts[some, None]
            out += [torch.where(real, (counts.cumsum(0) - counts)[some, None] + step, 0), real]
        yield out[0], out[1], out[2], out[3]


def _cells_of_boxes(boxes: Tensor, shape: Size, span: Size) -> Tensor:
    """(R,): area of boxes of the input, in cells of a map; a side counts as at least one cell."""
    sides = (boxes[:, 2:] - boxes[:, :2]) * boxes.new_tensor([shape[1] / span[1], shape[0] / span[0]])
    return sides.clamp(min=1).prod(dim=1)


def mask_iou_sum(outputs: Outputs, sampled: SampledPriors, truth: Truth, scorer: nn.Module, smallest: int) -> Tensor:
    """Smooth L1 between the IoU that the scorer predicts for the sampled masks and their IoU with the ground truth.

    The output of the ground truth class counts. Gradients reach the masks as well. Ground truth masks of up to
    `smallest` cells are left out.
    """
    shape = _hw(outputs.prototypes)
    with torch.autocast(outputs.priors.device.type, enabled=False):
        masks = torch.cat(list(_soft_masks(outputs, sampled, truth)))  # (R, h, w)
    objects = sampled.object[sampled.drawn]
    which, y, x = truth.cells.extents(shape, outputs.size)[objects].cells()
    true = truth.cells.at(objects[which], y, x, shape, outputs.size)
    which, y, x = which[true], y[true], x[true]
    on = masks.detach() > 0.5
    area = torch.bincount(which, minlength=len(objects))
    common = torch.bincount(which[on[which, y, x]], minlength=len(objects))
    iou = common / (on.sum(dim=(1, 2)) + area - common).clamp(min=1)
    rows = torch.nonzero(area > smallest).flatten()
    ratings = scorer(masks[rows, None])[torch.arange(len(rows), device=rows.device), truth.labels[objects[rows]]]
    return losses.smooth_l1_sum(ratings, iou[rows], 1.0)


def _soft_masks(outputs: Outputs, sampled: SampledPriors, truth: Truth) -> Iterator[Tensor]:
    """The sampled masks of each image, cropped with the ground truth box; first an empty tensor, for empty batches."""
    yield outputs.prototypes[:0, :, :, 0].float()
    for image, prototypes in enumerate(outputs.prototypes):
        rows = sampled.drawn[sampled.image[sampled.drawn] == image]
        coefficients = outputs.raw.coefficients[sampled.image[rows], sampled.prior[rows]].float()
        boxes = truth.boxes[sampled.object[rows]]
        yield prototype_ops.soft_masks(prototypes.float(), coefficients, boxes, outputs.size)


def semantic_sum(outputs: Outputs, truth: Truth) -> Tensor:
    """Binary cross-entropies of every class's map against the union of its objects' masks, over the map's cells."""
    logits = outputs.semantic.float()
    shape = (int(logits.shape[2]), int(logits.shape[3]))
    which, y, x = truth.cells.extents(shape, outputs.size).cells()
    true = truth.cells.at(which, y, x, shape, outputs.size)
    which, y, x = which[true], y[true], x[true]
    wanted = torch.zeros_like(logits)
    wanted[truth.image[which], truth.labels[which], y, x] = 1
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / (shape[0] * shape[1])


def _hw(prototypes: Tensor) -> Size:
    return int(prototypes.shape[1]), int(prototypes.shape[2])
