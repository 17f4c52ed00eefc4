"""Which ground truth a candidate answers for, one candidate after the other."""

from tests.reference.boxes import area, iou


def match(truth, candidates, low, high, keep_best):
    """-1 background, -2 ignored, else the ground truth."""
    top = [max((iou(t, c) for c in candidates), default=0.0) for t in truth]
    out = []
    for c in candidates:
        overlaps = [iou(t, c) for t in truth]
        value = max(overlaps, default=0.0)
        best = overlaps.index(value) if overlaps else -1
        if not overlaps or value < low:
            found = -1
        elif value < high:
            found = -2
        else:
            found = best
        if keep_best and any(o > 0 and o == t for o, t in zip(overlaps, top, strict=True)):
            found = best
        out.append(found)
    return out


def ignore_crowds(matches, candidates, crowds, share):
    out = list(matches)
    for i, c in enumerate(candidates):
        for crowd in crowds:
            width = max(0.0, min(c[2], crowd[2]) - max(c[0], crowd[0]))
            height = max(0.0, min(c[3], crowd[3]) - max(c[1], crowd[1]))
            if out[i] == -1 and width * height >= share * area(c):
                out[i] = -2
    return out
