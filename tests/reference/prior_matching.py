"""Which object a prior answers for: the largest overlaps joined one after the other, over plain lists."""

from tests.reference.boxes import area, iou


def match_priors(truth, priors, low, high):
    """-1 background, -2 ignored, else the object."""
    table = [[iou(t, p) for p in priors] for t in truth]
    out = []
    for i in range(len(priors)):
        column = [row[i] for row in table]
        value = max(column, default=0.0)
        out.append(column.index(value) if value >= high else -2 if value >= low else -1)
    objects, free = set(range(len(truth))), set(range(len(priors)))
    while True:
        pairs = [(-table[j][i], j, i) for j in objects for i in free if table[j][i] > 0]
        if not pairs:
            return out
        _, j, i = min(pairs)
        out[i] = j
        objects.remove(j)
        free.remove(i)


def leave_out_crowds(matches, priors, crowds, share):
    out = list(matches)
    for i, p in enumerate(priors):
        for crowd in crowds:
            width = max(0.0, min(p[2], crowd[2]) - max(p[0], crowd[0]))
            height = max(0.0, min(p[3], crowd[3]) - max(p[1], crowd[1]))
            if out[i] == -1 and width * height / area(p) > share:
                out[i] = -2
    return out
