"""What YOLACT learns from, image by image and object by object, over whole maps of probabilities."""

import math

import torch
import torch.nn.functional as F
from tests.reference import prior_matching
from tests.reference.boxes import encode
from torch import Tensor


def terms(outputs, targets, config, scorer=None) -> dict[str, tuple[Tensor, int]]:
    """Sum and count of each term; every foreground prior's mask takes part."""
    sums = {name: torch.zeros(()) for name in ("class", "box", "mask", "semantic", "mask_iou")}
    positives = 0
    for b, target in enumerate(targets):
        crowd = [False] * len(target) if target.crowd is None else target.crowd.tolist()
        rows = [i for i, c in enumerate(crowd) if not c]
        boxes = [target.boxes[i].tolist() for i in rows]
        priors = outputs.priors.tolist()
        matches = prior_matching.match_priors(boxes, priors, config.negative, config.positive)
        crowds = [target.boxes[i].tolist() for i, c in enumerate(crowd) if c]
        matches = prior_matching.leave_out_crowds(matches, priors, crowds, config.crowd)
        positives += sum(m >= 0 for m in matches)
        labels = [int(target.labels[i]) for i in rows]
        dense = target.masks.dense()[rows]
        height, width = outputs.size
        padded = torch.zeros(len(rows), height, width)
        padded[:, : dense.shape[1], : dense.shape[2]] = torch.from_numpy(dense).float()
        sums["class"] = sums["class"] + class_sum(outputs.raw.logits[b].float(), matches, labels, config.negatives)
        for prior, row in enumerate(matches):
            if row < 0:
                continue
            wanted = torch.tensor(encode(boxes[row], priors[prior], (10, 10, 5, 5)))
            sums["box"] = sums["box"] + F.smooth_l1_loss(outputs.raw.deltas[b, prior].float(), wanted, reduction="sum")
            mask, soft, area = mask_of(outputs, b, prior, boxes[row], padded[row])
            each = F.binary_cross_entropy(soft, mask, reduction="sum")
            sums["mask"] = sums["mask"] + each / area
            if scorer is not None and mask.sum() > config.smallest:
                hard = (soft > 0.5).float()
                iou = (hard * mask).sum() / ((hard + mask) > 0).sum()
                rating = scorer(soft[None, None])[0, labels[row]].float()
                sums["mask_iou"] = sums["mask_iou"] + F.smooth_l1_loss(rating, iou)
        sums["semantic"] = sums["semantic"] + semantic_sum(outputs.semantic[b].float(), labels, padded)
    counts = dict.fromkeys(("class", "box", "mask", "mask_iou"), positives) | {"semantic": len(targets)}
    weights = {
        "class": config.class_weight,
        "box": config.box_weight,
        "mask": config.mask_weight,
        "semantic": config.semantic_weight,
        "mask_iou": config.mask_iou_weight,
    }
    if scorer is None:
        del sums["mask_iou"]
    return {name: (weights[name] * value, counts[name]) for name, value in sums.items()}


def class_sum(logits: Tensor, matches, labels, negatives) -> Tensor:
    background = logits.shape[1] - 1
    positive = [i for i, m in enumerate(matches) if m >= 0]
    rest = [i for i, m in enumerate(matches) if m == -1]
    rest.sort(key=lambda i: float(logits[i].detach().softmax(0)[background]))
    out = torch.zeros(())
    for i in positive:
        out = out - logits[i].log_softmax(0)[labels[matches[i]]]
    for i in rest[: min(negatives * len(positive), len(matches) - 1)]:
        out = out - logits[i].log_softmax(0)[background]
    return out


def mask_of(outputs, b, prior, box, mask):
    """The true mask on the prototypes' map, the predicted one cropped, and the box's area in cells."""
    prototypes = outputs.prototypes[b].float()
    h, w, _ = prototypes.shape
    height, width = outputs.size
    true = (F.interpolate(mask[None, None], (h, w), mode="bilinear", align_corners=False)[0, 0] > 0.5).float()
    soft = (prototypes @ outputs.raw.coefficients[b, prior].float()).sigmoid()
    x1, x2, y1, y2 = box[0] / width * w, box[2] / width * w, box[1] / height * h, box[3] / height * h
    crop = torch.zeros(h, w)
    crop[
        max(0, math.ceil(y1 - 1)) : max(0, math.ceil(min(y2 + 1, h))),
        max(0, math.ceil(x1 - 1)) : max(0, math.ceil(min(x2 + 1, w))),
    ] = 1
    return true, soft * crop, max(1.0, x2 - x1) * max(1.0, y2 - y1)


def semantic_sum(logits: Tensor, labels, masks) -> Tensor:
    shape = logits.shape[1:]
    wanted = torch.zeros_like(logits)
    for label, mask in zip(labels, masks, strict=True):
        small = F.interpolate(mask[None, None], shape, mode="bilinear", align_corners=False)[0, 0] > 0.5
        wanted[label] = torch.maximum(wanted[label], small.float())
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / shape.numel()
