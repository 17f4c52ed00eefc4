"""What views of an image show, joined the slow way: pixel sets and plain loops."""

import numpy as np

Instance = tuple[int, int, float, frozenset[tuple[int, int]]]
"""View, label, score, pixels."""


def fused(instances: list[Instance], views: int) -> list[tuple[float, int, frozenset[tuple[int, int]]]]:
    """(score, label, pixels) of each object, in the order of their best instances."""
    groups: list[list[Instance]] = []
    for one in sorted(instances, key=lambda row: -row[2]):
        best, at_best = 0.5, None
        for group in groups:
            first = group[0]
            iou = len(first[3] & one[3]) / max(len(first[3] | one[3]), 1)
            free = all(other[0] != one[0] for other in group)
            if first[1] == one[1] and free and (iou > best or (iou == best and at_best is None)):
                best, at_best = iou, group
        if at_best is None:
            groups.append([one])
        else:
            at_best.append(one)
    out = []
    for group in groups:
        weight = sum(row[2] for row in group)
        every = frozenset().union(*(row[3] for row in group))
        votes = {pixel: sum(row[2] for row in group if pixel in row[3]) for pixel in every}
        pixels = frozenset(pixel for pixel, vote in votes.items() if vote > weight / 2)
        out.append((float(np.float32(weight / views)), group[0][1], pixels or group[0][3]))
    return out
