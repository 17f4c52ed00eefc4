"""CVAT XML 1.1, "for images" and "for video", read: an .xml file, or a folder of annotations.xml and images/.

A folder may have several such files, and folders below it one annotations.xml each (exports of several tasks): they are
the parts of one data set, and have the same labels.

Polygons, masks, ellipses, boxes and skeletons are objects. Shapes of one label and one `group_id` in an image are the
parts of one object; a skeleton or points in the group of exactly one object are its landmarks. The attributes
`is_crowd` and `track_id` stand in for fields that the format does not have. In video a shape is valid until the next
row of its track; a project's file has several videos, each with frames, size and tracks of its own. Objects may overlap
and keep their pixels; `z_order` says which lies on top, and is kept.
Letters: H W image, h w window of a mask, n points. Coordinates are continuous pixels.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

from maskwright.data.dataset import Dataset, ImageRecord, usual_part
from maskwright.data.formats.cvat.elements import ElementReader
from maskwright.data.formats.cvat.labels import Labels, landmark_sets
from maskwright.data.formats.shared.fields import (
    Faults,
    noted,
    short,
    size_problem,
    whole,
)
from maskwright.data.formats.shared.image_files import image_files, relative_names, require_folder, size_of
from maskwright.data.formats.shared.losses import sentence
from maskwright.data.formats.shared.outlines import collect
from maskwright.data.formats.shared.saving import FileOrFolder
from maskwright.data.formats.shared.shapes import LoosePoints, ShapeGroup, assembled, file_objects, left_out_notes
from maskwright.data.formats.shared.xml_tree import read_xml, text_of
from maskwright.errors import DataError
from maskwright.types import Classes, Clip, Frame, Size

LAYOUT = FileOrFolder("annotations.xml", "images")

MOST_FRAMES = 1_000_000
"""Of a video: nine hours. A few letters may state any number."""

_OBJECTS = ("polygon", "mask", "ellipse", "box", "skeleton")
_NO_NUMBER = ("", "None", "null")
_OTHERS = {"polyline": "line{s}", "cuboid": "cuboid{s}", "tag": "tag{s} of whole images"}


_Images = list[tuple[ImageRecord, list[ShapeGroup]]]


def recognise(place: Path) -> bool:
    """An .xml file whose first element is <annotations>, or a folder with one."""
    return any(map(_is_cvat, _files_of(place)))


def _is_cvat(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return path.suffix.lower() == ".xml" and b"<annotations" in file.read(4096)
    except OSError:
        return False


def _files_of(place: Path) -> list[Path]:
    """The file itself; of a folder its XML files, which Datumaro names after subsets, else those a folder below."""
    if not place.is_dir():
        return [place]
    files = sorted(place.glob("*.xml")) or sorted(place.glob(f"*/{LAYOUT.annotations}"))
    return files if len(files) == 1 else [path for path in files if _is_cvat(path)]


def load(place: Path, images: Path | None = None, faults: Faults = None) -> Dataset:
    """Read an XML file, or those of a folder.

    Without `images` the images are in the folder `images` beside the file, or beside the file itself. Lines,
    cuboids, tags, and points that belong to no object are left out and counted in `Dataset.notes`.
    Raises DataError, with file and line, for any fault. faults: gets those of images, tracks and shapes, which are then
    left out.
    """
    require_folder(images, place)
    paths = _files_of(place) or [place / LAYOUT.annotations]
    labels, left_out = Labels(paths[0] if len(paths) == 1 else place), Counter[str]()
    trees = [read_xml(path) for path in paths]
    for path, tree in zip(paths, trees, strict=True):
        if tree.tag != "annotations":
            raise DataError(f"{path}: CVAT's XML begins with <annotations>, this with <{tree.tag}>.")
        labels.read(path, tree)
    roots = [images or _folder_of_images(path) for path in paths]
    root = roots[0] if len(set(roots)) == 1 else place
    found: _Images = []
    for path, tree, folder in zip(paths, trees, roots, strict=True):
        part = _images(ElementReader(path, labels, left_out, faults), tree, folder)
        found += part if len(paths) == 1 else _part_of(path, part, folder, root, found, faults)
    if len({record.id for record, _ in found}) < len(found):
        found = [(replace(record, id=k), things) for k, (record, things) in enumerate(found)]
    every = [t for _, things in found for t in things]
    classes = labels.classes(every)
    classes = Classes(classes.names, classes.ids, landmark_sets(classes, labels, every))
    records, rows = collect(((r, file_objects(things, classes, r.size, faults)) for r, things in found), faults)
    held, measured = left_out.pop("held", 0), left_out.pop("measured", 0)
    notes = left_out_notes(left_out)
    notes += sentence(measured, "image{s} without height and width in the file; they are those of the image files")
    if held:
        notes += (f"{held} shapes are repeated from an earlier frame, until the next row of their track.",)
    return Dataset(classes, records, rows, root, place, notes)


def _folder_of_images(path: Path) -> Path:
    beside = path.parent / "images"
    return beside if beside.is_dir() else path.parent


def _images(reader: ElementReader, tree: Element, root: Path) -> _Images:
    """The images or frames of one file."""
    still, moving = tree.findall("image"), tree.findall("track")
    if still and moving:
        both = "has both <image> and <track>. Export one of 'for images' and 'for video' at a time"
        raise DataError(f"{reader.path}: {both}.")
    if moving or (tree.find(".//original_size") is not None and not still):
        return _video(reader, tree, moving, root)
    found: _Images = []
    for k, element in enumerate(still):
        with noted(reader.faults):
            found.append(_still(reader, element, root, k))
    return found


def _part_of(path: Path, found: _Images, folder: Path, root: Path, before: _Images, faults: Faults) -> _Images:
    """The images of one file of several: names relative to `root`, clips and parts of their own.

    Raises DataError where a file before names an image too.
    """
    taken = {record.file_name for record, _ in before}
    clips = len({record.frame.clip for record, _ in before if record.frame is not None})
    part = usual_part(path.stem) or usual_part(path.parent.name)
    out: _Images = []
    for record, things in found:
        (name,) = relative_names([folder / record.file_name], root)
        with noted(faults):
            if name in taken:
                text = f"the image {name} is named by another file of the data set too"
                raise DataError(f"{path}: {text}. Remove one of both, or give one of the files instead of the folder.")
            extra = {"split": part, **record.extra} if part else record.extra
            frame = record.frame and replace(record.frame, clip=_clip(record.frame.clip, clips, path))
            out.append((replace(record, file_name=name, extra=extra, frame=frame), things))
    return out


def _clip(clip: Clip, before: int, path: Path) -> Clip:
    own = path.parent.name if path.name == LAYOUT.annotations else path.stem
    return Clip(clip.id + before, clip.name or own)


# ---- images and frames --------------------------------------------------------------------------------------------


def _still(reader: ElementReader, element: Element, root: Path, k: int) -> tuple[ImageRecord, list[ShapeGroup]]:
    """The <image> element `k`, which is its id where it has none."""
    name = element.attrib.get("name", "").replace("\\", "/")
    if not name:
        raise reader.fault(element, "the image has no name.")
    subset = element.attrib.get("subset", "default")
    extra = {} if subset == "default" else {"split": subset}
    if not (root / name).is_file() and (root / subset / name).is_file():
        name = f"{subset}/{name}"
    unstated = all(element.attrib.get(key, "").strip() in _NO_NUMBER for key in ("height", "width"))
    if unstated and (root / name).is_file():
        size = size_of(root / name, reader.path)
        reader.left_out["measured"] += 1
    else:
        size = reader.whole(element, "height"), reader.whole(element, "width")
    if problem := size_problem(size):
        raise reader.fault(element, f"{problem} ({name})")
    record = ImageRecord(reader.whole(element, "id") if "id" in element.attrib else k, name, size, extra)
    objects: list[tuple[ShapeGroup, Hashable]] = []
    points: list[LoosePoints] = []
    for shape in element:
        number = shape.attrib.get("group_id", "").strip()
        group = None if number in ("", "0") else number
        with noted(reader.faults):
            if shape.tag in _OTHERS:
                reader.left_out[_OTHERS[shape.tag]] += 1
            elif shape.tag == "points":
                points.append(reader.loose(shape, group))
            elif shape.tag in _OBJECTS:
                thing = reader.thing(shape, reader.label(shape), size)
                if thing is not None:
                    objects.append((thing, group))
            else:
                raise reader.fault(shape, f"<{shape.tag}> is not a known shape ({', '.join(_OBJECTS)}, points).")
    return record, assembled(objects, points, reader.left_out, reader.faults)


def _video(reader: ElementReader, tree: Element, tracks: Sequence[Element], root: Path) -> _Images:
    """The frames of all videos, each with the shapes that the tracks of its task have there."""
    tasks = tree.findall("meta/project/tasks/task")
    if not tasks:
        tasks = [next((e for k in ("task", "job") if (e := tree.find(f"meta/{k}")) is not None), Element("task"))]
    numbers = [text_of(task, "id") for task in tasks]
    found: _Images = []
    earlier: dict[str, Counter[int]] = {}
    for k, task in enumerate(tasks):
        own = [t for t in tracks if len(tasks) == 1 or t.attrib.get("task_id") == numbers[k]]
        if len(tasks) == 1 and len({t.attrib.get("task_id") for t in own}) > 1:
            raise reader.fault(own[-1], "the tracks are of several tasks, and the head of the file describes one.")
        frames = _frames(reader, task, own)
        subset = text_of(task, "subset") or next((t.attrib["subset"] for t in own if "subset" in t.attrib), "default")
        names = _frame_names(root, frames, task, subset, earlier.setdefault(subset, Counter()))
        size = _frame_size(reader, task, root / names[0] if names else root)
        things = _tracks(reader, own, frames, size)
        clip = Clip(k + 1, "" if len(tasks) == 1 else text_of(task, "name") or str(numbers[k]))
        extra = {} if subset == "default" else {"split": subset}
        for i, (name, frame) in enumerate(zip(names, frames, strict=True)):
            found.append((ImageRecord(len(found), name, size, extra, Frame(clip, i)), things[frame]))
    for lost in (t for t in tracks if len(tasks) > 1 and t.attrib.get("task_id") not in numbers):
        with noted(reader.faults):
            raise reader.fault(lost, f"its task_id {lost.attrib.get('task_id')} is no task of the project ({numbers}).")
    return found


def _tracks(reader: ElementReader, tracks: Sequence[Element], frames: range, size: Size) -> dict[int, list[ShapeGroup]]:
    """The shapes of one video by frame: each is valid until the next row of its track."""
    things: dict[int, list[ShapeGroup]] = {frame: [] for frame in frames}
    for k, track in enumerate(tracks):
        with noted(reader.faults):
            label, stated = reader.label(track), whole(track.attrib.get("id"))
            rows = sorted((e for e in track if e.tag in _OBJECTS), key=lambda e: reader.whole(e, "frame"))
            reader.left_out["track{s} of points, lines or cuboids"] += not rows
            for thing, begin, held in _shown(reader, rows, label, frames, size):
                thing.track_id = k if stated is None or stated < 0 else stated
                reader.left_out["held"] += sum(frame != begin for frame in held)
                for frame in held:
                    things[frame].append(thing)
    reader.left_out += Counter()  # drops what is zero
    return things


def _shown(
    reader: ElementReader, rows: Sequence[Element], label: str, frames: range, size: Size
) -> Iterator[tuple[ShapeGroup, int, range]]:
    """The shapes of a track's rows, which are sorted, with the frame of the row and those in which it is valid."""
    starts = [reader.whole(row, "frame") for row in rows]
    for row, begin, end in zip(rows, starts, [*starts, frames.stop][1:], strict=False):
        with noted(reader.faults):
            if begin == end and row is not rows[-1]:
                raise reader.fault(row, f"the track has two rows for frame {begin}. Remove one.")
            thing = None if row.attrib.get("outside") == "1" else reader.thing(row, label, size)
            first, last = (len(range(frames.start, frame, frames.step)) for frame in (begin, end))
            if thing is not None:
                yield thing, begin, frames[first:last]


