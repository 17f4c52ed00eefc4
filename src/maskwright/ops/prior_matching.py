"""Which object a prior box answers for where every object has a prior of its own (SSD, as YOLACT settles it).

Unlike `ops.matching` no two objects ever share the prior that is theirs whatever the overlap. Works on the pairs that
overlap at all, which are few: memory follows the objects.

Letters: G objects, N priors, P overlapping pairs, K crowds.
"""

import torch
from torch import Tensor

from maskwright.ops import boxes as box_ops
from maskwright.ops.matching import BACKGROUND, IGNORED

CHUNK = 2**22
"""Pairs that are looked at together, overlapping or not."""

THINNEST = 0.01
"""Pixels. What is thinner cannot be coded as an offset (the published code drops it from the data, at 0.0073)."""


def match_priors(truth: Tensor, priors: Tensor, *, low: float, high: float) -> Tensor:
    """(G, 4), (N, 4) to matches (N,) int64: the row in `truth`, BACKGROUND, or IGNORED.

    A prior takes the object it overlaps most where that IoU is >= high, is BACKGROUND below low, IGNORED between.
    Besides, each object gets one prior of its own: the pair of the largest IoU is joined, both leave, and so on until
    objects or overlapping priors have run out; ties go to the earlier object, then to the earlier prior. An object
    that overlaps no prior, is not finite or is thinner than `THINNEST` gets none. 0 < low <= high.
    """
    value, row, prior = _pairs(truth, priors)
    matches = torch.full((len(priors),), BACKGROUND, dtype=torch.int64, device=priors.device)
    first = _first(prior, torch.arange(len(prior), device=prior.device), len(priors))
    touched = torch.nonzero(first < len(prior)).flatten()
    best = first[touched]
    matches[touched[value[best] >= low]] = IGNORED
    strong = value[best] >= high
    matches[touched[strong]] = row[best[strong]]
    own = _joined(row, prior, len(truth), len(priors))
    matches[prior[own]] = row[own]
    return matches


def leave_out_crowds(matches: Tensor, priors: Tensor, crowds: Tensor, share: float) -> Tensor:
    """Background priors (N,) of whose own area more than `share` lies in one of the crowds (K, 4) become IGNORED."""
    if len(crowds) == 0:
        return matches
    inside = box_ops.intersection(priors, crowds).amax(dim=1) / box_ops.area(priors) > share
    return torch.where((matches == BACKGROUND) & inside, matches.new_tensor(IGNORED), matches)


def _pairs(truth: Tensor, priors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """IoU, object and prior of the pairs that overlap, each (P,): largest first, then by object, then by prior."""
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
    """(count,): the smallest of the `places` at which each number stands in `index`; beyond the last if nowhere."""
    nowhere = torch.full((count,), torch.iinfo(torch.int64).max, device=index.device)
    return nowhere.scatter_reduce(0, index, places, "amin")


def _best_of_each(row: Tensor, objects: int) -> Tensor:
    """Places of the best pairs of each object, as many as there are objects: nobody has to look further."""
    order = torch.sort(row, stable=True).indices
    counts = torch.bincount(row, minlength=objects)
    rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row[order]]
    return torch.sort(order[rank < objects]).values


def _joined(row: Tensor, prior: Tensor, objects: int, priors: int) -> Tensor:
    """Places of the pairs that are joined, of pairs in falling order; nobody is in two of them.

    Deferred acceptance: every object without a prior asks for the best one that nobody better holds, and each prior
    keeps the best who asks. Objects and priors agree on the order of pairs, so this is what joining the best pair
    again and again gives, in as many rounds as there are conflicts in a row.
    """
    places = _best_of_each(row, objects)
    held = _first(prior[:0], places[:0], priors)  # place of the pair that each prior is in
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
