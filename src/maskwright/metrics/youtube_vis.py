"""YouTube-VIS's average precision and recall of tracks, equal to its official evaluation.

A track of the result and one of the ground truth overlap by the pixels that they share in all frames, over the pixels
that either has (Yang, Fan, Xu 2019); then COCO's rules hold for tracks in place of objects. No mask is kept: areas
and shared pixels are added up frame by frame.

Letters: D tracks of the result in a video and class, G annotated tracks, T IoU thresholds (10: 0.50 to 0.95), A ranges
of areas, R recall levels (101), Q classes. -1 stands where there is nothing to measure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.stats import room
from maskwright.errors import DataError
from maskwright.metrics.coco_result import STATS, ClassScore, class_lines
from maskwright.metrics.metric import GroundTruth, PageSection, mean, measured, shown
from maskwright.metrics.videos import TrackedObjects, VideoMetric, true_tracks
from maskwright.ops import masks as mask_ops
from maskwright.report import charts
from maskwright.report.charts import Bars
from maskwright.report.page import Column
from maskwright.types import Classes, Instances, TrackFacts
from maskwright.wording import counted

Array = NDArray[np.float64]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = np.array([(0, 1e10), (0, 128**2), (128**2, 256**2), (256**2, 1e10)], np.float64)  # (A, 2): all, s, m, l
LIMIT = 100
"""Tracks of a video and class that count at most by the official rule, the best first."""


@dataclass(eq=False)
class _Track:
    """What is kept of a track: no pixels, and nothing of single frames. order: where it stands in the file. pixels: of
    all its masks together."""

    order: int
    crowd: bool = False
    label: int = -1
    pixels: int = 0
    votes: dict[int, float] = field(default_factory=dict)
    _areas: float = 0.0
    _seen: int = 0
    _rated: int = 0
    _total: float = 0.0
    _lowest: float = 1.0
    _highest: float = 0.0

    def show(self, pixels: int, area: float) -> None:
        """A frame shows it. area: as the file states it; frames in which it is 0 do not count in the mean."""
        self.pixels += pixels
        self._areas += area
        self._seen += area > 0

    def rate(self, label: int, score: float) -> None:
        """An instance of it has this class and score."""
        self._rated += 1
        self._total += score
        self._lowest, self._highest = min(self._lowest, score), max(self._highest, score)
        self.votes[label] = self.votes.get(label, 0.0) + score

    @property
    def area(self) -> float:
        """The mean over the frames that show something of it."""
        return self._areas / self._seen if self._seen else 0.0

    def score_of(self, facts: TrackFacts) -> float:
        """As the file says, or the mean of its instances."""
        if facts.score is not None:
            return facts.score
        equal = self._lowest == self._highest  # the mean of equal numbers may differ from them in the last digit
        return self._lowest if equal else self._total / self._rated

    def label_of(self, facts: TrackFacts) -> int:
        """As the file says, or the class that its instances had most, by the sum of scores."""
        return facts.label if facts.label is not None else max(sorted(self.votes), key=self.votes.__getitem__)


@dataclass(frozen=True, eq=False)
class _Matched:
    """The tracks of a video and class. scores (D,), best first. hit, ignored (A, T, D) bool. objects (A,): annotated
    tracks that count."""

    video: int
    scores: Array
    hit: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    objects: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class YoutubeVisResult:
    """stats: (12,) in the order of `STATS`, with the best `limit` tracks of each video and class (AR1, AR10 with as
    many as they say); s, m, l: mean area under 128², up to 256², and above. at_100: AP by the official rule, where
    `limit` is another; else None.
    """

    stats: Array
    per_class: tuple[ClassScore, ...]
    videos: int
    notes: tuple[str, ...] = ()
    limit: int = LIMIT
    at_100: float | None = None

    def __getitem__(self, name: str) -> float:
        """A number by its name: `result["AP50"]`."""
        return float(self.stats[STATS.index(name)])

    def values(self) -> dict[str, float]:
        """The numbers as `track/AP` ..., and `track/AP@100` where more than 100 tracks count."""
        own = {} if self.at_100 is None else {f"track/AP@{LIMIT}": self.at_100}
        return {f"track/{name}": self[name] for name in STATS} | own

    def table(self) -> str:
        """The numbers, then one line for each class."""
        size = f"{counted(self.videos, 'video')}, {counted(sum(row.objects for row in self.per_class), 'object')}"
        lines = [
            f"youtube_vis: AP of tracks, IoU of masks over time, {size}",
            " " + "  ".join(f"{name} {shown(self[name])}" for name in STATS[:6]),
            " " + "  ".join(f"{name} {shown(self[name])}" for name in STATS[6:]),
            *class_lines(self.per_class),
        ]
        if self.at_100 is not None:
            lines.append(f" the official AP, at {LIMIT} tracks: {shown(self.at_100)}")
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, under `youtube_vis`."""
        numbers: dict[str, Any] = {name: self[name] for name in STATS}
        numbers |= {"max_detections": self.limit} | ({} if self.at_100 is None else {f"AP@{LIMIT}": self.at_100})
        return {"youtube_vis": {**numbers, "videos": self.videos, "per_class": [vars(row) for row in self.per_class]}}

    def section(self) -> PageSection:
        """AP of tracks, by size, and of each class."""
        bars = [Bars("tracks", [measured(self[f"AP{size}"]) for size in "sml"])]
        sizes = charts.bar_chart(
            "AP of tracks by mean area", ("under 128²", "to 256²", "over 256² px"), bars, y_label="AP"
        )
        tiles = [(f"track {name}", shown(self[name], "–")) for name in STATS[:3]]
        column = Column("track AP", "IoU of masks over time", share=True)
        return PageSection(tiles, [sizes], [(column, [measured(row.ap) for row in self.per_class])])


