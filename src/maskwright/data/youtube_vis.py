"""YouTube-VIS JSON: videos as lists of image files, and for each object its outline in every frame or null.

Each frame is an image of the data set; an object's annotations in the frames of a video share a track id, which is the
id of its row in the file. In the files boxes are x, y, width, height; in memory xyxy.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from maskwright.atomic import new_folder
from maskwright.data.coco_rows import AnnotationReader, Categories, annotation_row, category_rows, section
from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.fields import Record, Row, json_keys, read_json, short, write_sections
from maskwright.data.images import copy_images, found_name, inner_names, require_files
from maskwright.data.outlines import sentence
from maskwright.errors import ConfigError, DataError
from maskwright.types import Size

ANNOTATIONS, IMAGES = "instances.json", "JPEGImages"
"""The file and the folder of a data set that is a folder, named as the publishers name them."""

_OF_VIDEO = frozenset(("id", "file_names", "length", "width", "height"))
_OF_TRACK = frozenset(
    ("id", "video_id", "category_id", "segmentations", "bboxes", "areas", "iscrowd", "length", "width", "height")
)
_PER_FRAME = {"segmentations": "segmentation", "bboxes": "bbox", "areas": "area"}


def recognise(place: Path) -> bool:
    """A JSON file with videos and their file_names, or a folder with such an instances.json."""
    path = place / ANNOTATIONS if place.is_dir() else place
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    return json_keys(path, ("videos", "file_names", "images")) == {"videos", "file_names"}


def load(place: Path, images: Path | None = None) -> Dataset:
    """Read the file, or the folder's instances.json.

    Frames are numbered from 1 in the order of the file; `ImageRecord.extra` has video_id, video (its name, or else the
    folder of its frames) and frame_index. `Dataset.extra["videos"]` keeps the videos' other fields.
    images: the folder that the file names are relative to; without it the first of these that has the first frame:
    the file's own, JPEGImages in it, and in the folder that is called like the file.
    """
    source = place / ANNOTATIONS if place.is_dir() else place
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: the image folder of {source} does not exist or is not a folder.")
    content = read_json(source)
    if not isinstance(content, dict):
        raise DataError(f"{source}: expected an object of videos, annotations and categories, got {short(content)}.")
    videos, tracks, categories = (
        section(source, content, name, "YouTube-VIS") for name in ("videos", "annotations", "categories")
    )
    found = Categories(source, categories)
    frames = _frames(source, videos)
    records = tuple(record for row in frames.values() for record in row)
    reader = AnnotationReader(source, records, found.classes, found.landmarks)
    by_image, notes = _annotations(source, tracks, frames, reader)
    extra = {k: v for k, v in content.items() if k not in ("videos", "annotations", "categories")}
    extra["videos"] = [{k: v for k, v in row.items() if k == "id" or k not in _OF_VIDEO} for row in videos]
    root = images or _root(source, records)
    notes = (*found.notes, *notes, *reader.notes())
    return Dataset(found.classes, records, by_image, root, source, notes, found.landmarks, found.extra, extra)


def save(place: Path, dataset: Dataset, copy: bool = True) -> tuple[str, ...]:
    """Write a new .json file (annotations alone), or a new folder of instances.json and, with `copy`, JPEGImages/.

    An image that names no video ("video_id" in its extra) becomes a video of one frame, an object without a track id
    a track of one frame. Where a track has the id 0 all ids are shifted to begin with 1.
    Raises DataError where a video's frames differ in size, or a track is twice in a frame or changes its class.
    """
    one_file = place.suffix.lower() == ".json"
    if one_file and copy:
        raise ConfigError(f"{place}: a JSON file holds no images. Name a folder, or leave the images out.")
    if one_file and place.exists():
        raise FileExistsError(f"{place} exists already. Nothing is overwritten: name a new file, or remove it.")
    if copy:
        require_files(dataset)
    names = inner_names(dataset) if copy else [r.file_name for r in dataset.images]
    sections, notes = _sections(dataset, names)
    if one_file:
        write_sections(place, sections)
        return notes
    with new_folder(place) as folder:
        write_sections(folder / ANNOTATIONS, sections)
        if copy:
            copy_images(dataset, folder / IMAGES, names)
    return notes


# ---- reading --------------------------------------------------------------------------------------------------------


def _frames(source: Path, rows: list[Any]) -> dict[int, list[ImageRecord]]:
    """The frames of each video, by video id."""
    frames: dict[int, list[ImageRecord]] = {}
    first = 1
    for position, row in enumerate(rows):
        at = Record(source, f"video {position} of the list")
        row = at.table(row)
        number, names = at.whole(row, "id"), row.get("file_names")
        at = Record(source, f"video id {number}")
        if number in frames:
            raise at.fault("the id is used twice. Ids must differ.")
        if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
            raise at.fault(f"'file_names' must be the list of its frames' files, got {short(names)}.")
        if row.get("length") is not None and at.whole(row, "length") != len(names):
            raise at.fault(f"'length' says {row['length']} frames, but 'file_names' has {len(names)}.")
        size = at.whole(row, "height"), at.whole(row, "width")
        if min(size) < 1:
            raise at.fault(f"height and width must be at least 1, got {size[0]} and {size[1]}.")
        name = row.get("name") or (PureWindowsPath(names[0]).parent.name if names else "") or str(number)
        frames[number] = [
            ImageRecord(first + k, file, size, {"video_id": number, "video": name, "frame_index": k})
            for k, file in enumerate(names)
        ]
        first += len(names)
    return frames


def _annotations(
    source: Path, rows: list[Any], frames: Mapping[int, list[ImageRecord]], reader: AnnotationReader
) -> tuple[dict[int, tuple[Annotation, ...]], tuple[str, ...]]:
    """Annotations by image id, numbered from 1, and notes."""
    by_image: dict[int, list[Annotation]] = {r.id: [] for own in frames.values() for r in own}
    seen: set[int] = set()
    never, count = [], 0
    for position, row in enumerate(rows):
        at = Record(source, f"annotation {position} of the list")
        row = at.table(row)
        track = at.whole(row, "id")
        at = Record(source, f"annotation id {track}")
        if track in seen:
            raise at.fault("the id is used twice. Ids must differ.")
        seen.add(track)
        before = count
        for frame in _track(at, row, track, frames):
            count += 1
            where = Record(source, f"annotation id {track}, frame {frame.pop('frame')}")
            annotation = reader.annotation(where, count, {**frame, "id": count})
            by_image[annotation.image_id].append(annotation)
        if count == before:
            never.append(str(track))
        rows[position] = None
    notes = sentence(len(never), "object{s} that no frame shows left out, annotation ids", never)
    return {i: tuple(own) for i, own in by_image.items()}, notes


def _track(at: Record, row: Row, track: int, frames: Mapping[int, list[ImageRecord]]) -> Iterable[Row]:
    """A COCO row for each frame that shows the object, with its number as "frame"."""
    own = frames.get(at.whole(row, "video_id"))
    if own is None:
        raise at.fault(f"video_id {row['video_id']} is not in the list 'videos'.")
    given = {key: row.get(key) for key in _PER_FRAME}
    for key, values in given.items():
        if values is not None and (not isinstance(values, list) or len(values) != len(own)):
            found = f"{len(values)} of them" if isinstance(values, list) else short(values)
            raise at.fault(
                f"'{key}' must have one entry for each of the {len(own)} frames of video {row['video_id']} (null where "
                f"the object is not seen), got {found}."
            )
    extra = {k: v for k, v in row.items() if k not in _OF_TRACK}
    for k, record in enumerate(own):
        values = {name: values[k] for key, name in _PER_FRAME.items() if (values := given[key]) is not None}
        if values.get("segmentation") or values.get("bbox"):
            fixed = {"image_id": record.id, "category_id": row.get("category_id"), "iscrowd": row.get("iscrowd") or 0}
            yield {**extra, **values, **fixed, "track_id": track, "frame": k}


def _root(source: Path, records: tuple[ImageRecord, ...]) -> Path:
    near = (source.parent, source.parent / IMAGES, source.with_suffix("") / IMAGES, source.with_suffix(""))
    first = records[0].file_name if records else ""
    return next((folder for folder in near if found_name(folder, first)), source.parent)


# ---- writing --------------------------------------------------------------------------------------------------------


@dataclass
class _Video:
    """The positions of a video's images in the data set, in the order of its frames."""

    id: int
    frames: list[int]


