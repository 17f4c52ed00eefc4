"""Which instance of a frame is which object of the video: instances are linked to tracks by their overlap.

Each track is moved on by the displacement of its last frames; then tracks and instances are paired so that the sum of
their overlaps is largest (the assignment problem). First masks decide; boxes link what is left, such as thin objects
whose masks no longer overlap. A track that finds no instance is remembered for some frames. Where cells divide, two
smaller instances lie where one was: its track ends, and theirs have it as their parent.

Letters: N instances of a frame, T tracks.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from maskwright.ops import boxes as box_ops
from maskwright.ops import masks as mask_ops
from maskwright.predictor.track_options import LinkOptions
from maskwright.results.prediction import Prediction
from maskwright.types import BoolArray, DoubleArray, IntArray, Masks

SMOOTH = 0.5
"""Share of the newest displacement in a track's velocity."""

INSIDE, SMALLER = 0.3, 0.8
"""Of a daughter cell at least this share lies in the mother's mask, and it has at most this share of its area."""


@dataclass(eq=False)
class Track:
    """An object of the video: its box (4,) and mask where it was last seen, in frame `seen`, and its velocity (2,) in
    pixels per frame."""

    id: int
    box: DoubleArray
    seen: int
    velocity: DoubleArray
    votes: DoubleArray
    corner: IntArray = field(default_factory=lambda: np.zeros(2, np.int64))
    bitmap: BoolArray | None = None


class Linker:
    """Gives the instances of a video's frames, one frame after the other, the ids of their tracks, from 1 on.

    parents: of the last frame, by the id of a track that begins there the id of the one that divided into it.
    """

    def __init__(self, options: LinkOptions | None = None) -> None:
        self.options = options or LinkOptions()
        self.tracks: list[Track] = []
        self.frame = -1
        self.born = 0
        self.parents: dict[int, int] = {}

    @property
    def state(self) -> dict[str, Any]:
        """All that is known of the video so far as plain values, for JSON; `resume` takes it."""
        return {"frame": self.frame, "born": self.born, "tracks": [_plain(t) for t in self.tracks]}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where another linker of the same options was when its `state` was taken."""
        self.frame, self.born = int(state["frame"]), int(state["born"])
        self.tracks = [_of_plain(t) for t in state["tracks"]]

    def update(self, found: Prediction) -> Prediction:
        """The instances of the next frame with `track_ids`, and with their track's class where it is voted for."""
        self.frame += 1
        self.tracks = [t for t in self.tracks if self.frame - t.seen <= self.options.memory + 1]
        shifts = np.array([t.velocity * (self.frame - t.seen) for t in self.tracks]).reshape(-1, 2)
        owner = np.full(len(found), -1)
        overlap = self._box_overlap(found, shifts)
        if found.crops is not None:
            self._pair(self._mask_overlap(found, overlap, shifts), owner)
        self._pair(overlap, owner)
        mothers = self._divided(found, overlap, shifts, owner) if self.options.divisions else {}
        ids = {i: self.tracks[k].id for i, k in mothers.items()}
        tracks = [self._track(found, i, int(k)) for i, k in enumerate(owner)]
        self.parents = {tracks[i].id: parent for i, parent in ids.items()}
        self.tracks = [t for t in self.tracks if t.id not in ids.values()]
        labels = found.labels
        if self.options.vote:
            labels = np.array([t.votes.argmax() for t in tracks], np.int64)
        return replace(found, labels=labels, track_ids=np.array([t.id for t in tracks], np.int64))

    def _pair(self, overlap: DoubleArray, owner: IntArray) -> None:
        """Give the instances that have no track yet one, of those that have no instance. overlap (T, N)."""
        free = np.setdiff1d(np.arange(len(overlap)), owner)
        open_ = np.flatnonzero(owner < 0)
        rows, columns = linear_sum_assignment(overlap[np.ix_(free, open_)], maximize=True)
        for track, instance in zip(free[rows], open_[columns], strict=True):
            if overlap[track, instance] >= self.options.overlap:
                owner[instance] = track

    def _box_overlap(self, found: Prediction, shifts: DoubleArray) -> DoubleArray:
        """(T, N) IoU of the tracks' boxes, moved on, with those of the instances."""
        boxes = np.array([t.box for t in self.tracks], np.float32).reshape(-1, 4) + np.tile(shifts, 2)
        iou = box_ops.iou(torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(found.boxes))
        return iou.numpy().astype(np.float64)

    def _mask_overlap(self, found: Prediction, near: DoubleArray, shifts: DoubleArray) -> DoubleArray:
        """(T, N) IoU of the masks where boxes overlap, the tracks' moved on by whole pixels."""
        assert found.crops is not None
        out = np.zeros_like(near)
        whole = np.rint(shifts).astype(np.int64)[:, ::-1]  # y, x as corners
        for t, i in zip(*np.nonzero(near), strict=True):
            bitmap = self.tracks[t].bitmap
            if bitmap is not None:
                corner = self.tracks[t].corner + whole[t]
                out[t, i] = _mask_iou(corner, bitmap, found.crops.corners[i], found.crops.bitmaps[i])
        return out

    def _divided(self, found: Prediction, near: DoubleArray, shifts: DoubleArray, owner: IntArray) -> dict[int, int]:
        """The track in which each daughter instance was; daughters are taken from their owner.

        Daughters are instances without a track, or the one that has the mother's.
        """
        if found.crops is None:
            return {}
        areas = found.crops.areas()
        pairs: list[tuple[float, int, list[int]]] = []
        for k in np.flatnonzero((near > 0).sum(axis=1) > 1).tolist():
            track = self.tracks[k]
            if track.bitmap is None or track.seen != self.frame - 1:
                continue
            corner, size = track.corner + np.rint(shifts[k]).astype(np.int64)[::-1], int(track.bitmap.sum())
            inside = {}
            for i in np.flatnonzero((near[k] > 0) & ((owner < 0) | (owner == k)) & (areas <= SMALLER * size)):
                both = _shared(corner, track.bitmap, found.crops.corners[i], found.crops.bitmaps[i])
                inside[int(i)] = both / max(int(areas[i]), 1)
            daughters = sorted((i for i, share in inside.items() if share >= INSIDE), key=lambda i: -inside[i])[:2]
            if len(daughters) == 2:
                pairs.append((sum(inside[i] for i in daughters), k, daughters))
        mothers: dict[int, int] = {}
        for _, k, daughters in sorted(pairs, key=lambda pair: -pair[0]):
            if not mothers.keys() & set(daughters):
                owner[owner == k] = -1
                mothers.update((i, k) for i in daughters)
        return mothers

    def _track(self, found: Prediction, i: int, k: int) -> Track:
        """The track of instance i: number k, moved to where it is now, or for -1 a new one."""
        box = found.boxes[i].astype(np.float64)
        if k < 0:
            self.born += 1
            track = Track(self.born, box, self.frame, np.zeros(2), np.zeros(len(found.classes)))
            self.tracks.append(track)
        else:
            track = self.tracks[k]
            step = (box - track.box).reshape(2, 2).mean(axis=0) / (self.frame - track.seen)
            track.velocity = (1 - SMOOTH) * track.velocity + SMOOTH * step
        track.box, track.seen = box, self.frame
        if found.crops is not None:
            track.corner, track.bitmap = found.crops.corners[i], found.crops.bitmaps[i]
        track.votes[found.labels[i]] += found.scores[i]
        return track