def _frames(reader: ElementReader, task: Element, tracks: Sequence[Element]) -> range:
    """The frame numbers of a task; where they are not stated, up to the last one of a track."""
    texts = [text_of(task, key) or "" for key in ("start_frame", "stop_frame", "size", "frame_filter")]
    words = (*texts[:3], texts[3].rpartition("step=")[2])
    start, stop, size, step = (whole(t) if t.isdecimal() else None for t in words)
    start, step = start or 0, step or 1
    if stop is not None:
        frames = range(start, stop + 1, step)
    elif size is not None:
        frames = range(start, start + size * step, step)
    else:
        rows = (e for track in tracks for e in track if e.tag in _OBJECTS)
        frames = range(1 + max((reader.whole(e, "frame") for e in rows), default=-1))
    if len(frames[: MOST_FRAMES + 1]) > MOST_FRAMES:
        raise reader.fault(task, f"its frames go from {frames.start} to {frames[-1]}; at most {MOST_FRAMES} are read.")
    return frames


def _frame_names(root: Path, frames: range, task: Element, subset: str, earlier: Counter[int]) -> list[str]:
    """The files of the frames, relative to `root`.

    They are called frame_000012.*; in a project also frame_000012_1.* where an earlier task of the subset has this
    frame too (earlier: how many have it, which is updated), in the folder of the subset or of the task. Where none is
    called so, they are all images by name of the first of these folders that has as many.
    """
    wanted = [f"frame_{n:06d}" + (f"_{earlier[n]}" if earlier[n] else "") for n in frames]
    if text_of(task, "mode") != "annotation":  # the frames of images have the images' names
        earlier.update(frames)
    own = text_of(task, "name") or ""
    folders = [root / name for name in dict.fromkeys((own, subset, "")) if Path(name).name == name]
    counted: list[Path] | None = None
    for folder in folders:
        there = image_files(folder)
        by_stem = {path.stem.lower(): path for path in there}
        alone = bool(own) and folder == root / own  # a folder of its own
        names = [f"frame_{n:06d}" for n in frames] if alone else wanted
        if any(name in by_stem for name in names):
            return relative_names([by_stem.get(name, folder / f"{name}.png") for name in names], root)
        counted = there if counted is None and len(there) == len(wanted) else counted
    return relative_names(counted or [root / f"{name}.png" for name in wanted], root)


def _frame_size(reader: ElementReader, task: Element, first: Path) -> Size:
    element = task.find("original_size")
    if element is None:
        return size_of(first, reader.path)
    values = text_of(element, "height") or "", text_of(element, "width") or ""
    height, width = (whole(value) for value in values)
    if height is None or width is None or size_problem((height, width)):
        raise reader.fault(element, f"original_size must have width and height in pixels, got {short(values)}.")
    return height, width
