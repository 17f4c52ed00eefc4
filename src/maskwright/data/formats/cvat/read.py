"""CVAT XML 1.1, "for images" and "for video", read: an .xml file, or a folder of annotations.xml and images/.

Polygons, masks, ellipses, boxes and skeletons are objects. Shapes of one label and one `group_id` in an image are the
parts of one object; a skeleton or points in the group of exactly one object are its landmarks. The attributes
`is_crowd` and `track_id` stand in for fields that the format does not have. In video a shape is valid until the next
row of its track; a project's file has several videos, each with frames, size and tracks of its own. Objects may overlap
and keep their pixels; `z_order` says which lies on top, and is kept.
Letters: H W image, h w window of a mask, n points. Coordinates are continuous pixels.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from maskwright.data.dataset import RLE, Dataset, ImageRecord
from maskwright.data.formats.cvat.labels import Labels, landmark_sets
from maskwright.data.formats.shared.fields import LARGEST, short, size_problem, whole
from maskwright.data.formats.shared.image_files import image_files, relative_names, require_folder, size_of
from maskwright.data.formats.shared.outlines import box_corners, collect, ellipse, rle_of, turned
from maskwright.data.formats.shared.saving import FileOrFolder
from maskwright.data.formats.shared.shapes import LoosePoints, ShapeGroup, assembled, left_out_notes
from maskwright.data.formats.shared.xml_tree import line, read_xml, text_of
from maskwright.errors import DataError
from maskwright.ops import masks as mask_ops
from maskwright.types import Classes, Clip, Frame, Size

LAYOUT = FileOrFolder("annotations.xml", "images")

OWN = frozenset(("is_crowd", "track_id"))
"""The attributes that are fields here."""

MOST_FRAMES = 1_000_000
"""Of a video: nine hours. A few letters may state any number."""

_OBJECTS = ("polygon", "mask", "ellipse", "box", "skeleton")
_OTHERS = {"polyline": "lines", "cuboid": "cuboids", "tag": "tags of whole images"}


_Images = list[tuple[ImageRecord, list[ShapeGroup]]]


def recognise(place: Path) -> bool:
    """An .xml file, or a folder's annotations.xml or only XML file, whose first element is <annotations>."""
    path = _file_of(place)
    try:
        with open(path, "rb") as file:
            return path.suffix.lower() == ".xml" and b"<annotations" in file.read(4096)
    except OSError:
        return False


def _file_of(place: Path) -> Path:
    """The file itself; of a folder its annotations.xml, or its only XML file (Datumaro names it after the subset)."""
    files = [place / LAYOUT.annotations, *sorted(place.glob("*.xml"))[:2]] if place.is_dir() else [place]
    return files[1] if len(files) == 2 else files[0]


def load(place: Path, images: Path | None = None) -> Dataset:
    """Read an XML file, or the folder's annotations.xml.

    Without `images` the images are in the folder `images` beside the file, or beside the file itself. Lines,
    cuboids, tags, and points that belong to no object are left out and counted in `Dataset.notes`.
    Raises DataError, with file and line, for any fault.
    """
    path = _file_of(place)
    require_folder(images, place)
    beside = path.parent / "images"
    root = images or (beside if beside.is_dir() else path.parent)
    tree = read_xml(path)
    if tree.tag != "annotations":
        raise DataError(f"{path}: CVAT's XML begins with <annotations>, this with <{tree.tag}>.")
    labels, left_out = Labels(path, tree), Counter[str]()
    still, moving = tree.findall("image"), tree.findall("track")
    if still and moving:
        raise DataError(f"{path}: has both <image> and <track>. Export one of 'for images' and 'for video' at a time.")
    reader = _Reader(path, labels, left_out)
    if moving or (tree.find(".//original_size") is not None and not still):
        found = _video(reader, tree, moving, root)
    else:
        found = [_still(reader, element, root, k) for k, element in enumerate(still)]
    if len({record.id for record, _ in found}) < len(found):
        found = [(replace(record, id=k), things) for k, (record, things) in enumerate(found)]
    every = [t for _, things in found for t in things]
    classes = labels.classes(every)
    classes = Classes(classes.names, classes.ids, landmark_sets(classes, labels, every))
    records, rows = collect((r, [t.stated(classes, r.size) for t in things]) for r, things in found)
    held = left_out.pop("held", 0)
    notes = left_out_notes(left_out)
    if held:
        notes += (f"{held} shapes are repeated from an earlier frame, until the next row of their track.",)
    return Dataset(classes, records, rows, root, place, notes)


# ---- images and frames --------------------------------------------------------------------------------------------


