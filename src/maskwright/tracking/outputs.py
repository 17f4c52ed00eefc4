"""The files that are made of the results of a video when all its frames are done: one table, `KINDS`.

Each is written beside its place and renamed when it is complete. Coordinates are the frame's pixels.
"""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskwright import draw, media
from maskwright.ops import masks as mask_ops
from maskwright.results.prediction import Prediction, areas, decimal, text_file
from maskwright.results.tables import number
from maskwright.results.video import FrameResult
from maskwright.tracking.challenge import challenge_folder
from maskwright.tracking.page import video_page
from maskwright.tracking.track_rows import track_rows
from maskwright.tracking.writing import FrameWriter, VideoRun, folder_anew
from maskwright.wording import cell


@dataclass(frozen=True)
class TrackKind:
    """One kind of result. place: under the folder of the video. about: for help texts. open: a context whose value
    takes the frames; None: it is made while frames are read. needs_masks: it cannot be made from boxes alone."""

    place: str
    about: str
    open: Callable[[VideoRun], AbstractContextManager[FrameWriter]] | None = None
    needs_masks: bool = False


COLUMNS = ("frame", "time", "id", "class", "score", "area", "centroid_x", "centroid_y")
SPEEDS = ("speed", "speed_per_second", "parent")


@contextmanager
def csv_table(run: VideoRun) -> Iterator[FrameWriter]:
    """One row for each object in each frame: pixels, seconds, pixels per frame and per second.

    Speeds are those since the frame in which the object was seen before, and empty in its first. Without masks area and
    centroid are the box's. Texts that a spreadsheet would take for formulas have an apostrophe in front.
    """
    with text_file(run.place) as file:
        table = csv.writer(file)
        table.writerow((*COLUMNS, *SPEEDS))
        seen: dict[int, tuple[int, float | None, NDArray[np.float64]]] = {}

        def write(result: FrameResult) -> None:
            found, at = result.found, result.document["index"]
            assert found.track_ids is not None
            time = "" if result.time is None else round(result.time, 6)
            for i, (track, area, centre) in enumerate(zip(found.track_ids, areas(found), _centres(found), strict=True)):
                speeds: list[float | int | str] = ["", ""]
                if track in seen:
                    before, then, where = seen[track]
                    way = float(np.hypot(*(centre - where)))
                    speeds[0] = number(way / (at - before))
                    if result.time is not None and then is not None:
                        speeds[1] = number(way / (result.time - then))
                seen[int(track)] = at, result.time, centre
                name, score = cell(found.classes[int(found.labels[i])]), decimal(found.scores[i])
                measured = [number(v) for v in (area, *centre)]
                table.writerow((at, time, track, name, score, *measured, *speeds, result.parents.get(int(track), "")))

        yield write


def _centres(found: Prediction) -> NDArray[np.float64]:
    """(N, 2) x, y of the masks' centroids; the boxes' middle without a mask."""
    middle: NDArray[np.float64] = found.boxes.astype(np.float64).reshape(-1, 2, 2).mean(axis=1)
    if found.crops is None:
        return middle
    measured = mask_ops.measure(found.crops)
    own = np.stack([measured["centroid_x"], measured["centroid_y"]], axis=1)
    centres: NDArray[np.float64] = np.where(np.isfinite(own), own, middle)
    return centres


@contextmanager
def coco_results(run: VideoRun) -> Iterator[FrameWriter]:
    """A JSON array of COCO results with `track_id`; `image_id` counts the frames from 1."""
    with text_file(run.place) as file:
        file.write("[")
        first = True

        def write(result: FrameResult) -> None:
            nonlocal first
            for row in result.found.to_coco(result.frame + 1):
                named = {"file_name": result.name} if result.name else {}
                file.write(("\n" if first else ",\n") + json.dumps({**row, **named}, ensure_ascii=False))
                first = False

        yield write
        file.write("\n]\n")


@contextmanager
def label_images(run: VideoRun) -> Iterator[FrameWriter]:
    """A folder of 16-bit PNGs, one a frame: 0 is background, else the id of the track."""
    with folder_anew(run.place) as folder:

        def write(result: FrameResult) -> None:
            ids = [int(row["track_id"]) for row in result.rows]
            media.write_image(folder / f"{result.frame:06}.png", draw.label_map(result.found, ids))

        yield write


KINDS: dict[str, TrackKind] = {
    "jsonl": TrackKind("frames.jsonl", "boxes, masks, scores and ids, a line of JSON for each frame"),
    "overlay": TrackKind("overlay.mp4", "the video with the objects and their trails"),
    "csv": TrackKind("tracks.csv", "a table of all objects in all frames, with their speed", csv_table),
    "page": TrackKind("page.html", "one page: key frames and why, what was carried, how far it moved", video_page),
    "coco": TrackKind("results.json", "COCO results with track ids", coco_results),
    "youtube-vis": TrackKind("youtube_vis.json", "YouTube-VIS results, a row for each track", track_rows, True),
    "labels": TrackKind("labels", "16-bit PNGs, pixel value = id of the track", label_images, True),
    "ctc": TrackKind("01_RES", "the folder of the Cell Tracking Challenge", challenge_folder, True),
}
