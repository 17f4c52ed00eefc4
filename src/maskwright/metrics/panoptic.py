"""Panoptic quality: how well all segments of an image are found, things and stuff.

Letters: S annotated segments, F found ones, Q classes, things first. -1 stands where there is nothing to measure.

Source: Kirillov et al., Panoptic Segmentation, CVPR 2019, with COCO's rules for void and crowd regions
(github.com/cocodataset/panopticapi). A found segment matches an annotated one of its class where their IoU is above
0.5; there is one such at most, as segments do not overlap. Pixels that are void in the annotation do not count in the
union. A crowd region matches nothing and is not missed. A segment without a match of which more than half lies in void
and in a crowd region of its class is no false positive; of several crowd regions of a class in one image the last in
the file counts, as in COCO's program.
PQ = sum of IoU / (TP + FP / 2 + FN / 2) = SQ x RQ: the mean IoU of the matches, and their F1. The numbers of several
classes are means over those that are annotated or found.
"""

from dataclasses import replace

import numpy as np

from maskwright.data.dataset import Dataset
from maskwright.errors import DataError
from maskwright.metrics.maps import absent_stuff, panoptic_classes, semantic_of
from maskwright.metrics.metric import GroundTruth, MetricOptions
from maskwright.metrics.panoptic_result import PanopticResult, PanopticScore
from maskwright.results.prediction import Prediction
from maskwright.types import THINGS, Classes, DoubleArray, Instances, IntArray, Panoptic, ranked
from maskwright.wording import counted

MATCHED = 0.5
"""A match needs an IoU above it; the share of void and crowd above which a segment does not count."""


class PanopticMetric:
    """Collects segments image by image and measures them against a data set with panoptic maps.

    metric = PanopticMetric(dataset, MetricOptions(score=0.5))
    metric.update(found, GroundTruth(dataset, 0))
    print(metric.result().table())
    """

    def __init__(self, dataset: Dataset, options: MetricOptions | None = None) -> None:
        """Raises DataError where the data set has no panoptic maps."""
        if dataset.panoptic_maps is None:
            raise DataError(
                f"{dataset.source}: there are no panoptic maps, and the panoptic metric measures them. COCO's panoptic "
                "files are read as the format 'coco_panoptic'.",
                options=("data_format",),
            )
        self.dataset, self.score = dataset, (options or MetricOptions()).score
        self.classes, self.things = panoptic_classes(dataset)
        count = len(self.classes)
        self._counts = np.zeros((count, 3), np.int64)  # TP, FP, FN
        self._iou: DoubleArray = np.zeros(count)
        self._known: Classes | None = None
        self._bare: list[str] = []

    def update(self, found: Instances, truth: GroundTruth) -> None:
        """Add an image: instances and the semantic map are merged, as `Prediction.panoptic` does.

        Raises DataError for a result without masks or semantic map.
        """
        names = self.dataset.semantic_classes or Classes([THINGS])
        semantic = semantic_of(found, names, truth.record.file_name)
        assert isinstance(found, Prediction)
        self._known = found.semantic_classes
        merged = replace(found, semantic=semantic, semantic_classes=names)
        self.update_map(merged.panoptic(score=self.score), truth)

    def update_map(self, found: Panoptic, truth: GroundTruth) -> None:
        """Add the segments of an image. Raises DataError for a map of another size."""
        wanted = truth.panoptic
        if wanted is None:
            self._bare.append(truth.record.file_name)
            return
        if found.size != wanted.size:
            name = truth.record.file_name
            raise DataError(f"The panoptic map found for {name} is {found.size} (H, W), the image is {wanted.size}.")
        counts, iou = _compared(self._labelled(wanted), wanted, self._labelled(found), found, len(self.classes))
        self._counts += counts
        self._iou += iou

    def _labelled(self, one: Panoptic) -> dict[int, int]:
        """The label of each segment among the classes of the data set, -1 of one that it does not have."""
        own = one.classes.match(self.classes)
        return {s.id: int(own[s.label]) for s in one.segments}

    def result(self) -> PanopticResult:
        """PQ, SQ and RQ of all classes, things and stuff."""
        rows = zip(self.classes, self.things, self._counts.tolist(), self._iou.tolist(), strict=True)
        scores = tuple(PanopticScore(name, thing, tp, fp, fn, iou) for name, thing, (tp, fp, fn), iou in rows)
        notes = absent_stuff(self._known, self.dataset)
        if self._bare:
            names = ", ".join([*self._bare[:3], *(["..."] if len(self._bare) > 3 else [])])
            notes += (f"Not measured: {counted(len(self._bare), 'image')} without a panoptic map ({names}).",)
        return PanopticResult(scores, self.score, notes)


def _compared(
    true: dict[int, int], truth: Panoptic, own: dict[int, int], found: Panoptic, classes: int
) -> tuple[IntArray, DoubleArray]:
    """TP, FP, FN (Q, 3) and the summed IoU (Q,) of one image. true, own: labels of the segments by id."""
    true_ids, true_ranks, true_areas = ranked(truth.ids)
    own_ids, own_ranks, own_areas = ranked(found.ids)
    pairs = true_ranks.astype(np.int64) * len(own_ids) + own_ranks
    both = np.bincount(pairs.reshape(-1), minlength=len(true_ids) * len(own_ids)).reshape(len(true_ids), len(own_ids))
    void = both[true_ids == 0].sum(axis=0)  # (F,)
    crowds = {s.id for s in truth.segments if s.crowd}
    true_labels = np.array([true.get(i, -1) for i in true_ids.tolist()], np.int64)
    own_labels = np.array([own.get(i, -1) for i in own_ids.tolist()], np.int64)
    countable = np.array([i not in crowds for i in true_ids.tolist()], np.bool_) & (true_labels >= 0)

    union = true_areas[:, None] + own_areas - both - void
    alike = countable[:, None] & (true_labels[:, None] == own_labels)
    iou = np.where(alike, both / np.maximum(union, 1), 0.0)
    rows, columns = np.nonzero(iou > MATCHED)

    missed = countable.copy()
    missed[rows] = False
    spare = own_labels >= 0
    spare[columns] = False
    ignored = void.copy()
    last = {true[s.id]: s.id for s in truth.segments if s.crowd}
    for label, number in last.items():
        ignored[own_labels == label] += both[np.searchsorted(true_ids, number), own_labels == label]
    spare &= ~(ignored / np.maximum(own_areas, 1) > MATCHED)
    counts = [np.bincount(labels, minlength=classes) for labels in
              (true_labels[rows], own_labels[spare], true_labels[missed])]  # fmt: skip
    sums: DoubleArray = np.bincount(true_labels[rows], iou[rows, columns], minlength=classes).astype(np.float64)
    return np.stack(counts, axis=1), sums