class YoutubeVisMetric(VideoMetric):
    """Collects the frames of videos and measures their tracks.

    metric = YoutubeVisMetric(classes)
    metric.update(found, GroundTruth(dataset, 0))      # once for each frame, in order, also where nothing was found
    print(metric.result().table())

    facts: see `MetricOptions.tracks`. Where a file does not say them, the score of a track is the mean of its instances
    and its class the one that they had most, by the sum of scores. max_detections: tracks of a video and class that
    count; None: the official 100, or more where a video needs them, with a note.
    """

    def __init__(
        self,
        classes: Classes,
        facts: Mapping[int, Mapping[int, TrackFacts]] | None = None,
        max_detections: int | None = None,
    ) -> None:
        super().__init__(classes)
        self._facts, self.max_detections = facts or {}, max_detections
        self._of_class: list[list[_Matched]] = [[] for _ in classes]
        self._videos = 0

    def begin(self) -> None:
        self._found: dict[int, _Track] = {}
        self._true: dict[int, _Track] = {}
        self._shared: dict[tuple[int, int], int] = {}
        self._videos += 1

    def add(self, tracked: TrackedObjects, found: Instances, truth: GroundTruth) -> None:
        """Add up the pixels of a frame."""
        if not np.isfinite(found.scores).all():
            raise DataError(f"YoutubeVisMetric: the result of {truth.record.file_name} has scores that are not finite.")
        areas = tracked.masks.areas()
        rows = zip(tracked.ids.tolist(), tracked.labels.tolist(), areas.tolist(), found.scores.tolist(), strict=True)
        for track_id, label, area, score in rows:
            track = self._found.setdefault(track_id, _Track(track_id))
            track.show(area, area)
            track.rate(label, score)
        objects = true_tracks(truth)
        self._share(objects.ids.tolist(), objects.masks, False, tracked, truth)
        crowds = [a for a in truth.annotations if a.crowd]
        if crowds:  # one without a track id is a track of one frame
            ids = [-a.id - 1 if a.track_id is None else a.track_id for a in crowds]
            assert truth.crowd.crops is not None
            self._share(ids, truth.crowd.crops, True, tracked, truth)

    def _share(self, ids: list[int], masks: Any, crowd: bool, tracked: TrackedObjects, truth: GroundTruth) -> None:
        rows = [a for a in truth.annotations if a.crowd == crowd]
        for track_id, annotation, pixels in zip(ids, rows, masks.areas().tolist(), strict=True):
            track = self._true.setdefault(track_id, _Track(annotation.id, crowd, annotation.label))
            if (track.label, track.crowd) != (annotation.label, crowd):
                raise DataError(f"{truth.record.file_name}: track {track_id} changes its class or crowd flag.")
            track.show(pixels, annotation.area)
        shared = mask_ops.intersections(tracked.masks, masks)
        for i, k in np.argwhere(shared).tolist():
            pair = int(tracked.ids[i]), ids[k]
            self._shared[pair] = self._shared.get(pair, 0) + int(shared[i, k])

    def end(self) -> None:
        """Match the tracks of the video; only scores and matches are kept."""
        assert self.clip is not None
        video, own = self.clip.id, self._facts.get(self.clip.id, {})
        said = {i: own.get(i, TrackFacts()) for i in self._found}
        labels = {i: track.label_of(said[i]) for i, track in self._found.items()}
        for label, kept in enumerate(self._of_class):
            found = sorted((i for i in self._found if labels[i] == label), key=lambda i: self._found[i].order)
            scores = np.array([self._found[i].score_of(said[i]) for i in found], np.float64)
            best = np.argsort(-scores, kind="stable")
            true = sorted((i for i, t in self._true.items() if t.label == label), key=lambda i: self._true[i].order)
            if len(best) or true:
                kept.append(self._matched(video, [found[i] for i in best], scores[best], true))

    def _matched(self, video: int, found: Sequence[int], scores: Array, true: Sequence[int]) -> _Matched:
        overlap = np.zeros((len(found), len(true)))
        for d, i in enumerate(found):
            for g, k in enumerate(true):
                both = self._shared.get((i, k), 0)
                overlap[d, g] = both / max(self._found[i].pixels + self._true[k].pixels - both, 1)
        crowd = np.array([self._true[k].crowd for k in true], np.bool_)
        areas = np.array([self._found[i].area for i in found])
        ignore = crowd | _outside(np.array([self._true[k].area for k in true]))  # (A, G)
        rows = [_match(overlap, crowd, row) for row in ignore]
        hit, ignored = (np.array([row[k] for row in rows]) for k in (0, 1))  # (A, T, D)
        ignored |= ~hit & _outside(areas)[:, None]
        return _Matched(video, scores, hit, ignored, (~ignore).sum(axis=1))

    def result(self) -> YoutubeVisResult:
        """Measure the videos given so far; the last one counts as whole."""
        self.close()
        sets = [sorted(kept, key=lambda m: m.video) for kept in self._of_class]
        most = max((int(m.objects[0]) for kept in sets for m in kept), default=0)
        limit = self.max_detections or (room(most) if most > LIMIT else LIMIT)
        precision, recall = _curves(sets, limit)
        stats = [
            *(mean(precision[:, 0, rows]) for rows in (slice(None), 0, 5)),
            *(mean(precision[:, area]) for area in (1, 2, 3)),
            *(mean(_curves(sets, n)[1][:, 0]) for n in (1, 10)),
            *(mean(recall[:, area]) for area in (0, 1, 2, 3)),
        ]
        rows = []
        for name, kept, own, reached in zip(self.classes, sets, precision[:, 0], recall[:, 0], strict=True):
            objects, found = sum(int(m.objects[0]) for m in kept), sum(len(m.scores) for m in kept)
            rows.append(ClassScore(name, objects, found, *map(mean, (own, own[0], own[5], reached))))
        if limit == LIMIT:
            return YoutubeVisResult(np.array(stats), tuple(rows), self._videos)
        note = f"The best {limit} tracks of a video and class count (max_detections), by the official rule {LIMIT}."
        at_100 = mean(_curves(sets, LIMIT)[0][:, 0])
        return YoutubeVisResult(np.array(stats), tuple(rows), self._videos, (note,), limit, at_100)


