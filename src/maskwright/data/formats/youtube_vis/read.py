"""YouTube-VIS JSON: videos as lists of image files, and for each object its outline in every frame, or null.

Each frame is an image of the data set; an object's annotations in the frames of a video share a track id, which is the
id of its row in the file. In the files boxes are x, y, width, height; in memory xyxy.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats.coco.ids import notes_of, number_names
from maskwright.data.formats.coco.rows import AnnotationReader, Categories, read_sections, size_of_file, unread
from maskwright.data.formats.shared.fields import Faults, Record, Row, identified, noted, short, whole
from maskwright.data.formats.shared.image_files import require_folder
from maskwright.data.formats.shared.losses import sentence
from maskwright.data.formats.shared.saving import FileOrFolder, folder_of_first
from maskwright.types import Clip, Frame

LAYOUT = FileOrFolder("instances.json", "JPEGImages")

_OF_VIDEO = frozenset(("id", "file_names", "length", "width", "height"))
_OF_TRACK = frozenset(
    ("id", "video_id", "category_id", "segmentations", "bboxes", "areas", "iscrowd", "length", "width", "height")
)
PER_FRAME = {"segmentations": "segmentation", "bboxes": "bbox", "areas": "area"}


def recognise(place: Path) -> bool:
    """A JSON file with videos and their file_names, or a folder with such an instances.json."""
    return LAYOUT.has_keys(place, {"videos", "file_names"}, without="images")


def load(place: Path, images: Path | None = None, faults: Faults = None) -> Dataset:
    """Read the file, or the folder's instances.json.

    Images are numbered from 1 in the order of the file; the name of a clip is that of the file, else the folder of its
    frames. `Dataset.extra["videos"]` keeps the videos' other fields.
    images: the folder that the file names are relative to. Without it: the first of the file's folder, JPEGImages in
    it, and JPEGImages in the folder named like the file that has the first frame. faults: gets those of videos, tracks
    and their frames, which are then left out.
    """
    source = LAYOUT.file(place)
    require_folder(images, source)
    rows, extra = read_sections(source, "videos", "YouTube-VIS")
    named = number_names(rows)
    found = Categories(source, rows["categories"])
    beside = source.with_suffix("")
    near = (source.parent, source.parent / LAYOUT.images, beside / LAYOUT.images, beside)
    root = images or folder_of_first(near, _first_name(rows["videos"]))
    frames, measured = _frames(source, rows["videos"], root, faults)
    records = tuple(record for row in frames.values() for record in row)
    reader = AnnotationReader(source, records, found.classes, faults, unread(frames, rows["videos"]))
    by_image, notes = _annotations(source, rows["annotations"], frames, reader)
    extra["videos"] = [
        {k: v for k, v in row.items() if k == "id" or k not in _OF_VIDEO}
        for row in rows["videos"]
        if isinstance(row, dict)
    ]
    notes = (*notes_of(named), *found.notes, *measured, *notes, *reader.notes())
    return Dataset(found.classes, records, by_image, root, source, notes, found.extra, extra)


def _first_name(videos: Sequence[Any]) -> str:
    names = next((row.get("file_names") for row in videos if isinstance(row, dict)), None)
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def _frames(
    source: Path, rows: list[Any], root: Path, faults: Faults
) -> tuple[dict[int, list[ImageRecord]], tuple[str, ...]]:
    """The frames of each video, by video id, and notes. root: the images' folder, for sizes that the file lacks."""
    frames: dict[int, list[ImageRecord]] = {}
    measured: list[str] = []
    first = 1
    for at, number, row in identified(source, list(rows), "video", faults):
        with noted(faults):
            names = row.get("file_names")
            if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
                raise at.fault(f"'file_names' must be the list of its frames' files, got {short(names)}.")
            if row.get("length") is not None and at.whole(row, "length") != len(names):
                raise at.fault(f"'length' says {row['length']} frames, but 'file_names' has {len(names)}.")
            if names and (row.get("height") is None or row.get("width") is None):
                size = size_of_file(at, row, names[0], root)
                measured.append(names[0])
            else:
                size = at.size(row)
            name = row.get("name") or (PureWindowsPath(names[0]).parent.name if names else "")
            clip = Clip(number, str(name or number))
            frames[number] = [ImageRecord(first + k, file, size, {}, Frame(clip, k)) for k, file in enumerate(names)]
            first += len(names)
    what = "video{s} without height and width in the file; they are those of the first frame"
    return frames, sentence(len(measured), what, measured)


def _annotations(
    source: Path, rows: list[Any], frames: Mapping[int, list[ImageRecord]], reader: AnnotationReader
) -> tuple[dict[int, tuple[Annotation, ...]], tuple[str, ...]]:
    """Annotations by image id, numbered from 1, and notes."""
    by_image: dict[int, list[Annotation]] = {r.id: [] for own in frames.values() for r in own}
    never, count = [], 0
    for at, track, row in identified(source, rows, "annotation", reader.faults):
        if whole(row.get("video_id")) in reader.unread:
            continue
        before = count
        with noted(reader.faults):
            for frame in _track(at, row, track, frames):
                count += 1
                where = Record(source, f"annotation id {track}, frame {frame.pop('frame')}")
                with noted(reader.faults):
                    annotation = reader.annotation(where, count, {**frame, "id": count})
                    by_image[annotation.image_id].append(annotation)
            if count == before:
                never.append(str(track))
    notes = sentence(len(never), "object{s} that no frame shows left out, annotation ids", never)
    return {i: tuple(own) for i, own in by_image.items()}, notes


def _track(at: Record, row: Row, track: int, frames: Mapping[int, list[ImageRecord]]) -> Iterable[Row]:
    """A COCO row for each frame that shows the object, with its number as "frame"."""
    own = frames.get(at.whole(row, "video_id"))
    if own is None:
        raise at.fault(f"video_id {row['video_id']} is not in the list 'videos'.")
    given = {key: row.get(key) for key in PER_FRAME}
    for key, values in given.items():
        if values is not None and (not isinstance(values, list) or len(values) != len(own)):
            found = f"{len(values)} of them" if isinstance(values, list) else short(values)
            raise at.fault(
                f"'{key}' must have one entry for each of the {len(own)} frames of video {row['video_id']} (null where "
                f"the object is not seen), got {found}."
            )
    extra = {k: v for k, v in row.items() if k not in _OF_TRACK}
    for k, record in enumerate(own):
        values = {name: values[k] for key, name in PER_FRAME.items() if (values := given[key]) is not None}
        if values.get("segmentation") or values.get("bbox"):
            fixed = {"image_id": record.id, "category_id": row.get("category_id"), "iscrowd": row.get("iscrowd") or 0}
            yield {**extra, **values, **fixed, "track_id": track, "frame": k}
