"""Writing YOLO label files as Ultralytics reads them: data.yaml, images/, labels/.

Letters: H W image, n points of an outline, P landmarks. `read` describes the lines.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from maskwright.atomic import new_folder
from maskwright.data.dataset import Annotation, Dataset, usual_part
from maskwright.data.formats.shared.image_files import copy_images, inner_names, require_distinct
from maskwright.data.formats.shared.losses import lost_fields, sentence, sentences
from maskwright.data.formats.shared.saving import write_text
from maskwright.data.formats.yolo.description import STAND_IN
from maskwright.errors import ConfigError
from maskwright.ops import masks as mask_ops
from maskwright.types import Landmarks, Size


def save(place: Path, dataset: Dataset, copy: bool = True) -> tuple[str, ...]:
    """Write data.yaml, images/PART/... and labels/PART/...; PART is train, or what the images' "split" says.

    data.yaml must name train and val: where one of them has no images, it names those of another (`STAND_IN`).
    Outlines are written as one polygon each: parts and holes are joined by seams, lines that are passed in both
    directions and enclose nothing. Landmarks are written where no object has an outline and all classes have equally
    many.
    """
    if not copy:
        raise ConfigError("YOLO finds labels by where the images lie, so the images must be copied too.")
    dataset.require_files()
    parts = _parts(dataset)
    names = _names(dataset, parts)
    require_distinct(dataset, [str(Path(n).with_suffix(".txt")) for n in names], "the label file")
    marks = _common_landmarks(dataset)
    lost: Counter[str] = Counter()
    with new_folder(place) as folder:
        for i, name in enumerate(names):
            lines = _lines(dataset, i, marks, lost)
            write_text((folder / "labels" / name).with_suffix(".txt"), "".join(line + "\n" for line in lines))
        copy_images(dataset, folder / "images", names)
        write_text(folder / "data.yaml", _yaml(dataset, parts, marks))
    fields = lost_fields(dataset, boxes="", landmarks=marks is None)
    return (*sentences(lost), *_lost_landmarks(dataset, marks), *fields)


# ---- the layout -----------------------------------------------------------------------------------------------------


def _parts(dataset: Dataset) -> list[str]:
    """The part of each image; train for all where one is in none of YOLO's parts."""
    parts = [usual_part(record.extra.get("split")) for record in dataset.images]
    return parts if all(parts) else ["train"] * len(parts)


def _names(dataset: Dataset, parts: Sequence[str]) -> list[str]:
    """PART/name of each image; if its name begins with PART/ already, that is not repeated.

    Folders called "images" are dropped: readers replace the last one of the path by "labels" to find the label file.
    """
    paths = [PurePosixPath(name) for name in inner_names(dataset)]
    names = ["/".join([*(f for f in p.parts[:-1] if f != "images"), p.name]) for p in paths]
    return [n if n.startswith(f"{part}/") else f"{part}/{n}" for n, part in zip(names, parts, strict=True)]


def _yaml(dataset: Dataset, parts: Sequence[str], marks: Landmarks | None) -> str:
    import yaml  # type: ignore[import-untyped]

    used = [part for part in ("train", "val", "test") if part in parts] or ["train"]
    table: dict[str, object] = {part: f"images/{part}" for part in used}
    missing = [part for part in ("train", "val") if part not in used]  # both must be there
    table |= dict.fromkeys(missing, f"images/{used[0]}")
    if missing:
        table[STAND_IN] = missing
    table["names"] = dict(enumerate(dataset.classes.names))
    if marks is not None:
        table["kpt_shape"] = [len(marks), 3]
        table["flip_idx"] = list(marks.mirrored or range(len(marks)))
        table["kpt_names"] = {k: list((m or marks).names) for k, m in enumerate(dataset.classes.landmarks)}
    text: str = yaml.safe_dump(table, sort_keys=False, allow_unicode=True)
    if not missing:
        return text
    remark = f"# No images of their own: {', '.join(missing)} (those of {used[0]} stand in, as both must be named)."
    return f"{remark}\n{text}"


# ---- the lines ------------------------------------------------------------------------------------------------------


def _common_landmarks(dataset: Dataset) -> Landmarks | None:
    """The landmarks of a pose data set, None where lines hold outlines or classes differ in number or mirroring."""
    marks = [m for _, m in dataset.marked]
    equal = len({(len(m), m.mirrored) for m in marks}) == 1
    outlined = any(a.segmentation is not None for rows in dataset.annotations.values() for a in rows)
    return marks[0] if equal and not outlined else None


def _lost_landmarks(dataset: Dataset, marks: Landmarks | None) -> tuple[str, ...]:
    """What is lost of the landmarks: everything where the lines have none, their links in any case."""
    if marks is None:
        named = [name for name, _ in dataset.marked]
        return sentence(len(named), "class{es} without the landmarks' names and links", named)
    linked = [name for name, m in dataset.marked if m.links]
    return sentence(len(linked), "class{es} without the links between landmarks: YOLO has none", linked)


def _lines(dataset: Dataset, i: int, marks: Landmarks | None, lost: Counter[str]) -> list[str]:
    rows = [a for a in dataset.of(i) if not a.crowd]
    size = dataset.images[i].size
    out = []
    for a, ring in zip(rows, _rings(dataset, i, rows), strict=True):
        if ring is None and a.segmentation is not None:
            lost["object{s} of no pixels written as a box"] += 1
        values = _box(a, size) if ring is None else (ring / [size[1], size[0]]).reshape(-1).tolist()
        words = [str(a.label), *(_number(v) for v in values)]
        out.append(" ".join(words + ([] if marks is None else _points(a, size, marks))))
    return out


def _rings(dataset: Dataset, i: int, rows: Sequence[Annotation]) -> list[NDArray[np.float64] | None]:
    """(n, 2) one ring for each annotation, None where it has only a box or no pixels.

    A single polygon inside the image is taken as it is, anything else as the exact outline of its pixels.
    """
    height, width = dataset.images[i].size
    rings: list[NDArray[np.float64] | None] = [None] * len(rows)
    drawn = []
    for k, a in enumerate(rows):
        if isinstance(a.segmentation, tuple) and len(a.segmentation) == 1:
            points = a.segmentation[0].reshape(-1, 2)
            if points.min() >= 0 and points[:, 0].max() <= width and points[:, 1].max() <= height:
                rings[k] = points
                continue
        if a.segmentation is not None:
            drawn.append(k)
    masks = dataset.draw(i, [rows[k] for k in drawn])
    for k, parts in zip(drawn, mask_ops.to_polygons(masks), strict=True):
        borders = [border for part in parts for border in (part.outer, *part.holes)]
        if borders:
            rings[k] = mask_ops.with_seams(mask_ops.PolygonPart(borders[0], tuple(borders[1:])))
    return rings


def _box(a: Annotation, size: Size) -> list[float]:
    """cx cy w h in 0..1, cut at the image's border, because Ultralytics refuses values beyond."""
    scale = np.array([size[1], size[0]] * 2, np.float64)
    x1, y1, x2, y2 = np.clip(np.array(a.box) / scale, 0, 1).tolist()
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def _points(a: Annotation, size: Size, marks: Landmarks) -> list[str]:
    points = np.zeros((len(marks), 3)) if a.keypoints is None else a.keypoints
    return [_number(v) for x, y, seen in points.tolist() for v in (x / size[1], y / size[0], seen)]


def _number(value: float) -> str:
    """Eight decimals: a thousandth of a pixel at 100 000 pixels."""
    return f"{value:.8f}".rstrip("0").rstrip(".")
