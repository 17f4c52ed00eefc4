"""Average precision of disjoint masks as microscopy publishes it: AP = TP / (TP + FP + FN) at fixed IoU thresholds.

Letters: T IoU thresholds, N annotated objects, M detections, P matches, Q classes.

Sources: the Data Science Bowl 2018 (Caicedo et al., Nature Methods 2019; its score is the mean over the thresholds 0.5,
0.55 ... 0.95 and over the images), StarDist (Schmidt et al., MICCAI 2018; counts summed over all images first) and
Cellpose (Stringer et al., Nature Methods 2021; mean over the images). Both means are given here.

Every pixel belongs to one object at most, as the Data Science Bowl requires. Detections take pixels in order of their
scores, and one that keeps less than `keep` of its pixels is dropped as a duplicate. Annotations take pixels smallest
first. With disjoint masks and IoU of 0.5 and more an object has one match at most (or two, each exactly half of it, of
which one counts), so that no assignment has to be optimised; the tests compare with an optimal one.

A match counts if its IoU reaches the threshold (as in StarDist; the Data Science Bowl says "greater", which differs
only where an IoU equals the threshold). Deliberate choices where the sources have none: an image without annotations
and detections counts as 1 in the mean over images (StarDist 0, Cellpose undefined); a detection without a match of
which at least half lies in a crowd region is not counted.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ConfigError, DataError
from maskwright.metrics.disjoint import Pairs, disjoint, half_inside
from maskwright.metrics.metric import GroundTruth, MetricOptions, PageSection, check_classes, shown, table_lines
from maskwright.report import charts
from maskwright.report.charts import Series
from maskwright.types import BoolArray, Classes, FloatArray, Instances, IntArray, Masks, Size
from maskwright.wording import counted

Array = NDArray[np.float64]
Counts = tuple[Array, Array, Array, Array]

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Those of the Data Science Bowl 2018."""

SHOWN = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)
"""The thresholds of the printed table, where they were measured."""

KEEP = 0.5
"""The share of its pixels that a detection must keep beside those of higher scores; else it is a duplicate."""


@dataclass(frozen=True)
class NucleiRow:
    """The numbers at one IoU threshold.

    ap: of the counts summed over the images. ap_by_image: mean of each image's own. matched_iou: mean IoU of the
    matches. panoptic_quality: summed IoU / (TP + FP / 2 + FN / 2). All are -1 where there is nothing to measure.
    """

    iou: float
    tp: int
    fp: int
    fn: int
    ap: float
    ap_by_image: float
    precision: float
    recall: float
    f1: float
    matched_iou: float
    panoptic_quality: float


@dataclass(frozen=True)
class NucleiScores:
    """One class, or all of them with the class ignored. mean: of ap_by_image over the thresholds (Data Science Bowl).

    objects: annotated. found: detections at or above the score threshold, those in crowd regions included.
    """

    name: str
    objects: int
    found: int
    mean: float
    mean_summed: float
    rows: tuple[NucleiRow, ...]

    def at(self, iou: float) -> NucleiRow:
        """The numbers at an IoU threshold. Raises ConfigError for one that was not measured."""
        for row in self.rows:
            if abs(row.iou - iou) < 1e-9:
                return row
        raise ConfigError(f"IoU {iou:g} was not measured; there are {', '.join(f'{r.iou:g}' for r in self.rows)}.")


@dataclass(frozen=True)
class NucleiImage:
    """One image, the class ignored. tp, fp, fn: at the first threshold. ap: there; mean: over all thresholds."""

    name: str
    tp: int
    fp: int
    fn: int
    ap: float
    mean: float


