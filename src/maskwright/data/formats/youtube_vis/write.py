"""Writing YouTube-VIS JSON; the form of the file is described in `read`."""

from collections.abc import Mapping
from pathlib import Path

from maskwright.data.dataset import Annotation, Dataset
from maskwright.data.formats.coco.rows import annotation_row, category_rows
from maskwright.data.formats.shared.fields import Row, write_sections
from maskwright.data.formats.shared.losses import sentence
from maskwright.data.formats.shared.outlines import in_form
from maskwright.data.formats.youtube_vis.read import LAYOUT, PER_FRAME
from maskwright.errors import DataError


def save(place: Path, dataset: Dataset, copy: bool = True, segmentation: str | None = None) -> tuple[str, ...]:
    """Write a new .json file (annotations alone), or a new folder of instances.json and, with `copy`, JPEGImages/.

    An image that is no frame of a clip becomes a video of one frame, an object without a track id a track of one
    frame. Where a track has the id 0 all ids are shifted to begin with 1. segmentation: the form of all outlines, see
    `in_form`.
    Raises DataError where a video's frames differ in size, or a track is twice in a frame or changes its class.
    """
    rows = dataset if segmentation is None else in_form(dataset, segmentation)
    return LAYOUT.save(place, rows, copy, lambda path, names: _save(path, rows, names))


def _save(path: Path, dataset: Dataset, names: list[str]) -> tuple[str, ...]:
    videos = _videos(dataset)
    tracks, lost = _tracks(dataset, videos)
    known = {row.get("id"): row for row in dataset.extra.get("videos", ()) if isinstance(row, dict)}
    sections = {k: v for k, v in dataset.extra.items() if k not in ("videos", "images")}
    sections["videos"] = (
        {**known.get(number, {}), "id": number, "file_names": [names[i] for i in own], **_shape(dataset, number, own)}
        for number, own in videos.items()
    )
    sections["annotations"] = tracks
    sections["categories"] = category_rows(dataset)
    write_sections(path, sections)
    return lost


def _videos(dataset: Dataset) -> dict[int, list[int]]:
    """By the video's id the positions of its images in the data set, in the order of its frames."""
    free = 1 + max((r.frame.clip.id for r in dataset.images if r.frame is not None), default=0)
    frames: dict[int, list[tuple[int, int]]] = {}  # by video: (number of the frame, position of the image)
    for i, record in enumerate(dataset.images):
        if record.frame is None:
            frames[free] = [(0, i)]
            free += 1
        else:
            frames.setdefault(record.frame.clip.id, []).append((record.frame.index, i))
    return {number: [i for _, i in sorted(own)] for number, own in frames.items()}


def _shape(dataset: Dataset, video: int, frames: list[int]) -> Row:
    """The number of frames and their size."""
    first, *others = (dataset.images[i] for i in frames)
    other = next((r for r in others if r.size != first.size), None)
    if other is not None:
        raise DataError(
            f"{dataset.source}: video {video} has frames of two sizes (height, width), {first.file_name} of "
            f"{first.size} and {other.file_name} of {other.size}. Make them one."
        )
    return {"length": len(frames), "width": first.size[1], "height": first.size[0]}


def _tracks(dataset: Dataset, videos: dict[int, list[int]]) -> tuple[list[Row], tuple[str, ...]]:
    """The annotation rows, and what they cannot hold."""
    stated = {a.track_id for rows in dataset.annotations.values() for a in rows if a.track_id is not None}
    shift = 1 - min(stated) if 0 in stated else 0  # evaluation tools count a match with the id 0 as a miss
    free = max(stated, default=0) + shift + 1
    used: set[int] = set()
    out, renumbered = [], 0
    for video, frames in videos.items():
        shape = _shape(dataset, video, frames)
        for shown in _by_track(dataset, frames):
            stated_id = next(iter(shown.values())).track_id
            track = None if stated_id is None else stated_id + shift
            number = free if track is None or track in used else track
            free += number == free
            renumbered += track is not None and number != track
            used.add(number)
            out.append({**_track_row(dataset, shown, len(frames)), "id": number, "video_id": video, **shape})
    zero = f"track{{s}} with {shift} added to the id: evaluation tools count a match with the id 0 as a miss"
    notes = sentence(len(stated) if shift else 0, zero)
    points = sum(a.keypoints is not None for rows in dataset.annotations.values() for a in rows)
    notes += sentence(renumbered, "track{s} renumbered: another video uses the same ids")
    return out, notes + sentence(points, "object{s} without landmarks: YouTube-VIS has none")


def _by_track(dataset: Dataset, frames: list[int]) -> list[dict[int, Annotation]]:
    """For each object its annotation in each frame that shows it."""
    found: dict[object, dict[int, Annotation]] = {}
    for k, i in enumerate(frames):
        for a in dataset.of(i):
            shown = found.setdefault((i, a.id) if a.track_id is None else a.track_id, {})
            other = next(iter(shown.values()), a)
            if k in shown or (other.label, other.crowd) != (a.label, a.crowd):
                what = "is twice in" if k in shown else "changes its class or crowd flag in"
                raise DataError(
                    f"{dataset.source}: track {a.track_id} {what} {dataset.images[i].file_name} (annotation {a.id})."
                )
            shown[k] = a
    return list(found.values())


def _track_row(dataset: Dataset, shown: Mapping[int, Annotation], length: int) -> Row:
    """Fields that all frames of the object share are kept; absent frames are null."""
    rows = {k: annotation_row(a, dataset.classes.ids) for k, a in shown.items()}
    first = next(iter(shown.values()))
    extra = {k: v for k, v in first.extra.items() if all(k in a.extra and a.extra[k] == v for a in shown.values())}
    lists = {key: [rows[k][name] if k in rows else None for k in range(length)] for key, name in PER_FRAME.items()}
    lists["segmentations"] = [outline or None for outline in lists["segmentations"]]  # [] where only the box is known
    return {**extra, "category_id": dataset.classes.ids[first.label], "iscrowd": int(first.crowd), **lists}
