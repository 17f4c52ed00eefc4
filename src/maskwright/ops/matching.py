"""Matching of anchors and proposals to ground truth (Faster R-CNN), and sampling of a minibatch for the loss.

Letters: G ground-truth boxes, R candidates (anchors or proposals). A match is the index of a ground-truth box,
BACKGROUND, or IGNORED (left out of the loss).
"""

import torch
from torch import Tensor

from maskwright.ops import boxes as box_ops

BACKGROUND = -1
IGNORED = -2


def match(truth: Tensor, candidates: Tensor, *, low: float, high: float, keep_best: bool) -> tuple[Tensor, Tensor]:
    """(G, 4), (R, 4) to (matches (R,) int64, best (R,) int64).

    A candidate is matched to the ground truth of highest IoU if that IoU is >= high; it is BACKGROUND below low and
    IGNORED in between. best: the ground truth of highest IoU for every candidate (0 where G is 0).
    keep_best: the candidates of highest IoU for each ground truth (ties included) become foreground even below `high`.
    As in detectron2 and torchvision, such a candidate is matched to the ground truth that is best for the candidate,
    which may be another one. Deliberate difference: a ground truth that no candidate overlaps (an empty box) promotes
    no candidate; with the published rule all candidates would tie at IoU 0 and become foreground.
    """
    if len(truth) == 0 or len(candidates) == 0:
        nothing = torch.full((len(candidates),), BACKGROUND, dtype=torch.int64, device=candidates.device)
        return nothing, torch.zeros_like(nothing)
    overlap = box_ops.iou(truth, candidates)  # (G, R)
    value, best = overlap.max(dim=0)
    matches = best.clone()
    matches[value < high] = IGNORED
    matches[value < low] = BACKGROUND
    if keep_best:
        winners = ((overlap == overlap.max(dim=1, keepdim=True).values) & (overlap > 0)).any(dim=0)
        matches[winners] = best[winners]
    return matches, best


def ignore_crowds(matches: Tensor, candidates: Tensor, crowds: Tensor, share: float = 0.5) -> Tensor:
    """Matches (R,) in which BACKGROUND candidates (R, 4) become IGNORED if >= `share` of their area lies in one crowd.

    A crowd region contains objects that are not annotated one by one, so a candidate there may be a true object.
    """
    if len(crowds) == 0:
        return matches
    common = box_ops.intersection(candidates, crowds).amax(dim=1)
    inside = (common > 0) & (common >= share * box_ops.area(candidates))  # a candidate without area lies in none
    return torch.where((matches == BACKGROUND) & inside, matches.new_tensor(IGNORED), matches)


def sample(
    matches: Tensor, count: int, foreground: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Indices of randomly chosen foreground and background rows, at most `count` in all.

    foreground: the largest share of `count` that foreground rows may take; background rows fill the rest.
    """
    positive = torch.nonzero(matches >= 0).flatten()
    negative = torch.nonzero(matches == BACKGROUND).flatten()
    take = min(len(positive), int(count * foreground))
    rest = min(len(negative), count - take)
    return _choose(positive, take, generator), _choose(negative, rest, generator)


def _choose(rows: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    device = rows.device if generator is None else generator.device
    return rows[torch.randperm(len(rows), generator=generator, device=device)[:count].to(rows.device)]
