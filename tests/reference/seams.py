"""Slow, obvious twin of ops/seams.py: whole images of bool, every pair of pieces, one after the other."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from maskwright.ops.seams import INSIDE, SAME, SEEN, TOUCH_SHARE, Pieces


def clearance(pieces: Pieces, i: int) -> float:
    """Distance of a piece's box to the nearest border of its tile that is not the image's."""
    (x0, y0, x1, y1), box = pieces.tiles[pieces.tile[i]].tolist(), pieces.boxes[i].tolist()
    gaps = []
    if x0 > 0:
        gaps.append(box[0] - x0)
    if y0 > 0:
        gaps.append(box[1] - y0)
    if x1 < pieces.size[1]:
        gaps.append(x1 - box[2])
    if y1 < pieces.size[0]:
        gaps.append(y1 - box[3])
    return min(gaps, default=np.inf)


def is_cut(pieces: Pieces, i: int) -> bool:
    x0, y0, x1, y1 = pieces.boxes[i].tolist()
    return clearance(pieces, i) < pieces.touch + TOUCH_SHARE * max(x1 - x0, y1 - y0)


def dense(pieces: Pieces, i: int) -> NDArray[np.bool_]:
    """One piece on the whole image; of whole-pixel boxes where there are no masks."""
    if pieces.masks is not None:
        return pieces.masks[i].dense()[0]
    out = np.zeros(pieces.size, bool)
    x0, y0, x1, y1 = (int(v) for v in pieces.boxes[i])
    out[y0:y1, x0:x1] = True
    return out


def same(pieces: Pieces, i: int, k: int) -> bool:
    """Whether two pieces show one object."""
    if pieces.tile[i] == pieces.tile[k] or pieces.labels[i] != pieces.labels[k]:
        return False
    a, b = dense(pieces, i), dense(pieces, k)
    shared = int((a & b).sum())
    if not shared:
        return False
    if not is_cut(pieces, i) and not is_cut(pieces, k):
        return shared >= SAME * int((a | b).sum()) or shared >= INSIDE * min(int(a.sum()), int(b.sum()))
    if is_cut(pieces, i) != is_cut(pieces, k):
        return shared >= SEEN * int((a if is_cut(pieces, i) else b).sum())
    both = np.ones(pieces.size, bool)
    for x0, y0, x1, y1 in (pieces.tiles[pieces.tile[i]].tolist(), pieces.tiles[pieces.tile[k]].tolist()):
        seen = np.zeros(pieces.size, bool)
        seen[y0:y1, x0:x1] = True
        both &= seen
    parts = [(int((m & both).sum()), int(m.sum())) for m in (a, b)]
    small, own = min(parts)
    return shared >= SAME * int(((a | b) & both).sum()) or (shared >= INSIDE * small and small >= own / 2)


def objects(pieces: Pieces) -> list[list[int]]:
    """The groups of pieces, each sorted, all sorted."""
    count = len(pieces.boxes)
    pairs = {frozenset(p) for p in combinations(range(count), 2) if same(pieces, *p)}
    order = sorted(range(count), key=lambda i: (-clearance(pieces, i), -pieces.scores[i], i))
    kept: list[int] = []
    for i in order:
        if not is_cut(pieces, i) and not any(frozenset((i, k)) in pairs for k in kept):
            kept.append(i)
    groups = [[i] for i in kept]
    left = [i for i in range(count) if is_cut(pieces, i) and not any(frozenset((i, k)) in pairs for k in kept)]
    parts = [{i} for i in left]
    for i, k in combinations(left, 2):
        if frozenset((i, k)) in pairs:
            one, other = (next(p for p in parts if j in p) for j in (i, k))
            if one is not other:
                one |= other
                parts.remove(other)
    return sorted(groups + [sorted(p) for p in parts])
