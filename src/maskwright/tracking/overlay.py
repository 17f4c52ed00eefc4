"""The overlay video of a run: frames with their instances, in colours that stay with the tracks, and their trails."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from maskwright import draw
from maskwright.media.video import VideoWriter, write_video
from maskwright.predictor.session import TrackedFrame
from maskwright.results.prediction import Prediction
from maskwright.types import ImageArray, Size

TRAIL = 30
"""Frames for which the way of an object stays visible."""

ENCODER = {"preset": "veryfast", "crf": "20", "bf": "0", "mbtree": "0"}
"""Without B-frames the pieces join without gaps in time. With x264's macroblock tree the bytes depend on the timing of
its threads, so that a resumed run would not always have the files of an uninterrupted one."""


class OverlayPieces:
    """Writes the overlay as pieces 000000.mp4, 000001.mp4, ... into a folder; `media.video.join_videos` joins them.

    Frames have the times of the source; those without come `1 / rate` seconds after the one before. All have the size
    of the first: another is fitted into it. pieces: how many there are. state: as of `state` of another that wrote
    these. colour: as of `draw.overlay`.
    """

    def __init__(
        self,
        folder: Path,
        rate: float,
        pieces: int = 0,
        state: dict[str, Any] | None = None,
        colour: draw.ColourBy | None = None,
    ) -> None:
        self.folder, self.rate, self.pieces, self.colour = folder, rate, pieces, colour
        state = state or {"size": None, "time": None, "count": 0, "trails": {}}
        self.size: Size | None = None if state["size"] is None else (state["size"][0], state["size"][1])
        self.time: float | None = state["time"]
        self.count: int = state["count"]
        self.trails: dict[int, list[list[float]]] = {int(k): v for k, v in state["trails"].items()}
        self._stack = ExitStack()
        self._writer: VideoWriter | None = None

    @property
    def state(self) -> dict[str, Any]:
        """What the next piece needs, as plain values."""
        return {"size": self.size, "time": self.time, "count": self.count, "trails": self.trails}

    def write(self, tracked: TrackedFrame) -> None:
        """Draw and append a frame."""
        image = self._fitted(self._drawn(tracked.frame.image, tracked.found))
        if self._writer is None:
            place = self.folder / f"{self.pieces:06}.mp4"
            self._writer = self._stack.enter_context(write_video(place, self.rate, options=ENCODER))
        own, step = tracked.frame.time, 1 / self.rate
        after = 0.0 if self.time is None else self.time + step
        self.time = after if own is None else own
        self._writer.write(image, self.time)

    def close(self) -> None:
        """End the piece; the next frame begins another."""
        if self._writer is not None:
            self._writer = None
            self._stack.close()
            self.pieces += 1

    def drop(self) -> None:
        """Leave the piece that is being written."""
        if self._writer is not None:
            self._writer = None
            error = InterruptedError("the piece is not complete")
            self._stack.__exit__(type(error), error, None)

    def _drawn(self, image: ImageArray, found: Prediction) -> ImageArray:
        ids = [] if found.track_ids is None else [int(i) for i in found.track_ids]
        boxes = found.boxes.astype(np.float64).reshape(-1, 2, 2).mean(axis=1).round(2).tolist()
        for number, (x, y) in zip(ids, boxes, strict=True):
            self.trails.setdefault(number, []).append([self.count, x, y])
        oldest, self.count = self.count - TRAIL, self.count + 1
        self.trails = {k: left for k, v in self.trails.items() if (left := [p for p in v if p[0] > oldest])}
        canvas = Image.fromarray(draw.overlay(image, found, colour=self.colour))
        pen, width = ImageDraw.Draw(canvas), max(1, round(min(found.size) ** 0.5 / 14))
        for number, points in self.trails.items():
            if len(points) > 1:
                pen.line([(x, y) for _, x, y in points], fill=draw.colour_of(number), width=width, joint="curve")
        return np.asarray(canvas)

    def _fitted(self, image: ImageArray) -> ImageArray:
        """The image in the size of the first, with black at two sides where its shape differs."""
        size = (image.shape[0], image.shape[1])
        self.size = self.size or size
        if size == self.size:
            return image
        share = min(self.size[0] / size[0], self.size[1] / size[1])
        height, width = (max(1, round(side * share)) for side in size)
        out = np.zeros((*self.size, 3), np.uint8)
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        out[top : top + height, left : left + width] = np.asarray(Image.fromarray(image).resize((width, height)))
        return out