def _curves(sets: Sequence[Sequence[_Matched]], limit: int) -> tuple[Array, Array]:
    """Precision (Q, A, T, R) and recall (Q, A, T) of the best `limit` tracks of each video and class; -1: nothing."""
    shape = (len(sets), len(AREAS), len(THRESHOLDS))
    precision, recall = np.full((*shape, len(RECALLS)), -1.0), np.full(shape, -1.0)
    for label, kept in enumerate(sets):
        for area in range(len(AREAS)):
            curves = _accumulate(kept, area, limit)
            if curves is not None:
                precision[label, area], recall[label, area] = curves
    return precision, recall


def _outside(areas: Array) -> NDArray[np.bool_]:
    """(A, N): which areas (N,) lie outside each range."""
    return (areas[None] < AREAS[:, :1]) | (areas[None] > AREAS[:, 1:])


def _match(
    overlap: Array, crowd: NDArray[np.bool_], ignore: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each track of the result is matched, and with one that does not count, (T, D) each.

    The best first takes the annotated track that it overlaps most among those that are free, of equal ones the last;
    those that count come before those that do not. Crowds can be taken again. overlap (D, G); crowd, ignore (G,).
    """
    t, (d, g) = len(THRESHOLDS), overlap.shape
    hit, ignored, taken = np.zeros((t, d), np.bool_), np.zeros((t, d), np.bool_), np.zeros((t, g), np.bool_)
    if g == 0:
        return hit, ignored
    for row, own in enumerate(overlap):
        able = (~taken | crowd) & (own >= np.minimum(THRESHOLDS, 1 - 1e-10)[:, None])  # (T, G)
        for group in (~ignore, ignore):
            value = np.where(able & group, own, -1.0)
            last = g - 1 - value[:, ::-1].argmax(axis=1)
            new = ~hit[:, row] & (value[np.arange(t), last] >= 0)
            hit[new, row], ignored[new, row], taken[new, last[new]] = True, ignore[last[new]], True
    return hit, ignored


def _accumulate(kept: Sequence[_Matched], area: int, limit: int) -> tuple[Array, Array] | None:
    """Precision (T, R) and recall (T,) of a class over all videos; None where no annotated track counts."""
    objects = sum(int(m.objects[area]) for m in kept)
    if objects == 0:
        return None
    scores = np.concatenate([m.scores[:limit] for m in kept])
    order = np.argsort(-scores, kind="stable")
    hit = np.concatenate([m.hit[area, :, :limit] for m in kept], axis=1)[:, order]
    counts = ~np.concatenate([m.ignored[area, :, :limit] for m in kept], axis=1)[:, order]
    right = np.cumsum(hit & counts, axis=1, dtype=np.float64)  # (T, D)
    false = np.cumsum(~hit & counts, axis=1, dtype=np.float64)
    precision = np.zeros((len(THRESHOLDS), len(RECALLS)))
    if not len(scores):
        return precision, np.zeros(len(THRESHOLDS))
    share = right / (false + right + np.spacing(1))
    share = np.maximum.accumulate(share[:, ::-1], axis=1)[:, ::-1]
    for row, (r, p) in enumerate(zip(right / objects, share, strict=True)):
        at = np.searchsorted(r, RECALLS, side="left")
        reached = at < len(p)
        precision[row, reached] = p[at[reached]]
    return precision, right[:, -1] / objects
