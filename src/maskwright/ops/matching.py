"""Which ground truth an anchor or proposal answers for, and which of them a training step looks at.

Letters: G ground-truth boxes, R anchors or proposals. Matches: index of a ground truth, or BACKGROUND, or IGNORED.
"""

import torch
from torch import Tensor

from maskwright.ops import boxes as box_ops

BACKGROUND = -1
IGNORED = -2


def match(truth: Tensor, candidates: Tensor, *, low: float, high: float, keep_best: bool) -> tuple[Tensor, Tensor]:
    """(G, 4), (R, 4) to (matches (R,) int64, best (R,) int64).

    A candidate takes the ground truth it overlaps most when that IoU is >= high, is BACKGROUND below low, and IGNORED
    between. keep_best: the candidates that overlap a ground truth most (ties included) are foreground even below
    `high`; as in both published code bases they then answer for THEIR OWN best ground truth. Unlike there, a ground
    truth that no candidate overlaps (an empty box) has no best: it would make foreground of everything. `best` is the
    index of its own best for every candidate (0 where there is no ground truth).
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
    """Background candidates that lie in a crowd region by `share` of their own area become IGNORED."""
    if len(crowds) == 0:
        return matches
    inside = box_ops.intersection(candidates, crowds).amax(dim=1) >= share * box_ops.area(candidates)
    return torch.where((matches == BACKGROUND) & inside, matches.new_tensor(IGNORED), matches)


def sample(
    matches: Tensor, count: int, foreground: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Row numbers (foreground, background) of a random choice: at most the share `foreground` of `count`."""
    positive = torch.nonzero(matches >= 0).flatten()
    negative = torch.nonzero(matches == BACKGROUND).flatten()
    take = min(len(positive), int(count * foreground))
    rest = min(len(negative), count - take)
    return _choose(positive, take, generator), _choose(negative, rest, generator)


def _choose(rows: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    device = rows.device if generator is None else generator.device
    return rows[torch.randperm(len(rows), generator=generator, device=device)[:count].to(rows.device)]