def _still(reader: "_Reader", element: Element, root: Path, k: int) -> tuple[ImageRecord, list[ShapeGroup]]:
    """The <image> element `k`, which is its id where it has none."""
    name = element.attrib.get("name", "").replace("\\", "/")
    if not name:
        raise reader.fault(element, "the image has no name.")
    size = reader.whole(element, "height"), reader.whole(element, "width")
    if problem := size_problem(size):
        raise reader.fault(element, f"{problem} ({name})")
    subset = element.attrib.get("subset", "default")
    extra = {} if subset == "default" else {"split": subset}
    if not (root / name).is_file() and (root / subset / name).is_file():
        name = f"{subset}/{name}"
    record = ImageRecord(reader.whole(element, "id") if "id" in element.attrib else k, name, size, extra)
    objects: list[tuple[ShapeGroup, Hashable]] = []
    points: list[LoosePoints] = []
    for shape in element:
        number = shape.attrib.get("group_id", "").strip()
        group = None if number in ("", "0") else number
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
    return record, assembled(objects, points, reader.left_out)


def _video(reader: "_Reader", tree: Element, tracks: Sequence[Element], root: Path) -> _Images:
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
    lost = next((t for t in tracks if len(tasks) > 1 and t.attrib.get("task_id") not in numbers), None)
    if lost is not None:
        raise reader.fault(lost, f"its task_id {lost.attrib.get('task_id')} is no task of the project ({numbers}).")
    return found


def _tracks(reader: "_Reader", tracks: Sequence[Element], frames: range, size: Size) -> dict[int, list[ShapeGroup]]:
    """The shapes of one video by frame: each is valid until the next row of its track."""
    things: dict[int, list[ShapeGroup]] = {frame: [] for frame in frames}
    for k, track in enumerate(tracks):
        label, stated = reader.label(track), whole(track.attrib.get("id"))
        number = k if stated is None or stated < 0 else stated
        rows = sorted((e for e in track if e.tag in _OBJECTS), key=lambda e: reader.whole(e, "frame"))
        reader.left_out["tracks of points, lines or cuboids"] += not rows
        starts = [reader.whole(row, "frame") for row in rows]
        for row, begin, end in zip(rows, starts, [*starts, frames.stop][1:], strict=False):
            if begin == end and row is not rows[-1]:
                raise reader.fault(row, f"the track has two rows for frame {begin}. Remove one.")
            thing = None if row.attrib.get("outside") == "1" else reader.thing(row, label, size)
            if thing is None:
                continue
            thing.track_id = number
            first, last = (len(range(frames.start, frame, frames.step)) for frame in (begin, end))
            held = frames[first:last]
            reader.left_out["held"] += sum(frame != begin for frame in held)
            for frame in held:
                things[frame].append(thing)
    reader.left_out += Counter()  # drops what is zero
    return things


def _frames(reader: "_Reader", task: Element, tracks: Sequence[Element]) -> range:
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


def _frame_size(reader: "_Reader", task: Element, first: Path) -> Size:
    element = task.find("original_size")
    if element is None:
        return size_of(first, reader.path)
    values = text_of(element, "height") or "", text_of(element, "width") or ""
    height, width = (whole(value) for value in values)
    if height is None or width is None or size_problem((height, width)):
        raise reader.fault(element, f"original_size must have width and height in pixels, got {short(values)}.")
    return height, width


# ---- shapes ---------------------------------------------------------------------------------------------------------


