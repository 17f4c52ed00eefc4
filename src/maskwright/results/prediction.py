"""What was found in one image, and its forms for other programs.

Letters: N instances, P landmarks, H W image. Boxes are xyxy, absolute, continuous pixels.

The file that `save` writes is JSON, one line per instance:

    {"format": "maskwright.prediction", "version": 1, "image": "cells.png", "size": [H, W],
     "classes": [{"id": 1, "name": "nucleus"}, ...], "masks": true, "keypoints": null, "track_ids": false,
     "box_scores": false, "instances": [{"label": 0, "name": "nucleus", "score": 0.93, "box": [x0, y0, x1, y1],
                    "segmentation": {"size": [H, W], "counts": "..."}}, ...]}

`label` counts the classes from 0; `segmentation` is a COCO compressed RLE; a class with landmarks has the fields of
`types.Landmarks` under `landmarks`. The head says what the rows carry: `masks`
(true: each has a segmentation), `keypoints` (how many landmarks: each row has that many [x, y, score], or null),
`track_ids` (true: each has a `track_id`) and `box_scores` (true: each has a `box_score` beside its `score`; files
without the key have none). Where the model names the class of every pixel, the head has `semantic`, a list with
{"label": 0, "segmentation": {...}} for each class in the image, and `semantic_classes` as `classes`; where a limit left
something out, it has `limits`, and where the image was computed in tiles `tiles` (see `Prediction`). Every number is
the shortest decimal that gives the same float32 back.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np
from numpy.typing import NDArray

from maskwright import media
from maskwright.atomic import replacing
from maskwright.codec import decode, encode
from maskwright.errors import ConfigError, DataError, MaskwrightError, MissingExtraError
from maskwright.ops import masks as mask_ops
from maskwright.results import labelme
from maskwright.results.display import Shown
from maskwright.results.panoptic import OVERLAP, SCORE, STUFF_AREA, combine
from maskwright.types import Classes, IntArray, Landmarks, Masks, Panoptic, Size
from maskwright.wording import counted

FORMAT = "maskwright.prediction"
VERSION = 1

MAX_INSTANCES, CANDIDATES, IN_TILE = "max_instances", "candidates", "tile"
"""Names of limits, see `Prediction.limits`."""

MISSING = "Objects are probably missing, a limit was reached"


@dataclass(eq=False, repr=False)
class Prediction(Shown):
    """The instances found in one image, and their forms for other programs; coordinates in that image's pixels.

    Fields and checks are those of `Instances`. `prediction[rows]` is a Prediction again.
    semantic: (H, W) int64 the class of each pixel, -1 where there is none, or None; of the image, whatever the rows.
    semantic_classes: those of its labels, or None where they are not known. stuff_area: pixels of the image that one of
    them needs to become a segment of `panoptic`.
    limits: the limits that left something out, so that objects are probably missing, with the score of the best that
    was left out (or of the last that was kept): "max_instances", the most instances of an image; "candidates", boxes
    that the network would have looked at next. A larger `max_instances` raises both; "tile": what is found in one tile.
    tiles: where the image was computed in tiles, a sentence that says how and why; else empty.
    image: the image that was predicted, as it was given to `predict`, a path or the pixels; None where it is not known.
    """

    semantic: IntArray | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    semantic_classes: Classes | None = None
    tiles: str = ""
    stuff_area: int = STUFF_AREA

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.semantic is not None:
            self.semantic = np.asarray(self.semantic, np.int64)
            if self.semantic.shape != self.size:
                raise DataError(f"Prediction: semantic is {self.semantic.shape}, the image is {self.size}.")

    def panoptic(self, *, overlap: float = OVERLAP, stuff_area: int | None = None, score: float = SCORE) -> Panoptic:
        """One segment for every pixel, of the instances and the semantic map: see `results.panoptic.combine`.

        stuff_area: None takes the model's. Raises DataError where the model gave no masks or no semantic map.
        """
        if self.semantic is None or self.semantic_classes is None:
            raise DataError("There is no semantic map with classes. A model such as 'panoptic_fpn_r50' gives one.")
        known, area = self.semantic_classes, self.stuff_area if stuff_area is None else stuff_area
        return combine(self, self.semantic, known, overlap=overlap, stuff_area=area, score=score)

    @property
    def limit_note(self) -> str:
        """A sentence on the limits that were reached; empty where none was."""
        return f"{MISSING}: {reached(self.limits, len(self))}. {remedy(self.limits)}" if self.limits else ""

    def to_coco(self, image_id: int | str | None = None) -> list[dict[str, Any]]:
        """COCO result rows, one per instance: what COCO evaluation reads.

        `bbox` is x, y, width, height; `category_id` is the data set's own id; `area` counts the mask's pixels (the
        box's area where there are no masks). `image_id` is written only if given; evaluation needs it. `score` ranks
        the masks; a result file has no room for `box_scores`.
        """
        rows = []
        rles = None if self.crops is None else mask_ops.encode(self.crops)
        pixels = areas(self)
        for i, (x0, y0, x1, y1) in enumerate(self.boxes.astype(np.float64).tolist()):
            row: dict[str, Any] = {} if image_id is None else {"image_id": image_id}
            row["category_id"] = self.classes.ids[int(self.labels[i])]
            row["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            row["score"] = decimal(self.scores[i])
            row["area"] = float(pixels[i])
            if rles is not None:
                row["segmentation"] = rles[i]
            if self.keypoints is not None:
                row["keypoints"] = [decimal(v) for v in self.keypoints[i].ravel()]
            if self.track_ids is not None:
                row["track_id"] = int(self.track_ids[i])
            rows.append(row)
        return rows

    def to_polygons(self) -> list[list[dict[str, Any]]]:
        """The exact outline of each instance: a list of parts {"outer": [[x, y], ...], "holes": [[[x, y], ...], ...]}.

        Vertices are pixel corners; a ring is not closed (its last point is not its first). Raises DataError where
        the model finds no masks.
        """
        return [
            [{"outer": part.outer.tolist(), "holes": [hole.tolist() for hole in part.holes]} for part in parts]
            for parts in mask_ops.to_polygons(self._needed_masks("Polygons"))
        ]

    def to_labelme(self, image_path: str | os.PathLike[str]) -> dict[str, Any]:
        """A LabelMe 5 annotation of the image at `image_path` (which LabelMe reads relative to the JSON file).

        LabelMe's polygons have neither parts nor holes. Each part becomes a polygon of its own, and the parts of one
        instance share a `group_id`. A hole is joined to its outline by a seam of zero width, so that the polygon fills
        exactly the instance's pixels and can be edited. Without masks: rectangles. Landmarks with a score above 0 are
        points with the `group_id` of their instance, labelled with their names.
        """
        return labelme.document(self, os.fspath(image_path))

    def to_supervision(self) -> Any:
        """A `supervision.Detections` whose masks stay cropped (`CompactMask`): memory follows the objects.

        `data` has the class names, and the landmarks (N, P, 3) as `keypoints` where there are some.
        Raises MissingExtraError where supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingExtraError("supervision", "supervision", "Prediction.to_supervision") from error
        mask = None
        if self.crops is not None:
            inside = np.maximum(self.crops.boxes() - [0, 0, 1, 1], 0)  # supervision counts the last pixel in
            mask = supervision.CompactMask.from_coco_rle(mask_ops.encode(self.crops), inside, self.size)
        return supervision.Detections(
            xyxy=self.boxes.copy(),
            mask=mask,
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            tracker_id=None if self.track_ids is None else np.asarray(self.track_ids),
            data={
                "class_name": np.array([self.classes[int(label)] for label in self.labels], dtype=str),
                **({} if self.keypoints is None else {"keypoints": self.keypoints.copy()}),
            },
        )

    def save(self, path: str | os.PathLike[str], image: Any = None) -> Path:
        """Write the JSON described at the head of this module, whole or not at all; `load` reads it.

        path: ends in .json; with the suffix of an image, such as .png, the overlay is written instead. image: in JSON,
        written as the image's source; of an overlay, as for `draw`. Raises ConfigError for another suffix and for an
        overlay without an image, DataError for a box that is not finite, OSError where the file
        cannot be written.
        """
        if (suffix := Path(path).suffix.lower()) in media.SAVED_AS:
            return self.save_overlay(Path(path), image)
        if suffix != ".json":
            raise ConfigError(
                f"{os.fspath(path)}: a prediction is saved as .json, or as an overlay ({', '.join(media.SAVED_AS)}). "
                "Other forms: to_coco, to_polygons, to_labelme, to_pandas, and those that `maskwright predict` writes."
            )
        if image is not None and not isinstance(image, (str, os.PathLike)):
            raise ConfigError(
                f"image is written into {os.fspath(path)}, so it is a path or an address; got {type(image).__name__}.",
                options=("image",),
            )
        rows = self.rows(os.fspath(path))
        with text_file(path) as file:
            file.write(json.dumps(self.head(image), ensure_ascii=False)[:-1] + ', "instances": [')
            for i, row in enumerate(rows):
                file.write(("\n" if i == 0 else ",\n") + json.dumps(row, ensure_ascii=False, allow_nan=False))
            file.write("\n]}\n")
        return Path(path)

    def head(self, image: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """The document without its instances. image: what is written as the image's source."""
        source = None if image is None else os.fspath(image)
        head = {"format": FORMAT, "version": VERSION, "image": source, "size": list(self.size)}
        return {**head, **self.columns(), **self.beside()}

    def columns(self) -> dict[str, Any]:
        """The part of the head that says what the rows carry, and the classes."""
        return {
            "classes": _class_rows(self.classes),
            "masks": self.crops is not None,
            "keypoints": None if self.keypoints is None else int(self.keypoints.shape[1]),
            "track_ids": self.track_ids is not None,
            "box_scores": self.box_scores is not None,
        }

    def beside(self) -> dict[str, Any]:
        """The part of the head that says what was found beside the instances; empty where nothing was."""
        out: dict[str, Any] = {} if self.semantic is None else {"semantic": _semantic_rows(self.semantic)}
        if self.semantic_classes is not None:
            out |= {"semantic_classes": _class_rows(self.semantic_classes), "stuff_area": self.stuff_area}
        out |= {"tiles": self.tiles} if self.tiles else {}
        return {**out, **({"limits": {k: decimal(v) for k, v in self.limits.items()}} if self.limits else {})}

    def rows(self, where: str) -> list[dict[str, Any]]:
        """The instances as they are written. Raises DataError, naming `where`, for a box that is not finite."""
        if not np.isfinite(self.boxes).all():
            bad = int(np.argmin(np.isfinite(self.boxes).all(axis=1)))
            raise DataError(f"{where}: instance {bad} has the box {self.boxes[bad].tolist()}, not saved.")
        rles = [None] * len(self) if self.crops is None else mask_ops.encode(self.crops)
        return [self._row(i, rle) for i, rle in enumerate(rles)]

    def _row(self, i: int, rle: dict[str, Any] | None) -> dict[str, Any]:
        label = int(self.labels[i])
        row: dict[str, Any] = {"label": label, "name": self.classes[label], "score": decimal(self.scores[i])}
        if self.box_scores is not None:
            row["box_score"] = decimal(self.box_scores[i])
        row["box"] = [decimal(v) for v in self.boxes[i]]
        if self.keypoints is not None:
            row["keypoints"] = [[decimal(v) for v in point] for point in self.keypoints[i]]
        if self.track_ids is not None:
            row["track_id"] = int(self.track_ids[i])
        if rle is not None:
            row["segmentation"] = rle
        return row

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. Raises DataError, naming the file and the place, where it is something else."""
        name = os.fspath(path)
        try:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
        except FileNotFoundError as error:
            raise DataError(f"{name}: there is no such file.") from error
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{name}: not a readable JSON file: {error}. Predict the image again.") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise DataError(f'{name}: not a prediction saved by maskwright: expected "format": "{FORMAT}" at its head.')
        if document.get("version") != VERSION:
            raise DataError(
                f"{name}: format version {document.get('version')!r}, this maskwright reads version {VERSION}. "
                "Read it with the maskwright that wrote it."
            )
        return cls.of_document(document, name)

    @classmethod
    def of_document(cls, document: dict[str, Any], where: str) -> Self:
        """What the JSON of this form says. Raises DataError, naming `where`, for what is missing or wrong."""
        try:
            return cls(**_fields(document))
        except KeyError as error:
            raise DataError(f"{where}: the key {error} is missing.") from error
        except (MaskwrightError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
            raise DataError(f"{where}: {error}") from error

    def _needed_masks(self, purpose: str) -> Masks:
        if self.crops is None:
            raise DataError(f"{purpose} need masks, and this model finds boxes only. Use a model that finds masks.")
        return self.crops


def reached(limits: Mapping[str, float], count: int) -> str:
    """Which limits were reached where `count` instances were found, in words."""
    words = {MAX_INSTANCES: counted(count, "instance"), CANDIDATES: "candidates that the network compares",
             IN_TILE: "objects of one tile"}  # fmt: skip
    return " and ".join(words.get(name, name) for name in limits)


def remedy(limits: Collection[str]) -> str:
    """What raises these limits."""
    if IN_TILE in limits:
        return "Smaller tiles or a larger max_instances find more."
    return "A larger max_instances finds more." if limits else ""


@contextmanager
def text_file(path: str | os.PathLike[str], keep_part: bool = False) -> Iterator[TextIO]:
    """A UTF-8 text file to write that replaces `path` if the block ends without an error; see `atomic.replacing`."""
    with replacing(path, keep_part=keep_part) as part, open(part, "w", encoding="utf-8", newline="") as file:
        yield file


def decimal(value: Any) -> float:
    """The shortest decimal that is the same float32."""
    return float(str(np.float32(value)))


def areas(prediction: Prediction) -> NDArray[np.float64]:
    """(N,) mask pixels, or box areas where there are no masks."""
    if prediction.crops is not None:
        return prediction.crops.areas().astype(np.float64)
    boxes = prediction.boxes.astype(np.float64)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _class_rows(classes: Classes) -> list[dict[str, Any]]:
    return [
        {"id": i, "name": name, **({} if marks is None else {"landmarks": encode(marks)})}
        for i, name, marks in zip(classes.ids, classes, classes.landmarks, strict=True)
    ]


def _classes_of(rows: list[dict[str, Any]]) -> Classes:
    """What `_class_rows` was made of."""
    marks = [None if c.get("landmarks") is None else decode(Landmarks, c["landmarks"]) for c in rows]
    return Classes([c["name"] for c in rows], [c["id"] for c in rows], marks)


def _semantic_rows(semantic: IntArray) -> list[dict[str, Any]]:
    """The pixels of each class in a map, one class after the other; -1 is none."""
    labels = (int(label) for label in np.unique(semantic) if label >= 0)
    return [
        {"label": label, "segmentation": mask_ops.encode(Masks.from_dense((semantic == label)[None]))[0]}
        for label in labels
    ]


def _semantic_of(rows: list[dict[str, Any]], size: Size) -> IntArray:
    """What `_semantic_rows` was made of."""
    if size[0] * size[1] > media.MAX_PIXELS:
        raise DataError(f"a semantic map of {size[0]}x{size[1]} pixels; at most {media.MAX_PIXELS} are read.")
    out = np.full(size, -1, np.int64)
    masks = mask_ops.decode([row["segmentation"] for row in rows], size)
    for row, (top, left), crop in zip(rows, masks.corners, masks.bitmaps, strict=True):
        out[top : top + crop.shape[0], left : left + crop.shape[1]][crop] = int(row["label"])
    return out


def _fields(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Prediction from its JSON document."""
    size: Size = (int(document["size"][0]), int(document["size"][1]))
    rows, landmarks = document["instances"], document["keypoints"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"instances must be a list of objects, got {str(rows)[:60]}.")
    semantic = document.get("semantic_classes")
    return {
        "boxes": _column(rows, "box", (4,)),
        "scores": _column(rows, "score", ()),
        "labels": np.array([int(row["label"]) for row in rows], np.int64),
        "classes": _classes_of(document["classes"]),
        "semantic_classes": None if semantic is None else _classes_of(semantic),
        "size": size,
        "crops": mask_ops.decode([row["segmentation"] for row in rows], size) if document["masks"] else None,
        "keypoints": None if landmarks is None else _column(rows, "keypoints", (int(landmarks), 3)),
        "track_ids": np.array([row["track_id"] for row in rows], np.int64) if document["track_ids"] else None,
        "box_scores": _column(rows, "box_score", ()) if document.get("box_scores") else None,
        "semantic": _semantic_of(document["semantic"], size) if "semantic" in document else None,
        "tiles": str(document.get("tiles", "")),
        "stuff_area": int(document.get("stuff_area", STUFF_AREA)),
        "limits": {str(name): float(score) for name, score in document.get("limits", {}).items()},
    }


def _column(rows: list[dict[str, Any]], key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """(N, *shape) float32 of one key of every row."""
    values = [np.asarray(row[key], np.float64) for row in rows]
    for i, value in enumerate(values):
        if value.shape != shape:
            raise DataError(f"instance {i}: {key} has shape {value.shape}, expected {shape}.")
        if not (np.abs(value) <= np.finfo(np.float32).max).all():
            raise DataError(f"instance {i}: {key} is not finite: {str(rows[i][key])[:60]}.")
    return np.array(values, np.float32).reshape(len(rows), *shape)