def _mask_iou(corner: IntArray, bitmap: BoolArray, other: IntArray, bits: BoolArray) -> float:
    """IoU of two cropped masks, given the (top, left) of each."""
    both = _shared(corner, bitmap, other, bits)
    return both / max(int(bitmap.sum()) + int(bits.sum()) - both, 1) if both else 0.0


def _shared(corner: IntArray, bitmap: BoolArray, other: IntArray, bits: BoolArray) -> int:
    """Pixels that two cropped masks have in common, given the (top, left) of each."""
    top, left = np.maximum(corner, other)
    bottom, right = np.minimum(corner + bitmap.shape, other + bits.shape)
    if bottom <= top or right <= left:
        return 0
    a = bitmap[top - corner[0] : bottom - corner[0], left - corner[1] : right - corner[1]]
    b = bits[top - other[0] : bottom - other[0], left - other[1] : right - other[1]]
    return int((a & b).sum())


def _plain(track: Track) -> dict[str, Any]:
    """A track as plain values; the mask as runs in its own rectangle."""
    numbers = {name: getattr(track, name).tolist() for name in ("box", "velocity", "votes", "corner")}
    mask = None
    if track.bitmap is not None:
        mask = mask_ops.encode(Masks(track.bitmap.shape, np.zeros((1, 2), np.int64), (track.bitmap,)))[0]
    return {"id": track.id, "seen": track.seen, **numbers, "mask": mask}


def _of_plain(values: dict[str, Any]) -> Track:
    numbers = {name: np.array(values[name], np.float64) for name in ("box", "velocity", "votes")}
    corner, rle = np.array(values["corner"], np.int64), values["mask"]
    bitmap = None
    if rle is not None:
        size = (int(rle["size"][0]), int(rle["size"][1]))
        bitmap = mask_ops.decode([rle], size).dense()[0]
    return Track(id=int(values["id"]), seen=int(values["seen"]), corner=corner, bitmap=bitmap, **numbers)