@dataclass
class _Reader:
    """Reads the shapes of one file."""

    path: Path
    labels: Labels
    left_out: Counter[str]

    def fault(self, element: Element, problem: str) -> DataError:
        return DataError(f"{self.path}: line {line(element)}: {problem}")

    def label(self, element: Element, known: bool = True) -> str:
        """The label of a shape; known: it must be one of the file's."""
        name = element.attrib.get("label", "")
        problem = self.labels.fault(name) if known else (None if name else "the shape has no label.")
        if problem is not None:
            raise self.fault(element, problem)
        return name

    def whole(self, element: Element, key: str) -> int:
        text = element.attrib.get(key, "").strip()
        if not text.removeprefix("-").isdecimal() or len(text) > 18:
            raise self.fault(element, f"'{key}' must be a whole number, got {short(text)}.")
        return int(text)

    def number(self, element: Element, key: str, default: str = "") -> float:
        return float(self._floats(element, [element.attrib.get(key, default)], f"'{key}'")[0])

    def _floats(self, element: Element, words: Sequence[str], what: str) -> NDArray[np.float64]:
        try:
            values = np.array([float(w) for w in words], np.float64)
        except ValueError:
            values = np.array([np.nan])
        if not (np.abs(values) < LARGEST).all():
            raise self.fault(element, f"{what} must be finite numbers, got {short(' '.join(words))}.")
        return values

    def points(self, element: Element, least: int) -> NDArray[np.float64]:
        """(n, 2) of the attribute points, "x,y;x,y;...", at least `least` of them."""
        pairs = [pair.split(",") for pair in element.attrib.get("points", "").split(";") if pair.strip()]
        if len(pairs) < least or any(len(pair) != 2 for pair in pairs):
            text = short(element.attrib.get("points", ""))
            raise self.fault(element, f"a {element.tag} needs at least {least} points 'x,y;x,y;...', got {text}.")
        return self._floats(element, [v for pair in pairs for v in pair], "points").reshape(-1, 2)

    def loose(self, element: Element, group: str | None) -> LoosePoints:
        """A <points> element."""
        where, name = f"{self.path}: line {line(element)}", self.label(element, known=False)
        hidden = element.attrib.get("occluded") == "1"
        return LoosePoints(where, group, name, self.points(element, 1).tolist(), hidden)

    def thing(self, element: Element, label: str, size: Size) -> ShapeGroup | None:
        """A shape as an object of its own; None for a skeleton of which no point is inside."""
        thing = ShapeGroup(f"{self.path}: line {line(element)}", label, box_only=True)
        if element.tag == "polygon":
            thing.outlines.append((self.points(element, 3).reshape(-1),))
        elif element.tag == "mask":
            thing.outlines.append(self._mask(element, size))
        elif element.tag == "ellipse":
            x, y, rx, ry = (self.number(element, key) for key in ("cx", "cy", "rx", "ry"))
            thing.outlines.append((ellipse(x, y, rx, ry, self.number(element, "rotation", "0")),))
        elif element.tag == "box":
            self._box(element, thing)
        else:
            thing.skeleton = label
            thing.points = {self.label(p, known=False): self._landmark(p) for p in element.iterfind("points")}
            if not any(v for _, _, v in thing.points.values()):
                self.left_out["skeletons without a point inside"] += element.attrib.get("frame") is None
                return None
        self._remarks(element, thing)
        return thing

    def _box(self, element: Element, thing: ShapeGroup) -> None:
        """A box; a rotated one is an outline."""
        x0, y0, x1, y1 = (self.number(element, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        if x1 < x0 or y1 < y0:
            raise self.fault(element, f"the box {short([x0, y0, x1, y1])} ends before it begins.")
        corners, degrees = box_corners((x0, y0, x1, y1)), self.number(element, "rotation", "0")
        if degrees % 360 == 0:
            thing.boxes.append(corners.reshape(-1))
        else:
            thing.outlines.append((turned(corners, (x0 + x1) / 2, (y0 + y1) / 2, degrees).reshape(-1),))

    def _landmark(self, element: Element) -> tuple[float, float, float]:
        if element.attrib.get("outside") == "1":
            return 0.0, 0.0, 0.0
        x, y = self.points(element, 1)[0].tolist()
        return x, y, 1.0 if element.attrib.get("occluded") == "1" else 2.0

    def _mask(self, element: Element, size: Size) -> RLE:
        """Run lengths row by row inside a window, background first."""
        left, top, width, height = (self.whole(element, key) for key in ("left", "top", "width", "height"))
        words = element.attrib.get("rle", "").replace(",", " ").split()
        runs = [int(w) for w in words if w.isdecimal() and len(w) < 12]
        if width < 1 or height < 1 or len(runs) < max(len(words), 1) or sum(runs) != width * height:
            total = sum(runs) if len(runs) == len(words) else "not all whole numbers"
            area = f"{width}x{height} = {width * height}"
            raise self.fault(element, f"the mask's rle must add up to its window of {area} pixels, got {total}.")
        if left + width > size[1] or top + height > size[0] or left < 0 or top < 0:
            window = f"left {left}, top {top}, width {width}, height {height}"
            image = f"{size[0]}x{size[1]} (height x width)"
            raise self.fault(element, f"the mask's window ({window}) leaves the image of {image}.")
        if width * height > mask_ops.MOST_DRAWN:
            raise self.fault(element, f"the mask's window has more than {mask_ops.MOST_DRAWN} pixels.")
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return rle_of(flat.reshape(height, width), top, left, size)

    def _remarks(self, element: Element, thing: ShapeGroup) -> None:
        """Set occlusion, depth and attributes."""
        if element.attrib.get("occluded") == "1":
            thing.extra["occluded"] = True
        if element.attrib.get("z_order", "0") != "0":
            thing.extra["z_order"] = self.whole(element, "z_order")
        own = {e.attrib.get("name", ""): (e.text or "").strip() for e in element.iterfind("attribute")}
        thing.crowd = own.get("is_crowd", "").lower() in ("true", "1")
        if own.get("track_id", "").isdecimal():
            thing.track_id = int(own["track_id"])
        others = {k: v for k, v in own.items() if k not in OWN}
        if others:
            thing.extra["attributes"] = others
