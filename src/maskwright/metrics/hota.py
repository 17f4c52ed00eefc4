"""HOTA, CLEAR and identity measures of tracks by the IoU of masks, as TrackEval defines them.

HOTA: Luiten et al. 2021, "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking". IDF1: Ristani et al. 2016.
MOTA: Bernardin, Stiefelhagen 2008. All need one decision for every object, so that detections count from a score on.

Letters: G annotated tracks of a video, D tracks of the result, n and m objects of a frame, T thresholds (19: 0.05 to
0.95).
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from maskwright.metrics.disjoint import half_inside
from maskwright.metrics.metric import GroundTruth, PageSection, mean, measured, shown, table_lines
from maskwright.metrics.videos import TrackedObjects, VideoMetric, ious, true_tracks
from maskwright.ops.masks import intersections
from maskwright.report import charts
from maskwright.report.charts import Series
from maskwright.report.page import Column
from maskwright.types import BoolArray, Classes, Instances, IntArray
from maskwright.wording import counted

Array = NDArray[np.float64]

THRESHOLDS = np.arange(0.05, 0.99, 0.05)
MATCH = 0.5
"""IoU of a match for IDF1, MOTA, and for detections that may lie in a crowd region."""

EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class _Frame:
    """One frame: positions of the tracks, labels, the overlap of those that meet, and what lies in crowd regions."""

    true: IntArray  # (n,) positions among the video's annotated tracks
    true_labels: IntArray
    found: IntArray  # (m,)
    found_labels: IntArray
    pairs: IntArray  # (P, 2) rows of `true` and `found`
    iou: Array  # (P,)
    in_crowd: BoolArray  # (m,) of its class
    in_any_crowd: BoolArray  # (m,)

    def of(self, label: int | None) -> "tuple[IntArray, IntArray, Array]":
        """Tracks (n,) and (m,) and their IoU (n, m), of one class or of all; detections in crowds are left out."""
        overlap = np.zeros((len(self.true), len(self.found)))
        overlap[self.pairs[:, 0], self.pairs[:, 1]] = self.iou
        rows = np.flatnonzero(self.true_labels == label) if label is not None else np.arange(len(self.true))
        columns = np.flatnonzero(self.found_labels == label) if label is not None else np.arange(len(self.found))
        overlap = overlap[np.ix_(rows, columns)]
        crowd = (self.in_any_crowd if label is None else self.in_crowd)[columns]
        if crowd.any():
            matched = _assigned(np.where(overlap >= MATCH - EPSILON, overlap, 0.0))[1]
            crowd[matched] = False
        return self.true[rows], self.found[columns[~crowd]], overlap[:, ~crowd]


@dataclass(frozen=True)
class HotaScores:
    """The numbers of one class, or of all. objects, found: instances in all frames.

    hota, deta, assa, loca: means over the thresholds; *_at: each. mota, idf1, idp, idr: at an IoU of 0.5; switches: how
    often an object goes on with another track. -1 without annotations and detections.
    """

    name: str
    objects: int
    found: int
    hota: float
    deta: float
    assa: float
    loca: float
    idf1: float
    idp: float
    idr: float
    mota: float
    switches: int
    hota_at: tuple[float, ...] = ()
    deta_at: tuple[float, ...] = ()
    assa_at: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class HotaResult:
    """overall: with the class ignored. per_class: a match needs equal classes."""

    score_threshold: float
    overall: HotaScores
    per_class: tuple[HotaScores, ...]
    videos: int
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Mean HOTA of the classes that are annotated or found."""
        return mean([s.hota for s in self.per_class])

    def values(self) -> dict[str, float]:
        """The numbers with the class ignored, as `hota/HOTA` ..., and `hota/HOTA_by_class`."""
        s = self.overall
        rows = {"HOTA": s.hota, "DetA": s.deta, "AssA": s.assa, "LocA": s.loca, "IDF1": s.idf1, "IDP": s.idp}
        rows |= {"IDR": s.idr, "MOTA": s.mota, "HOTA_by_class": self.mean}
        return {f"hota/{name}": value for name, value in rows.items()}

    def table(self) -> str:
        """A line with the class ignored, then one for each class where there are several."""
        several = len(self.per_class) > 1
        rates = ("HOTA", "DetA", "AssA", "LocA", "IDF1", "IDP", "IDR")
        rows = [
            (s.name, s.objects, s.found, *(shown(getattr(s, name.lower())) for name in rates),
             f"{s.mota:.3f}" if s.objects else "-", s.switches)
            for s in (self.overall, *self.per_class)
        ]  # fmt: skip
        header = ("class", "objects", "  found", *(f"{name:>5}" for name in rates), "  MOTA", "switches")
        lines = [
            f"hota: tracks by the IoU of masks, score {self.score_threshold:.2f} and more, "
            f"{counted(self.videos, 'video')}",
            *table_lines(header, rows)[: None if several else 2],
        ]
        if several:
            lines.append(f" mean HOTA of the classes: {shown(self.mean)}")
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, under `hota`."""
        return {"hota": {**asdict(self.overall), "score_threshold": self.score_threshold, "by_class": self.mean,
                         "videos": self.videos, "per_class": [asdict(s) for s in self.per_class]}}  # fmt: skip

    def section(self) -> PageSection:
        """HOTA over the thresholds."""
        s, at = self.overall, THRESHOLDS.tolist()
        names = (("HOTA", s.hota_at), ("DetA", s.deta_at), ("AssA", s.assa_at))
        series = [Series(name, list(zip(at, values, strict=True))) for name, values in names if values]
        title = f"HOTA at score {self.score_threshold:.2f} and more"
        chart = charts.line_chart(title, series, x_label="IoU threshold", y_label="", y_range=(0, 1))
        tiles = [("HOTA", shown(s.hota, "–")), ("IDF1", shown(s.idf1, "–"))]
        column = Column("HOTA", "tracks of this class", share=True)
        return PageSection(tiles, [chart], [(column, [measured(row.hota) for row in self.per_class])])


class HotaMetric(VideoMetric):
    """Collects the frames of videos and measures their tracks.

    metric = HotaMetric(classes, score=0.5)
    metric.update(found, GroundTruth(dataset, 0))      # once for each frame, in order, also where nothing was found
    print(metric.result().table())

    A detection that is not matched at an IoU of 0.5, and of which at least half lies in a crowd region, does not count.
    """

    def __init__(self, classes: Classes, score: float = 0.0) -> None:
        super().__init__(classes)
        self.score = score
        self._counts = [_Counts() for _ in range(len(classes) + 1)]  # of each class; last: the class ignored
        self._videos = 0

    def begin(self) -> None:
        self._frames: list[_Frame] = []
        self._true: dict[int, int] = {}
        self._found: dict[int, int] = {}
        self._videos += 1

    def add(self, tracked: TrackedObjects, found: Instances, truth: GroundTruth) -> None:
        """Keep the overlaps of a frame."""
        objects, crowd = true_tracks(truth), truth.crowd
        rows = np.flatnonzero(found.scores >= self.score)
        masks, labels = tracked.masks[rows], tracked.labels[rows]
        overlap = ious(objects.masks, masks)
        pairs = np.argwhere(overlap > 0)
        regions = crowd.crops if len(crowd) else None
        inside, of_class = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
        if regions is not None:
            for i in np.flatnonzero(intersections(masks, regions).any(axis=1)).tolist():
                inside[i] = half_inside(masks[i], regions)
                of_class[i] = half_inside(masks[i], regions[crowd.labels == labels[i]])
        self._frames.append(
            _Frame(
                true=_positions(self._true, objects.ids),
                true_labels=objects.labels,
                found=_positions(self._found, tracked.ids[rows]),
                found_labels=labels,
                pairs=pairs,
                iou=overlap[pairs[:, 0], pairs[:, 1]],
                in_crowd=of_class,
                in_any_crowd=inside,
            )
        )

    def end(self) -> None:
        """Measure the video; only counts are kept."""
        for label, counts in zip([*range(len(self.classes)), None], self._counts, strict=True):
            frames = [frame.of(label) for frame in self._frames]
            shape = len(self._true), len(self._found)
            counts.objects += sum(len(true) for true, _, _ in frames)
            counts.found += sum(len(found) for _, found, _ in frames)
            counts.add_hota(frames, shape)
            counts.add_identity(frames, shape)
            counts.add_clear(frames, shape[0])

    def result(self) -> HotaResult:
        """Measure the videos given so far; the last one counts as whole."""
        self.close()
        *classes, every = self._counts
        per_class = tuple(c.scores(name) for name, c in zip(self.classes, classes, strict=True))
        return HotaResult(self.score, every.scores("all"), per_class, self._videos)


_Frames = Sequence[tuple[IntArray, IntArray, Array]]


class _Counts:
    """The summed counts of all videos for one class."""

    def __init__(self) -> None:
        self.objects = self.found = 0
        self.right, self.associated, self.located = np.zeros((3, len(THRESHOLDS)))  # TP, their summed AssA and IoU
        self.identity = 0  # IDTP
        self.clear = self.switches = 0  # TP and identity switches of MOTA

    def add_hota(self, frames: _Frames, shape: tuple[int, int]) -> None:
        """Detections are assigned so that pairs of tracks that overlap much over the whole video are preferred."""
        together, true_count, found_count = np.zeros(shape), np.zeros(shape[0]), np.zeros(shape[1])
        for true, found, overlap in frames:
            total = overlap.sum(0)[None] + overlap.sum(1)[:, None] - overlap
            together[np.ix_(true, found)] += np.where(total > EPSILON, overlap / np.maximum(total, EPSILON), 0.0)
            true_count[true] += 1
            found_count[found] += 1
        either = true_count[:, None] + found_count[None]
        alike = together / np.maximum(either - together, EPSILON)
        matches = np.zeros((len(THRESHOLDS), *shape))
        for true, found, overlap in frames:
            rows, columns = linear_sum_assignment(alike[np.ix_(true, found)] * overlap, maximize=True)
            own = overlap[rows, columns]
            for k, threshold in enumerate(THRESHOLDS):
                hit = own >= threshold - EPSILON
                self.right[k] += hit.sum()
                self.located[k] += own[hit].sum()
                matches[k, true[rows[hit]], found[columns[hit]]] += 1
        self.associated += (matches * matches / np.maximum(1, either - matches)).sum(axis=(1, 2))

    def add_identity(self, frames: _Frames, shape: tuple[int, int]) -> None:
        """Each annotated track is given one track of the result, so that most detections agree."""
        agree = np.zeros(shape)
        for true, found, overlap in frames:
            rows, columns = np.nonzero(overlap >= MATCH)
            agree[true[rows], found[columns]] += 1
        self.identity += int(agree[linear_sum_assignment(agree, maximize=True)].sum())

    def add_clear(self, frames: _Frames, count: int) -> None:
        """An object keeps the track of the frame before while their masks match. count: annotated tracks."""
        last, before = np.full((2, count), -1)  # the track of each object: its latest, of the frame before
        for true, found, overlap in frames:
            score = 1000.0 * (before[true][:, None] == found[None]) + overlap
            rows, columns = _assigned(np.where(overlap < MATCH - EPSILON, 0.0, score))
            true, found = true[rows], found[columns]
            self.clear += len(true)
            self.switches += int(((last[true] >= 0) & (last[true] != found)).sum())
            last[true] = found
            before[:] = -1
            before[true] = found

    def scores(self, name: str) -> HotaScores:
        """The numbers computed from the counts."""
        if not self.objects + self.found:
            return HotaScores(name, 0, 0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 0)
        detected = self.right / np.maximum(1, self.objects + self.found - self.right)
        associated = self.associated / np.maximum(1, self.right)
        located = np.maximum(1e-10, self.located) / np.maximum(1e-10, self.right)  # 1 without matches, as in TrackEval
        hota = np.sqrt(detected * associated)
        false = self.found - self.clear
        return HotaScores(
            name=name,
            objects=self.objects,
            found=self.found,
            hota=float(hota.mean()),
            deta=float(detected.mean()),
            assa=float(associated.mean()),
            loca=float(located.mean()),
            idf1=2 * self.identity / (self.objects + self.found),
            idp=self.identity / max(1, self.found),
            idr=self.identity / max(1, self.objects),
            mota=(self.clear - false - self.switches) / max(1, self.objects),
            switches=self.switches,
            hota_at=tuple(hota.tolist()),
            deta_at=tuple(detected.tolist()),
            assa_at=tuple(associated.tolist()),
        )


def _positions(known: dict[int, int], ids: Iterable[int]) -> IntArray:
    """The positions of ids among the known ones, in the order in which they came."""
    return np.array([known.setdefault(int(i), len(known)) for i in ids], np.int64)


def _assigned(score: Array) -> tuple[IntArray, IntArray]:
    """Rows and columns of the assignment with the largest sum, without pairs of score 0."""
    rows, columns = linear_sum_assignment(score, maximize=True)
    hit = score[rows, columns] > EPSILON
    return rows[hit], columns[hit]
