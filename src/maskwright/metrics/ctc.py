"""The measures of the Cell Tracking Challenge: SEG of masks, DET and LNK of the two halves of tracking, TRA of both.

SEG: the mean Jaccard index of the annotated objects, 0 for one of which no detection covers more than half (Maška et
al. 2014). TRA: what it costs to correct the graph of the result, whose vertices are the detections and whose edges link
each to the next of its track and each daughter to its mother (Matula et al. 2015). The class is ignored.

Masks are made disjoint first, as label images are: the detection with the higher score, the smaller annotated object is
on top. A track that vanishes and returns is
linked over the gap as a mother is to a daughter, which is how the challenge's files write it.

Letters: N annotated objects of a frame, M detections.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from maskwright.metrics.disjoint import label_image
from maskwright.metrics.metric import GroundTruth, PageSection, mean, shown, table_lines
from maskwright.metrics.videos import TrackedObjects, VideoMetric, true_tracks
from maskwright.types import Classes, Instances, IntArray, Masks, TrackFacts
from maskwright.wording import counted

PARENT = "parent"
"""The field of an annotation that has the id of the track from which its own came."""

SPLIT, MISSED, FALSE = 5.0, 10.0, 1.0
"""What it costs to split a detection of several objects, to add one that is missing, to remove a false one."""

REDUNDANT, ABSENT, WRONG = 1.0, 1.5, 1.0
"""What it costs to remove a link, to add one, to change its kind."""


@dataclass
class CtcCounts:
    """What was counted in one video. overlap: the summed Jaccard indices of `segmented` objects; objects, links: of the
    ground truth; the rest are operations that correct the result."""

    name: str
    segmented: int = 0
    overlap: float = 0.0
    objects: int = 0
    links: int = 0
    splits: int = 0
    missed: int = 0
    false: int = 0
    redundant: int = 0
    absent: int = 0
    wrong: int = 0

    @property
    def seg(self) -> float:
        """-1 without annotated objects, as the other measures."""
        return self.overlap / self.segmented if self.segmented else -1.0

    @property
    def det(self) -> float:
        """1 less the cost of correcting vertices, as a share of that of adding all of them."""
        return _rate(self._vertices, MISSED * self.objects)

    @property
    def lnk(self) -> float:
        """The same for links; -1 without any in the ground truth."""
        return _rate(self._edges, ABSENT * self.links)

    @property
    def tra(self) -> float:
        """The same for both."""
        return _rate(self._vertices + self._edges, MISSED * self.objects + ABSENT * self.links)

    @property
    def _vertices(self) -> float:
        return SPLIT * self.splits + MISSED * self.missed + FALSE * self.false

    @property
    def _edges(self) -> float:
        return REDUNDANT * self.redundant + ABSENT * self.absent + WRONG * self.wrong


MEASURES = ("seg", "tra", "det", "lnk")


@dataclass(frozen=True, eq=False)
class CtcResult:
    """The numbers of each video; those of the data set are the means of the videos that have them."""

    score_threshold: float
    per_video: tuple[CtcCounts, ...]
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> float:
        """A mean over the videos: `result["TRA"]`."""
        return mean([getattr(c, name.lower()) for c in self.per_video])

    def values(self) -> dict[str, float]:
        """`ctc/SEG`, `ctc/TRA`, `ctc/DET`, `ctc/LNK`."""
        return {f"ctc/{name.upper()}": self[name] for name in MEASURES}

    def table(self) -> str:
        """A line for each video, and what was counted."""
        counts = ("objects", "missed", " false", "splits", "links", "missing", "redundant", "wrong kind")
        rows: list[tuple[object, ...]] = [
            (c.name, *(shown(getattr(c, name)) for name in MEASURES), c.objects, c.missed, c.false, c.splits, c.links,
             c.absent, c.redundant, c.wrong)
            for c in self.per_video
        ]  # fmt: skip
        if len(rows) > 1:
            rows.append(("mean", *(shown(self[name]) for name in MEASURES)))
        title = f"ctc: Cell Tracking Challenge, score {self.score_threshold:.2f} and more"
        lines = table_lines(("video", *(f"{name.upper():>5}" for name in MEASURES), *counts), rows)
        return "\n".join([title, *lines, *(f"Note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, under `ctc`."""
        numbers = {name.upper(): self[name] for name in MEASURES}
        rows = [{**asdict(c), **{m.upper(): getattr(c, m) for m in MEASURES}} for c in self.per_video]
        return {"ctc": {**numbers, "score_threshold": self.score_threshold, "per_video": rows}}

    def section(self) -> PageSection:
        """The four numbers."""
        return PageSection([(name.upper(), shown(self[name], "–")) for name in MEASURES])


@dataclass(slots=True)
class _Seen:
    """Where a track was last: its frame, and of a detection of one object alone that object's track."""

    frame: int
    partner: int | None = None


@dataclass(eq=False)
class _Graph:
    """The last vertex of each track of one graph."""

    last: dict[int, _Seen] = field(default_factory=dict)

    def links(self, ids: list[int], parents: Mapping[int, int], frame: int) -> dict[int, tuple[int, int, bool]]:
        """By the track of each vertex of this frame its link: (track, frame) that it comes from, and if of a mother."""
        out = {}
        for track in ids:
            own = self.last.get(track)
            if own is not None:
                out[track] = track, own.frame, own.frame < frame - 1
            elif (mother := self.last.get(parents.get(track, -1))) is not None:
                out[track] = parents[track], mother.frame, True
        return out


