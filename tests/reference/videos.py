"""Random tracked videos, and the measures of videos written down as their definitions say, slowly.

A video is a list of frames, each a dict from the track's id to its bool mask (H, W).
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats.shared.fields import box_tuple
from maskwright.metrics.metric import GroundTruth
from maskwright.ops import masks as mask_ops
from maskwright.types import Classes, Clip, Frame, Instances, Masks

SIZE = (30, 40)
Video = list[dict[int, Any]]


def random_video(rng: np.random.Generator, tracks: int = 5, frames: int = 8) -> Video:
    """Disjoint blocks that move; some begin late, end early or vanish for a frame."""
    out: Video = [{} for _ in range(frames)]
    places, steps = rng.integers(0, 28, (tracks, 2)), rng.integers(-2, 3, (tracks, 2))
    for k in range(tracks):
        first, last = sorted(rng.integers(0, frames, 2).tolist()) if k else (0, frames - 1)
        sides = rng.integers(4, 10, 2)
        for t in range(first, last + 1):
            top, left = np.clip(places[k] + t * steps[k], 0, None)
            mask = np.zeros(SIZE, np.bool_)
            mask[top : top + sides[0], left : left + sides[1]] = True
            for other in out[t].values():
                mask &= ~other
            if mask.any() and rng.random() > 0.08:
                out[t][k + 1] = mask
    return out


def corrupted(video: Video, rng: np.random.Generator) -> Video:
    """The same with objects missed, moved, merged, divided and false, and with identities exchanged; disjoint."""
    out: Video = []
    name = {i: i + 10 for i in range(1, 100)}
    for frame in video:
        found: dict[int, Any] = {}
        free = np.ones(SIZE, np.bool_)
        if rng.random() < 0.3 and len(frame) > 1:
            a, b = rng.choice(sorted(frame), 2, replace=False).tolist()
            name[a], name[b] = name[b], name[a]
        for i, mask in frame.items():
            kind = rng.random()
            if kind < 0.1:
                continue
            moved = np.roll(mask, rng.integers(-2, 3, 2), (0, 1)) if kind < 0.5 else mask
            moved = moved & free
            if kind > 0.9 and found:  # grows together with another one
                other = next(iter(found))
                found[other] = found[other] | moved
            elif moved.any():
                found[name[i]] = moved
            free &= ~moved
        if rng.random() < 0.5:
            mask = np.zeros(SIZE, np.bool_)
            mask[rng.integers(0, 25) :, rng.integers(0, 35) :][:4, :4] = True
            if (mask & free).any():
                found[int(rng.integers(50, 53))] = mask & free
        out.append(found)
    return out


def dataset(
    videos: Sequence[Video],
    labels: Mapping[int, int] | None = None,
    classes: Sequence[str] = ("cell",),
    parents: Mapping[int, int] | None = None,
    crowds: Sequence[int] = (),
) -> Dataset:
    """Videos as an annotated data set. labels: by track, else 0. crowds: tracks that are crowd regions."""
    records, annotations, count = [], {}, 0
    for v, video in enumerate(videos, 1):
        for t, frame in enumerate(video):
            number = len(records) + 1
            records.append(ImageRecord(number, f"{v}/{t}.png", SIZE, {}, Frame(Clip(v, str(v)), t)))
            rows = []
            for i, mask in frame.items():
                count += 1
                masks = Masks.from_dense(mask[None])
                rows.append(
                    Annotation(
                        id=count,
                        image_id=number,
                        label=(labels or {}).get(i, 0),
                        box=box_tuple(masks.boxes()[0]),
                        segmentation=mask_ops.encode(masks)[0],
                        area=float(mask.sum()),
                        crowd=i in crowds,
                        track_id=i,
                        extra={"parent": parents[i]} if parents and i in parents else {},
                    )
                )
            annotations[number] = tuple(rows)
    return Dataset(Classes(classes), tuple(records), annotations, None, Path("videos.json"))


def instances(
    frame: Mapping[int, Any],
    labels: Mapping[int, int] | None = None,
    scores: Mapping[int, float] | None = None,
    classes: Sequence[str] = ("cell",),
) -> Instances:
    """A frame of a result."""
    masks = Masks.from_dense(np.array(list(frame.values())).reshape(-1, *SIZE), SIZE)
    return Instances(
        boxes=masks.boxes(),
        scores=np.array([(scores or {}).get(i, 1.0) for i in frame], np.float32),
        labels=np.array([(labels or {}).get(i, 0) for i in frame], np.int64),
        classes=Classes(classes),
        size=SIZE,
        crops=masks,
        track_ids=np.array(list(frame), np.int64),
    )


def measured(metric: Any, data: Dataset, videos: Sequence[Video], **of_instances: Any) -> Any:
    """The result of a metric that was given all frames."""
    frames = [frame for video in videos for frame in video]
    for position, frame in enumerate(frames):
        metric.update(instances(frame, classes=data.classes.names, **of_instances), GroundTruth(data, position))
    return metric.result()


# ---- HOTA and identities --------------------------------------------------------------------------------------------


def iou(a: Any, b: Any) -> float:
    return float((a & b).sum() / (a | b).sum())


def hota(true: Video, found: Video) -> dict[str, float]:
    """HOTA, DetA, AssA, LocA of one video: each match by itself, its association counted over all frames."""
    overlaps = [
        {(g, d): iou(a, b) for g, a in x.items() for d, b in y.items()} for x, y in zip(true, found, strict=True)
    ]
    lengths = [{i: sum(i in frame for frame in video) for frame in video for i in frame} for video in (true, found)]
    together: dict[tuple[int, int], float] = {}
    for own in overlaps:
        for (g, d), value in own.items():
            rest = sum(v for (a, b), v in own.items() if a == g or b == d)
            together[g, d] = together.get((g, d), 0.0) + (value / rest if rest else 0.0)
    matches: list[list[tuple[int, int]]] = []
    for own, x, y in zip(overlaps, true, found, strict=True):
        rows, columns = list(x), list(y)
        score = np.array(
            [
                [own[g, d] * together[g, d] / (lengths[0][g] + lengths[1][d] - together[g, d]) for d in columns]
                for g in rows
            ]
        ).reshape(len(rows), len(columns))
        best = linear_sum_assignment(score, maximize=True)
        matches.append([(rows[i], columns[k]) for i, k in zip(*best, strict=True)])
    sums = np.zeros(4)
    for alpha in np.arange(0.05, 0.99, 0.05):
        kept = [[p for p in pairs if own[p] >= alpha - 1e-12] for pairs, own in zip(matches, overlaps, strict=True)]
        every = [pair for pairs in kept for pair in pairs]
        right = len(every)
        deta = right / (sum(map(len, true)) + sum(map(len, found)) - right)
        shares = [every.count(p) / (lengths[0][p[0]] + lengths[1][p[1]] - every.count(p)) for p in every]
        assa = float(np.mean(shares)) if shares else 0.0
        located = [own[p] for pairs, own in zip(kept, overlaps, strict=True) for p in pairs]
        sums += np.sqrt(deta * assa), deta, assa, np.mean(located) if located else 1.0
    return dict(zip(("hota", "deta", "assa", "loca"), (sums / 19).tolist(), strict=True))


def idf1(true: Video, found: Video) -> float:
    """All ways to give annotated tracks (few) tracks of the result are tried."""
    ids = [sorted({i for frame in video for i in frame}) for video in (true, found)]
    options = [*ids[1], *([None] * len(ids[0]))]

    def agree(g: int, d: int | None) -> int:
        pairs = zip(true, found, strict=True)
        return sum(d is not None and g in x and d in y and iou(x[g], y[d]) >= 0.5 for x, y in pairs)

    table = {(g, d): agree(g, d) for g in ids[0] for d in options}
    ways = itertools.permutations(options, len(ids[0]))
    best = max(sum(table[g, d] for g, d in zip(ids[0], way, strict=True)) for way in ways)
    return 2 * best / (sum(map(len, true)) + sum(map(len, found)))


# ---- Cell Tracking Challenge ----------------------------------------------------------------------------------------

Vertex = tuple[int, int]


def graph(video: Video, parents: Mapping[int, int]) -> tuple[set[Vertex], dict[tuple[Vertex, Vertex], str]]:
    """Vertices (frame, track), and edges with their kind."""
    vertices = {(t, i) for t, frame in enumerate(video) for i in frame}
    times = {i: sorted(t for t, k in vertices if k == i) for _, i in vertices}
    edges = {}
    for i, own in times.items():
        for a, b in itertools.pairwise(own):
            edges[(a, i), (b, i)] = "track" if b == a + 1 else "parent"
        if i in parents and parents[i] in times:
            edges[(times[parents[i]][-1], parents[i]), (own[0], i)] = "parent"
    return vertices, edges


def ctc(
    true: Video, found: Video, true_parents: Mapping[int, int], found_parents: Mapping[int, int]
) -> dict[str, float]:
    """SEG, TRA, DET, LNK of one video of disjoint masks."""
    of: dict[Vertex, Vertex] = {}
    jaccard = []
    for t, (x, y) in enumerate(zip(true, found, strict=True)):
        for g, a in x.items():
            cover = [(d, iou(a, b)) for d, b in y.items() if 2 * (a & b).sum() > a.sum()]
            jaccard.append(cover[0][1] if cover else 0.0)
            if cover:
                of[t, g] = t, cover[0][0]
    vertices, edges = graph(true, true_parents)
    others, links = graph(found, found_parents)
    partners = {v: [g for g, d in of.items() if d == v] for v in others}
    splits = sum(len(own) - 1 for own in partners.values() if len(own) > 1)
    cost = 5 * splits + 10 * (len(vertices) - len(of)) + sum(not own for own in partners.values())
    single = {v: own[0] for v, own in partners.items() if len(own) == 1}
    inside = {(single[a], single[b]): kind for (a, b), kind in links.items() if a in single and b in single}
    redundant, absent = len(inside.keys() - edges.keys()), len(edges.keys() - inside.keys())
    wrong = sum(edges[e] != inside[e] for e in edges.keys() & inside.keys())
    link_cost, whole, link_whole = redundant + 1.5 * absent + wrong, 10.0 * len(vertices), 1.5 * len(edges)
    return {
        "SEG": float(np.mean(jaccard)),
        "TRA": 1 - min(cost + link_cost, whole + link_whole) / (whole + link_whole),
        "DET": 1 - min(cost, whole) / whole,
        "LNK": 1 - min(link_cost, link_whole) / link_whole if link_whole else -1.0,
    }