@dataclass(frozen=True, eq=False)
class NucleiResult:
    """The numbers at one score threshold. overall: with the class ignored. per_class: a match needs equal classes.

    dropped: duplicates of better detections, at or above the score threshold. best: the same at the
    score threshold that suits the images best, where that was asked for.
    """

    score_threshold: float
    overall: NucleiScores
    per_class: tuple[NucleiScores, ...]
    per_image: tuple[NucleiImage, ...]
    dropped: int
    notes: tuple[str, ...]
    best: "NucleiResult | None" = None

    def values(self) -> dict[str, float]:
        """Means over the images: `nuclei/AP50`, `nuclei/AP75` ... and over the IoU thresholds as well, `nuclei/AP`."""
        rows = {f"nuclei/AP{round(100 * row.iou)}": row.ap_by_image for row in self.overall.rows}
        return {"nuclei/AP": self.overall.mean, **rows}

    def section(self) -> PageSection:
        """AP over the IoU thresholds."""
        rows = self.overall.rows
        series = [
            Series("mean over images", [(row.iou, row.ap_by_image) for row in rows if row.ap_by_image >= 0]),
            Series("summed over images", [(row.iou, row.ap) for row in rows if row.ap >= 0]),
        ]
        title = f"TP / (TP + FP + FN) at score {self.score_threshold:.2f} and more"
        chart = charts.line_chart(title, series, x_label="IoU threshold", y_label="AP", y_range=(0, 1))
        tiles = [(f"TP/(TP+FP+FN) at IoU {r.iou:g}", shown(r.ap_by_image, "–")) for r in rows if r.iou in (0.5, 0.75)]
        return PageSection(tiles, [chart])

    def table(self) -> str:
        """The numbers as plain text: one line per threshold, then one per class where there are several."""
        if self.best is not None:
            own = replace(self, best=None).table()
            return f"{own}\n\nAt the score threshold that suits these images best:\n{self.best.table()}"
        every = self.overall
        lines = [
            f"nuclei: AP = TP / (TP + FP + FN) at score {self.score_threshold:.2f} and more, "
            f"{counted(len(self.per_image), 'image')}, {counted(every.objects, 'object')}, {every.found} found",
            "   IoU  by image  summed      TP      FP      FN  precision  recall     F1  mean IoU     PQ",
        ]
        few = len(every.rows) <= len(SHOWN)
        lines += [
            f"  {r.iou:4.2f}  {shown(r.ap_by_image):>10}  {shown(r.ap):>6}  {r.tp:6d}  {r.fp:6d}  {r.fn:6d}"
            f"  {shown(r.precision):>9}  {shown(r.recall):>6}  {shown(r.f1):>5}  {shown(r.matched_iou):>8}"
            f"  {shown(r.panoptic_quality):>5}"
            for r in every.rows
            if few or r.iou in SHOWN
        ]
        first, last = every.rows[0].iou, every.rows[-1].iou
        lines.append(f"  mean  {shown(every.mean):>10}  {shown(every.mean_summed):>6}   IoU {first:g} to {last:g}")
        if len(self.per_class) > 1:
            lines += ["", *self._class_lines()]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def _class_lines(self) -> list[str]:
        levels = [r.iou for r in self.overall.rows if r.iou in (0.5, 0.75, 0.9)]
        return table_lines(
            ("class", "objects", "  found", " mean", *(f"AP@{iou:<4g}" for iou in levels)),
            [
                (s.name, s.objects, s.found, shown(s.mean), *(shown(s.at(iou).ap_by_image) for iou in levels))
                for s in self.per_class
            ],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, under `nuclei` and, where it was asked for, `nuclei_best`."""
        best = {} if self.best is None else {"nuclei_best": self.best.to_dict()["nuclei"]}
        own = asdict(self)
        del own["best"]
        return {"nuclei": own, **best}


@dataclass(frozen=True, slots=True)
class _Image:
    """What is kept of an image: no pixels. truth (N,), found (M,): labels of annotations and detections, best first.

    in_crowd: (M,) at least half in crowd regions of its class; in_any_crowd: of any class. duplicates: scores of the
    dropped detections. pairs: matches with the class ignored; agree: matches of equal class.
    """

    name: str
    truth: IntArray
    found: IntArray
    scores: FloatArray
    in_crowd: BoolArray
    in_any_crowd: BoolArray
    duplicates: FloatArray
    pairs: Pairs
    agree: Pairs


class NucleiMetric:
    """Collects images and measures them; the score threshold can be chosen afterwards.

    metric = NucleiMetric(classes)
    metric.add(found, objects)               # once for each image, also where nothing was found
    print(metric.result(0.5).table())

    thresholds: IoU, increasing, in [0.5, 1]. keep: see `KEEP`, in [0, 1].
    """

    def __init__(
        self,
        classes: Classes,
        options: MetricOptions | None = None,
        *,
        thresholds: Sequence[float] = THRESHOLDS,
        keep: float = KEEP,
    ) -> None:
        self.classes, self.options = classes, options or MetricOptions()
        self.thresholds = np.array(sorted(float(t) for t in thresholds))
        if not len(self.thresholds) or self.thresholds[0] < 0.5 or self.thresholds[-1] > 1:
            raise ConfigError(
                f"NucleiMetric: IoU thresholds lie in [0.5, 1], where an object has one match at most; got "
                f"{list(thresholds)}."
            )
        if not 0 <= keep <= 1:
            raise ConfigError(f"NucleiMetric: keep is a share of 0 to 1, got {keep}.")
        self.keep = keep
        self._images: list[_Image] = []
        self._hidden, self._sharing = 0, 0

    def update(self, found: Instances, truth: GroundTruth) -> None:
        """Add an image; see `add`."""
        self.add(found, truth.objects, truth.crowd, name=truth.record.file_name)

    def add(self, found: Instances, truth: Instances, crowd: Instances | None = None, *, name: str = "") -> None:
        """Add an image. found: with all its scores. crowd: regions that are neither object nor background.

        Raises DataError where masks are missing or sizes or classes differ.
        """
        name = name or f"image {len(self._images) + 1}"
        crowd = truth[:0] if crowd is None else crowd
        masks = self._masks(truth, "annotation", name, truth.size)
        shares = disjoint(self._masks(found, "result", name, truth.size), found.scores, masks, self.keep)
        regions = self._masks(crowd, "crowd", name, truth.size)
        labels, visible = found.labels[shares.rows], shares.truth_areas > 0
        of_class = [np.flatnonzero(crowd.labels == k) for k in labels]
        self._hidden += int((~visible).sum())
        self._sharing += int((visible & (shares.truth_areas < masks.areas())).sum())
        self._images.append(
            _Image(
                name=name,
                truth=truth.labels[visible],
                found=labels,
                scores=found.scores[shares.rows],
                duplicates=np.delete(found.scores, shares.rows),
                in_crowd=np.array([half_inside(shares.own[i], regions[k]) for i, k in enumerate(of_class)], np.bool_),
                in_any_crowd=np.array([half_inside(own, regions) for own in shares.own], np.bool_),
                pairs=shares.pairs(),
                agree=shares.pairs(truth.labels, labels),
            )
        )

    def _masks(self, instances: Instances, what: str, name: str, size: Size) -> Masks:
        check_classes(self, f"the {what} of {name}", instances.classes, self.classes)
        if instances.size != size:
            raise DataError(
                f"NucleiMetric: the {what} of {name} is of an image {instances.size} (H, W), expected {size}."
            )
        if instances.crops is None:
            if len(instances):
                raise DataError(f"NucleiMetric: the {what} of {name} has only boxes, and this metric needs masks.")
            return Masks.empty(size)
        return instances.crops

    # ---- the numbers --------------------------------------------------------------------------------------------

    def result(self, score_threshold: float | None = None) -> NucleiResult:
        """Measure all images given so far with the detections of score `score_threshold` and more.

        None takes the score of the options, and adds the best one where they ask for it.
        """
        if score_threshold is None:
            lowest = self.options.lowest
            steps = [lowest, *(k / 100 for k in range(100) if k / 100 > lowest)]
            best = self.result(self.best_threshold(steps)) if self.options.best_threshold else None
            return replace(self.result(self.options.score), best=best)
        score_threshold = float(score_threshold)  # a NumPy number would turn the float32 scores into float64
        overall, tables = self._scores("all", None, score_threshold)
        per_class = tuple(self._scores(n, k, score_threshold)[0] for k, n in enumerate(self.classes.names))
        if len(self.classes) == 1:
            per_class = (replace(overall, name=self.classes.names[0]),)
        rows = []
        for image, (tp, fp, fn, _) in zip(self._images, tables, strict=True):
            ap = _ap(tp, fp, fn)
            rows.append(NucleiImage(image.name, int(tp[0]), int(fp[0]), int(fn[0]), float(ap[0]), float(ap.mean())))
        dropped = sum(int((p.duplicates >= score_threshold).sum()) for p in self._images)
        return NucleiResult(score_threshold, overall, per_class, tuple(rows), dropped, self._notes(dropped))

    def best_threshold(self, candidates: Sequence[float] | None = None) -> float:
        """The score threshold with the highest mean over images and IoU thresholds, the class ignored.

        candidates: 0, 0.01 ... 0.99 if not given. Of equal means the highest threshold. As it is chosen on these
        images, publish numbers at it only for others.
        """
        scores = np.arange(100) / 100 if candidates is None else np.array(sorted(candidates), np.float64)
        means = [
            float(np.mean([_ap(*self._counts(p, None, s)[:3]) for p in self._images])) if self._images else 0.0
            for s in scores.tolist()
        ]
        return float(scores[len(means) - 1 - int(np.argmax(np.round(means[::-1], 12)))])

    def _scores(self, name: str, label: int | None, score: float) -> tuple[NucleiScores, list[Counts]]:
        """The numbers of one class (None: the class ignored), and each image's counts."""
        tables = [self._counts(p, label, score) for p in self._images]
        total = np.array(tables, np.float64).reshape(-1, 4, len(self.thresholds))  # (images, 4, T)
        tp, fp, fn, iou = total.sum(axis=0)
        known = total if label is None else total[total[:, :3, 0].sum(axis=1) > 0]
        each = _ap(known[:, 0], known[:, 1], known[:, 2])  # (images, T)
        by_image = each.mean(axis=0) if len(each) else np.full(len(self.thresholds), -1.0)
        rows = tuple(
            _row(float(t), int(tp[i]), int(fp[i]), int(fn[i]), float(iou[i]), float(by_image[i]))
            for i, t in enumerate(self.thresholds)
        )
        objects = sum(int(_of(p.truth, label).sum()) for p in self._images)
        found = sum(int((_of(p.found, label) & (p.scores >= score)).sum()) for p in self._images)
        summed = float(np.mean([r.ap for r in rows]))
        return NucleiScores(name, objects, found, float(by_image.mean()), summed, rows), tables

    def _counts(self, image: _Image, label: int | None, score: float) -> Counts:
        """TP, FP, FN and the summed IoU of the matches, (T,) each."""
        alive = _of(image.found, label) & (image.scores >= score)
        objects = int(_of(image.truth, label).sum())
        pairs, free = (image.pairs, image.in_any_crowd) if label is None else (image.agree, image.in_crowd)
        valid = alive[pairs.found]
        hits = pairs.iou[valid, None] >= self.thresholds  # (P, T)
        tp = hits.sum(axis=0)
        false = (alive & ~free).sum() - hits[~free[pairs.found[valid]]].sum(axis=0)
        return tp, false, objects - tp, (hits * pairs.iou[valid, None]).sum(axis=0)

    def _notes(self, dropped: int) -> tuple[str, ...]:
        notes = []
        if dropped:
            what = f"beside better ones less than {self.keep:.0%} of the pixels are left"
            notes.append(f"{counted(dropped, 'detection')} left out as duplicates: {what}.")
        if self._hidden:
            notes.append(f"{counted(self._hidden, 'annotated object')} without a pixel of their own left out.")
        if self._sharing:
            notes.append(
                f"{counted(self._sharing, 'annotated object')} over others: the shared pixels went to the smaller."
            )
        return tuple(notes)


def _of(labels: IntArray, label: int | None) -> BoolArray:
    """Which labels are `label`; all of them for None."""
    return np.ones(len(labels), np.bool_) if label is None else labels == label


def _ap(tp: Array, fp: Array, fn: Array) -> Array:
    """TP / (TP + FP + FN), 1 without annotations and detections."""
    total = np.asarray(tp + fp + fn, np.float64)
    return np.where(total > 0, tp / np.maximum(total, 1), 1.0)


def _row(threshold: float, tp: int, fp: int, fn: int, iou: float, by_image: float) -> NucleiRow:
    """The numbers of summed counts; 0 without matches, -1 without annotations and detections."""
    if tp + fp + fn == 0:
        return NucleiRow(threshold, 0, 0, 0, -1.0, by_image, -1.0, -1.0, -1.0, -1.0, -1.0)
    return NucleiRow(
        iou=threshold,
        tp=tp,
        fp=fp,
        fn=fn,
        ap=tp / (tp + fp + fn),
        ap_by_image=by_image,
        precision=tp / max(tp + fp, 1),
        recall=tp / max(tp + fn, 1),
        f1=tp / (tp + (fp + fn) / 2),
        matched_iou=iou / max(tp, 1),
        panoptic_quality=iou / (tp + (fp + fn) / 2),
    )
