"""Matching of priors to ground truth in which every object gets at least one prior (SSD, section 2.2, as in YOLACT).

Unlike in `ops.matching`, the prior forced for one object is never forced for another. Only pairs that overlap are
stored, so that memory follows the objects and not N x G.

Letters: G ground-truth boxes, N priors, P overlapping pairs sorted by falling IoU, K crowds.
"""

import torch
from torch import Tensor

from maskwright.ops import boxes as box_ops
from maskwright.ops.matching import BACKGROUND, IGNORED

CHUNK = 2**22
"""Largest number of pairs, overlapping or not, that are tested in one step; limits memory."""

THINNEST = 0.01
"""Pixels. A thinner box cannot be encoded as an offset (the published code removes it from the data, at 0.0073)."""


def match_priors(truth: Tensor, priors: Tensor, *, low: float, high: float) -> Tensor:
    """(G, 4), (N, 4) to matches (N,) int64: the row in `truth`, BACKGROUND, or IGNORED. 0 < low <= high.

    A prior is matched to the object of highest IoU if that IoU is >= high; it is BACKGROUND below low, IGNORED between.
    In addition one prior is forced for each object, whatever the IoU: the pair of highest IoU is matched, its object
    and prior are removed, and so on; ties go to the lower object index, then to the lower prior index. An object that
    overlaps no remaining prior, is not finite or is thinner than `THINNEST` gets none.
    """
    value, row, prior = _pairs(truth, priors)
    matches = torch.full((len(priors),), BACKGROUND, dtype=torch.int64, device=priors.device)
    first = _first(prior, torch.arange(len(prior), device=prior.device), len(priors))
    touched = torch.nonzero(first < len(prior)).flatten()
    best = first[touched]
    matches[touched[value[best] >= low]] = IGNORED
    strong = value[best] >= high
    matches[touched[strong]] = row[best[strong]]
    forced = _forced(row, prior, len(truth), len(priors))
    matches[prior[forced]] = row[forced]
    return matches


def leave_out_crowds(matches: Tensor, priors: Tensor, crowds: Tensor, share: float) -> Tensor:
    """Matches (N,) in which BACKGROUND priors become IGNORED if > `share` of their area lies in one crowd (K, 4)."""
    if len(crowds) == 0:
        return matches
    inside = box_ops.intersection(priors, crowds).amax(dim=1) / box_ops.area(priors) > share
    return torch.where((matches == BACKGROUND) & inside, matches.new_tensor(IGNORED), matches)


def _pairs(truth: Tensor, priors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """IoU, object and prior of the overlapping pairs, each (P,): highest IoU first, then by object, then by prior."""
    good = box_ops.sides_at_least(truth, THINNEST) & torch.isfinite(truth).all(dim=1)
    rows, sides = torch.nonzero(good).flatten(), priors.T.contiguous()  # (4, N)
    found = []
    for part in rows.split(max(1, CHUNK // max(1, len(priors)))):
        x0, y0, x1, y1 = truth[part].T[:, :, None]
        near = (sides[0] < x1) & (sides[2] > x0) & (sides[1] < y1) & (sides[3] > y0)  # (part, N)
        one, prior = torch.nonzero(near, as_tuple=True)
        found.append((box_ops.matched_iou(truth[part[one]], priors[prior]), part[one], prior))
    if not found:
        return truth.new_zeros(0), rows, rows
    value, row, prior = (torch.cat(column) for column in zip(*found, strict=True))
    order = torch.sort(value, descending=True, stable=True).indices
    order = order[value[order] > 0]
    return value[order], row[order], prior[order]


def _first(index: Tensor, places: Tensor, count: int) -> Tensor:
    """(count,): for each value 0..count-1 the smallest of `places` where `index` has it; int64's maximum if it never
    occurs."""
    nowhere = torch.full((count,), torch.iinfo(torch.int64).max, device=index.device)
    return nowhere.scatter_reduce(0, index, places, "amin")


def _best_of_each(row: Tensor, objects: int) -> Tensor:
    """Indices of the `objects` best pairs of each object: enough, as the others hold at most `objects` - 1 priors."""
    order = torch.sort(row, stable=True).indices
    counts = torch.bincount(row, minlength=objects)
    rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row[order]]
    return torch.sort(order[rank < objects]).values


def _forced(row: Tensor, prior: Tensor, objects: int, priors: int) -> Tensor:
    """Indices of the pairs that greedy one-to-one matching takes from pairs in falling order.

    Deferred acceptance (Gale and Shapley): every object without a prior proposes to the best prior that no better pair
    holds, and each prior keeps its best proposal. Objects and priors rank pairs by the same order, so the result
    equals the greedy one, in as many rounds as the longest chain of conflicts, each a few tensor operations.
    """
    places = _best_of_each(row, objects)
    held = _first(prior[:0], places[:0], priors)  # index of the pair that each prior is in
    while True:
        alive = places < held[prior[places]]
        places = places[alive]
        free = torch.ones(objects, dtype=torch.bool, device=row.device)
        taken = held[held < len(row)]
        free[row[taken]] = False
        asking = places[free[row[places]]]
        if not len(asking):
            return taken
        wish = _first(row[asking], asking, objects)
        wish = wish[wish < len(row)]
        held = held.scatter_reduce(0, prior[wish], wish, "amin")
