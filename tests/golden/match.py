"""Recorded detections or proposals and our own ones: who belongs to whom.

Two detections whose scores differ by less than what rounding moves may change places, and near a threshold or the
last kept rank one may be kept here and not there. Both depend on the processor. So rows are never compared by rank:
`match` pairs them by class, box and score, demands that no row is missing and none is extra, and checks the order
only between scores that differ by more than the tolerance.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class Rows:
    """N detections in order: (N, 4) boxes xyxy, (N,) labels and scores. None: nothing is known, nothing is compared."""

    boxes: NDArray[Any]
    labels: NDArray[Any] | None = None
    scores: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Cut:
    """Where rows were cut off: at these scores (a threshold, the score of the last kept rank).

    rows: how many may be missing, and as many extra. Each of them must lie within the tolerance of one of the scores.
    """

    scores: tuple[float, ...]
    rows: int = 1


@dataclass(frozen=True)
class Pairs:
    """`recorded[i]` and `own[i]` are the numbers of the rows that belong together, in the order of the recording."""

    recorded: NDArray[np.intp]
    own: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.recorded)


def match(recorded: Rows, own: Rows, *, box: float, score: float, cut: Cut | None = None) -> Pairs:
    """Pairs of the same class whose boxes differ by at most `box` px in each coordinate and whose scores by `score`.

    Fails where a row has no partner, unless it lies at the `cut`, and where the order differs between scores further
    apart than `score`.
    """
    pairs = _nearest(recorded, own, box, score)
    _assert_complete("recorded rows are missing", recorded, pairs.recorded, score, cut)
    _assert_complete("rows were not recorded", own, pairs.own, score, cut)
    _assert_order(recorded, own, pairs, score)
    return pairs


def _nearest(recorded: Rows, own: Rows, box: float, score: float) -> Pairs:
    """As many pairs as there can be, and among those the nearest ones; each row is used once."""
    distance = np.abs(recorded.boxes[:, None] - own.boxes[None]).max(axis=2, initial=0).astype(np.float64)
    possible = distance <= box
    distance /= max(box, 1e-12)
    if recorded.labels is not None and own.labels is not None:
        possible &= recorded.labels[:, None] == own.labels[None]
    if recorded.scores is not None and own.scores is not None:
        apart = np.abs(recorded.scores[:, None].astype(np.float64) - own.scores[None])
        possible &= apart <= score
        distance += apart / max(score, 1e-12)
    rows, columns = linear_sum_assignment(np.where(possible, distance, 4.0 * (min(possible.shape) + 1)))
    paired = possible[rows, columns]
    return Pairs(rows[paired], columns[paired])


def _assert_complete(what: str, rows: Rows, paired: NDArray[np.intp], score: float, cut: Cut | None) -> None:
    alone = np.setdiff1d(np.arange(len(rows)), paired)
    if cut is not None and rows.scores is not None and len(alone):
        near = np.abs(rows.scores[alone][:, None] - np.array(cut.scores)[None]).min(axis=1) <= score
        alone = np.setdiff1d(alone, alone[near][: cut.rows])
    assert not len(alone), f"{what}: {alone.tolist()}" + _described(rows, alone)


def _described(rows: Rows, which: NDArray[np.intp]) -> str:
    lines = []
    for i in which[:5].tolist():
        label = "" if rows.labels is None else f", class {rows.labels[i]}"
        score = "" if rows.scores is None else f", score {rows.scores[i]:.6f}"
        lines.append(f"\n  row {i}: box {np.round(rows.boxes[i], 3).tolist()}{label}{score}")
    return "".join(lines)


def _assert_order(recorded: Rows, own: Rows, pairs: Pairs, score: float) -> None:
    """The best come first in both, except among scores within the tolerance of each other."""
    assert own.scores is None or (np.diff(own.scores) <= 0).all(), "the scores do not fall"
    scores = recorded.scores[pairs.recorded] if recorded.scores is not None else None
    if scores is None and own.scores is not None:
        scores = own.scores[pairs.own]
    if scores is None or not len(pairs):
        return
    for order in (np.argsort(pairs.own), np.argsort(pairs.recorded)):
        climbs = scores[order] - np.minimum.accumulate(scores[order])
        worst = int(climbs.argmax())
        assert climbs[worst] <= score, f"the order differs by {climbs[worst]:.3g} in score at row {worst}"
