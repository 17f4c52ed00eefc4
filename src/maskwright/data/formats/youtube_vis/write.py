"""Writing YouTube-VIS JSON; the form of the file is described in `read`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maskwright.data.dataset import Annotation, Dataset
from maskwright.data.formats.coco.rows import annotation_row, category_rows
from maskwright.data.formats.shared.fields import Row, write_sections
from maskwright.data.formats.shared.losses import sentence
from maskwright.data.formats.youtube_vis.read import LAYOUT, PER_FRAME
from maskwright.errors import DataError
from maskwright.types import Size


def save(place: Path, dataset: Dataset, copy: bool = True) -> tuple[str, ...]:
    """Write a new .json file (annotations alone), or a new folder of instances.json and, with `copy`, JPEGImages/.

    An image that is no frame of a clip becomes a video of one frame, an object without a track id a track of one
    frame. Where a track has the id 0 all ids are shifted to begin with 1.
    Raises DataError where a video's frames differ in size, or a track is twice in a frame or changes its class.
    """
    return LAYOUT.save(place, dataset, copy, lambda path, names: _save(path, dataset, names))


def _save(path: Path, dataset: Dataset, names: list[str]) -> tuple[str, ...]:
    videos = _videos(dataset)
    tracks, lost = _tracks(dataset, videos)
    known = {row.get("id"): row for row in dataset.extra.get("videos", ()) if isinstance(row, dict)}
    sections = {k: v for k, v in dataset.extra.items() if k not in ("videos", "images")}
    sections["videos"] = (_video_row(dataset, video, names, known.get(video.id, {})) for video in videos)
    sections["annotations"] = tracks
    sections["categories"] = category_rows(dataset)
    write_sections(path, sections)
    return lost


def _video_row(dataset: Dataset, video: "_Video", names: list[str], other: Row) -> Row:
    """other: the fields that the data set keeps of this video."""
    files = [names[i] for i in video.frames]
    height, width = _size(dataset, video)
    return {**other, "id": video.id, "file_names": files, "length": len(files), "width": width, "height": height}


@dataclass
class _Video:
    """frames: the positions of the video's images in the data set, in the order of its frames."""

    id: int
    frames: list[int]


def _videos(dataset: Dataset) -> list[_Video]:
    free = 1 + max((r.frame.clip.id for r in dataset.images if r.frame is not None), default=0)
    frames: dict[int, list[tuple[int, int]]] = {}  # by video: (number of the frame, position of the image)
    for i, record in enumerate(dataset.images):
        if record.frame is None:
            frames[free] = [(0, i)]
            free += 1
        else:
            frames.setdefault(record.frame.clip.id, []).append((record.frame.index, i))
    return [_Video(number, [i for _, i in sorted(own)]) for number, own in frames.items()]


def _size(dataset: Dataset, video: _Video) -> Size:
    first = dataset.images[video.frames[0]]
    for i in video.frames:
        if dataset.images[i].size != first.size:
            raise DataError(
                f"{dataset.source}: video {video.id} has frames of two sizes (height, width), {first.file_name} of "
                f"{first.size} and {dataset.images[i].file_name} of {dataset.images[i].size}. Make them one."
            )
    return first.size


def _tracks(dataset: Dataset, videos: list[_Video]) -> tuple[list[Row], tuple[str, ...]]:
    """The annotation rows, and what they cannot hold."""
    stated = {a.track_id for rows in dataset.annotations.values() for a in rows if a.track_id is not None}
    shift = 1 - min(stated) if 0 in stated else 0  # evaluation tools count a match with the id 0 as a miss
    free = max(stated, default=0) + shift + 1
    used: set[int] = set()
    out, renumbered = [], 0
    for video in videos:
        for shown in _by_track(dataset, video):
            stated_id = next(iter(shown.values())).track_id
            track = None if stated_id is None else stated_id + shift
            number = free if track is None or track in used else track
            free += number == free
            renumbered += track is not None and number != track
            used.add(number)
            out.append(_track_row(dataset, video, number, shown))
    zero = f"track{{s}} with {shift} added to the id: evaluation tools count a match with the id 0 as a miss"
    notes = sentence(len(stated) if shift else 0, zero)
    points = sum(a.keypoints is not None for rows in dataset.annotations.values() for a in rows)
    notes += sentence(renumbered, "track{s} renumbered: another video uses the same ids")
    return out, notes + sentence(points, "object{s} without landmarks: YouTube-VIS has none")


def _by_track(dataset: Dataset, video: _Video) -> list[dict[int, Annotation]]:
    """For each object its annotation in each frame that shows it."""
    found: dict[object, dict[int, Annotation]] = {}
    for k, i in enumerate(video.frames):
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


def _track_row(dataset: Dataset, video: _Video, number: int, shown: Mapping[int, Annotation]) -> Row:
    """Fields that all frames of the object share are kept; absent frames are null."""
    height, width = dataset.images[video.frames[0]].size
    rows = {k: annotation_row(a, dataset.classes.ids) for k, a in shown.items()}
    frames = range(len(video.frames))
    first = next(iter(shown.values()))
    extra = {k: v for k, v in first.extra.items() if all(k in a.extra and a.extra[k] == v for a in shown.values())}
    lists = {key: [rows[k][name] if k in rows else None for k in frames] for key, name in PER_FRAME.items()}
    lists["segmentations"] = [outline or None for outline in lists["segmentations"]]  # [] where only the box is known
    return {
        **extra,
        "id": number,
        "video_id": video.id,
        "category_id": dataset.classes.ids[first.label],
        "iscrowd": int(first.crowd),
        "length": len(frames),
        "width": width,
        "height": height,
        **lists,
    }
