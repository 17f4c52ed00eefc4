"""Synthetic scenes and clips as data sets: in memory, as COCO files with landmarks, as COCO panoptic files.

Letters: N objects, P landmarks, Q classes, H W image.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskwright import media
from maskwright.data.dataset import RLE, Annotation, Dataset, ImageRecord, Polygons
from maskwright.data.formats import coco
from maskwright.data.formats.coco.rows import image_row
from maskwright.data.formats.shared.fields import box_tuple, write_sections
from maskwright.data.synthetic.clips import Motion, clip
from maskwright.data.synthetic.kinds import class_list, kind_of
from maskwright.data.synthetic.scenes import Look, Scene, compose
from maskwright.errors import ConfigError, DataError
from maskwright.ops import masks as mask_ops
from maskwright.types import Clip, Frame, Instances, Panoptic, Size

_UNNAMED = Path("synthetic")


def annotations(
    found: Instances,
    record: ImageRecord,
    *,
    polygons: bool,
    first_id: int = 1,
    keypoints: Sequence[NDArray[np.float64]] | None = None,
) -> tuple[Annotation, ...]:
    """The objects of a synthetic image as annotations of `record`, with their track ids where they have some.

    polygons: as polygons where an object has no hole, which is exact up to the rules of rasterising; else run lengths.
    keypoints: (P, 3) of each object.
    """
    if found.crops is None or not len(found):
        return ()
    lengths, areas, rows = mask_ops.encode(found.crops), found.crops.areas().tolist(), []
    outlines = mask_ops.to_polygons(found.crops) if polygons else [[] for _ in lengths]
    for k, (rle, parts) in enumerate(zip(lengths, outlines, strict=True)):
        plain = parts and not any(part.holes for part in parts)
        outline: Polygons | RLE = tuple(part.outer.reshape(-1) for part in parts) if plain else rle
        label, box = int(found.labels[k]), box_tuple(found.boxes[k])
        points = None if keypoints is None else keypoints[k]
        track = None if found.track_ids is None else int(found.track_ids[k])
        rows.append(
            Annotation(first_id + k, record.id, label, box, outline, float(areas[k]), keypoints=points, track_id=track)
        )
    return tuple(rows)


def _of_scene(scene: Scene, record: ImageRecord, *, polygons: bool, first_id: int) -> tuple[Annotation, ...]:
    """The objects of a scene with the landmarks of their class."""
    counts = [len(kind_of(int(label)).landmarks) for label in scene.instances.labels]
    points = [p[:count] for p, count in zip(scene.keypoints, counts, strict=True)]
    return annotations(scene.instances, record, polygons=polygons, first_id=first_id, keypoints=points)


def scenes_fixture(
    folder: str | os.PathLike[str],
    seed: int,
    *,
    images: int = 6,
    size: Size = (96, 128),
    objects: int = 6,
    classes: int = 5,
    look: Look | None = None,
) -> Dataset:
    """Write scenes as a COCO data set with landmarks, each class having its own, and return it as it is in memory.

    Makes `images/*.png` and `annotations.json` (the data set's `source`). Odd images have polygons where an object
    has no hole, the rest run lengths. From two images on, the last is empty. Image k shows
    `compose(1000 * seed + k, ...)`.
    """
    folder = Path(folder)
    counts = [0 if k == images - 1 and images > 1 else objects for k in range(images)]
    rows = {
        record: _of_scene(scene, record, polygons=k % 2 == 1, first_id=1000 * k + 1)
        for k, (record, scene) in enumerate(_written(folder / "images", seed, counts, size, classes, look))
    }
    data = _dataset(rows, classes, folder / "images", folder / "annotations.json")
    coco.save(data.source, data)
    return data


def _written(
    folder: Path, seed: int, counts: Iterable[int], size: Size, classes: int, look: Look | None
) -> Iterator[tuple[ImageRecord, Scene]]:
    """A scene for each number of objects, its image written to the folder."""
    for k, count in enumerate(counts):
        scene = compose(1000 * seed + k, size, count, classes, look)
        record = ImageRecord(k + 1, f"{k:06d}.png", size)
        media.write_image(folder / record.file_name, scene.image)
        yield record, scene


def _dataset(
    rows: Mapping[ImageRecord, tuple[Annotation, ...]], classes: int, root: Path | None, source: Path
) -> Dataset:
    annotations = {record.id: found for record, found in rows.items()}
    return Dataset(class_list(classes), tuple(rows), annotations, root, source)


def clips_fixture(
    seed: int,
    folder: str | os.PathLike[str] | None = None,
    *,
    clips: int = 2,
    frames: int = 8,
    size: Size = (96, 128),
    objects: int = 6,
    classes: int = 5,
    look: Look | None = None,
    motion: Motion | None = None,
) -> Dataset:
    """Clips as one data set in memory: an image for each frame, `track_id` for each object, as YouTube-VIS has it.

    Clip ids count from 1. Track ids are unique over all clips. With a
    `folder` the frames are written there, `clip_000/00000.png` and so on. Clip v shows `clip(1000 * seed + v, ...)`,
    and by default moves fast enough for much to happen in eight frames.
    """
    root = None if folder is None else Path(folder)
    motion = motion or Motion(speed=0.06, spin=0.1, period=40)
    rows = {}
    tracks: dict[tuple[int, int], int] = {}
    for v in range(clips):
        for frame in clip(1000 * seed + v, frames, size, objects, classes, look, motion):
            name = f"clip_{v:03d}/{frame.index:05d}.png"
            record = ImageRecord(v * frames + frame.index + 1, name, size, frame=Frame(Clip(v + 1), frame.index))
            if root is not None:
                media.write_image(root / name, frame.image)
            found = frame.instances
            own = found.track_ids if found.track_ids is not None else ()
            found.track_ids = np.array([tracks.setdefault((v, int(t)), len(tracks) + 1) for t in own], np.int64)
            rows[record] = _of_scene(frame, record, polygons=False, first_id=1000 * record.id)
    return _dataset(rows, classes, root, root or _UNNAMED)


# ---- COCO panoptic --------------------------------------------------------------------------------------------------


def panoptic_fixture(
    folder: str | os.PathLike[str],
    seed: int,
    *,
    images: int = 4,
    size: Size = (96, 128),
    objects: int = 6,
    classes: int = 5,
    look: Look | None = None,
) -> Path:
    """Write scenes as a COCO panoptic data set: `images/*.png`, `panoptic/*.png` and `panoptic.json`, returned.

    The scenes are those of `scenes_fixture` but for its last, which is empty.
    """
    folder = Path(folder)
    scenes = _written(folder / "images", seed, [objects] * images, size, classes, look)
    return save_panoptic(folder / "panoptic.json", ((record, scene.panoptic) for record, scene in scenes))


def save_panoptic(path: str | os.PathLike[str], maps: Iterable[tuple[ImageRecord, Panoptic]]) -> Path:
    """Write panoptic maps in COCO's form: a JSON file, and beside it a folder of its name with a PNG for each map.

    In the PNGs a segment's id is R + 256 G + 65536 B, so ids must be below 2^24. All maps have the same classes.
    Raises ConfigError where they do not, where an id is too large, or where there is no map.
    """
    target, images, rows = Path(path), [], []
    first: Panoptic | None = None
    for record, panoptic in maps:
        first = first or panoptic
        if panoptic.classes != first.classes or panoptic.things != first.things:
            raise ConfigError(
                f"{target}: all panoptic maps of a file have the same classes; {record.file_name} has not."
            )
        name = f"{Path(record.file_name).stem}.png"
        try:
            image = panoptic.to_rgb()
        except DataError as error:
            raise ConfigError(f"{target}: {record.file_name}: {error}") from error
        media.write_image(target.with_suffix("") / name, image)
        images.append(image_row(record, record.file_name))
        rows.append({"image_id": record.id, "file_name": name, "segments_info": panoptic.to_coco()})
    if first is None:
        raise ConfigError(f"{target}: a panoptic file needs at least one map to know its classes.")
    categories = [
        {"id": i, "name": n, "isthing": int(t)}
        for i, n, t in zip(first.classes.ids, first.classes.names, first.things, strict=True)
    ]
    write_sections(target, {"images": images, "annotations": rows, "categories": categories})
    return target