class CtcMetric(VideoMetric):
    """Collects the frames of videos and measures them; only the last frame of each track is in memory.

    metric = CtcMetric(classes, score=0.5)
    metric.update(found, GroundTruth(dataset, 0))      # once for each frame, in order, also where nothing was found
    print(metric.result().table())

    facts: see `MetricOptions.tracks`; the parents of the result's tracks. Those of annotated ones are in the field
    "parent" of their annotations. SEG is measured on `GroundTruth.segmented`.
    """

    def __init__(
        self, classes: Classes, score: float = 0.0, facts: Mapping[int, Mapping[int, TrackFacts]] | None = None
    ) -> None:
        super().__init__(classes)
        self.score, self._facts = score, facts or {}
        self._videos: list[CtcCounts] = []
        self._hidden = self._lost = 0

    def begin(self) -> None:
        assert self.clip is not None
        self._counts = CtcCounts(self.clip.name or str(self.clip.id))
        self._videos.append(self._counts)
        self._true, self._found = _Graph(), _Graph()
        facts = self._facts.get(self.clip.id, {})
        self._found_parents = {i: f.parent for i, f in facts.items() if f.parent is not None}
        self._frame = -1

    def add(self, tracked: TrackedObjects, found: Instances, truth: GroundTruth) -> None:
        """Match the detections of a frame, and compare its links with those of the frames before."""
        self._frame += 1
        rows = np.flatnonzero(found.scores >= self.score)
        objects, counts = true_tracks(truth), self._counts
        labels, areas = label_image(tracked.masks[rows], np.argsort(-found.scores[rows], kind="stable"))
        partners, _, visible = _covered(objects.masks, labels, areas)
        seen = areas > 0
        self._hidden += int((~visible).sum())
        self._lost += int((~seen).sum())
        if truth.segmented is not None:
            _, jaccard, outlined = _covered(truth.segmented, labels, areas)
            counts.segmented += int(outlined.sum())
            counts.overlap += float(jaccard.sum())
        matched = np.bincount(partners[partners >= 0], minlength=len(rows))  # objects of each detection
        counts.objects += int(visible.sum())
        counts.missed += int((visible & (partners < 0)).sum())
        counts.false += int((seen & (matched == 0)).sum())
        counts.splits += int(np.maximum(matched - 1, 0).sum())
        self._compare(
            objects.ids[visible], partners[visible], tracked.ids[rows][seen], np.flatnonzero(seen), matched, truth
        )

    def _compare(
        self, true: IntArray, partners: IntArray, found: IntArray, rows: IntArray, matched: IntArray, truth: GroundTruth
    ) -> None:
        """Links of the ground truth and the result that end in this frame.

        true: the objects' tracks, partners: their detections or -1; found: the detections' tracks, rows: their numbers.
        """
        stated = [(a.track_id, a.extra.get(PARENT)) for a in truth.annotations]
        parents = {track: p for track, p in stated if track is not None and isinstance(p, int)}
        expected = self._true.links(true.tolist(), parents, self._frame)
        given = self._found.links(found.tolist(), self._found_parents, self._frame)
        object_of = {int(p): int(t) for t, p in zip(true, partners, strict=True) if p >= 0 and matched[p] == 1}
        partner_of = {int(f): object_of.get(int(r)) for f, r in zip(found, rows, strict=True)}
        counts, right = self._counts, set[int]()
        counts.links += len(expected)
        for track, (origin, frame, kind) in given.items():
            here, there = partner_of[track], self._found.last[origin].partner
            if here is None or there is None:
                continue  # only links between detections of one object each can be compared
            wanted = expected.get(here)
            if wanted is None or wanted[:2] != (there, frame):
                counts.redundant += 1
            else:
                right.add(here)
                counts.wrong += wanted[2] != kind
        counts.absent += len(expected) - len(right)
        for track in true.tolist():
            self._true.last[track] = _Seen(self._frame)
        for track, partner in partner_of.items():
            self._found.last[track] = _Seen(self._frame, partner)

    def end(self) -> None:
        """Nothing is left to count."""

    def result(self) -> CtcResult:
        """Measure the videos given so far; the last one counts as whole."""
        self.close()
        notes = []
        if self._hidden:
            notes.append(f"{counted(self._hidden, 'annotated object')} without a pixel beside smaller ones left out.")
        if self._lost:
            notes.append(f"{counted(self._lost, 'detection')} without a pixel beside better ones left out.")
        return CtcResult(self.score, tuple(self._videos), tuple(notes))


def _covered(objects: Masks, found: Any, areas: IntArray) -> tuple[IntArray, Any, Any]:
    """For each object the detection that covers more than half of it, or -1 (N,); their Jaccard index, or 0 (N,); and
    whether it has a pixel of its own (N,)."""
    labels, own = label_image(objects, np.argsort(objects.areas(), kind="stable"))
    partners, jaccard = np.full(len(objects), -1), np.zeros(len(objects))
    for i, (window, bitmap) in enumerate(zip(objects.windows, objects.bitmaps, strict=True)):
        inside = found[window][bitmap & (labels[window] == i + 1)]
        shared = np.bincount(inside, minlength=1)
        shared[0] = 0
        best = int(shared.argmax())
        if 2 * shared[best] > own[i]:
            partners[i] = best - 1
            jaccard[i] = shared[best] / (own[i] + areas[best - 1] - shared[best])
    return partners, jaccard, own > 0


def _rate(cost: float, whole: float) -> float:
    """1 less the share of the cost in that of building the whole graph; -1 where that is nothing."""
    return 1 - min(cost, whole) / whole if whole else -1.0