def _sections(dataset: Dataset, names: list[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    videos = _videos(dataset)
    tracks, notes = _tracks(dataset, videos)
    known = {row.get("id"): row for row in dataset.extra.get("videos", ()) if isinstance(row, dict)}
    sections = {k: v for k, v in dataset.extra.items() if k not in ("videos", "images")}
    sections["videos"] = (
        {
            **known.get(video.id, {}),
            "id": video.id,
            "file_names": [names[i] for i in video.frames],
            "length": len(video.frames),
            **_size_fields(_size(dataset, video)),
        }
        for video in videos
    )
    sections["annotations"] = tracks
    sections["categories"] = category_rows(dataset.classes, dataset.landmarks, dataset.class_extra)
    return sections, notes


def _videos(dataset: Dataset) -> list[_Video]:
    found: dict[object, list[int]] = {}
    for i, record in enumerate(dataset.images):
        number = record.extra.get("video_id")
        found.setdefault(number if isinstance(number, int) else ("alone", i), []).append(i)
    free = max((key for key in found if isinstance(key, int)), default=0) + 1
    videos = []
    for key, frames in found.items():
        index = [dataset.images[i].extra.get("frame_index") for i in frames]
        if all(isinstance(k, int) for k in index):
            frames = [i for _, i in sorted(zip(index, frames, strict=True))]
        videos.append(_Video(key if isinstance(key, int) else free, frames))
        free += not isinstance(key, int)
    return videos


def _size(dataset: Dataset, video: _Video) -> Size:
    first = dataset.images[video.frames[0]]
    for i in video.frames:
        if dataset.images[i].size != first.size:
            raise DataError(
                f"{dataset.source}: video {video.id} has frames of two sizes (height, width), {first.file_name} of "
                f"{first.size} and {dataset.images[i].file_name} of {dataset.images[i].size}. Make them one."
            )
    return first.size


def _size_fields(size: Size) -> Row:
    return {"width": size[1], "height": size[0]}


def _tracks(dataset: Dataset, videos: list[_Video]) -> tuple[list[Row], tuple[str, ...]]:
    """The annotation rows, and what they cannot hold."""
    stated = {a.track_id for rows in dataset.annotations.values() for a in rows if a.track_id is not None}
    shift = 1 - min(stated) if 0 in stated else 0  # an evaluation takes a match with the id 0 for none
    free = max(stated, default=0) + shift + 1
    used: set[int] = set()
    out, renumbered, points = [], 0, 0
    for video in videos:
        for shown in _by_track(dataset, video):
            said = next(iter(shown.values())).track_id
            track = None if said is None else said + shift
            number = free if track is None or track in used else track
            free += number == free
            renumbered += track is not None and number != track
            used.add(number)
            points += sum(a.keypoints is not None for a in shown.values())
            out.append(_track_row(dataset, video, number, shown))
    zero = f"track{{s}} with {shift} added to the id: evaluation tools take a match with the id 0 for a miss"
    notes = sentence(len(stated) if shift else 0, zero)
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
    rows = {k: annotation_row(a, dataset.classes.ids) for k, a in shown.items()}
    frames = range(len(video.frames))
    first = next(iter(shown.values()))
    extra = {k: v for k, v in first.extra.items() if all(k in a.extra and a.extra[k] == v for a in shown.values())}
    lists = {key: [rows[k][name] if k in rows else None for k in frames] for key, name in _PER_FRAME.items()}
    lists["segmentations"] = [outline or None for outline in lists["segmentations"]]  # [] where only the box is known
    return {
        **extra,
        "id": number,
        "video_id": video.id,
        "category_id": dataset.classes.ids[first.label],
        "iscrowd": int(first.crowd),
        "length": len(frames),
        **_size_fields(dataset.images[video.frames[0]].size),
        **lists,
    }
