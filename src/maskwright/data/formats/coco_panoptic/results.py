"""Panoptic results: a JSON file whose annotations have segments, and a PNG for each image, as in the annotations."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.data.dataset import Dataset, ImageRecord
from maskwright.data.formats.coco.layout import PANOPTIC
from maskwright.data.formats.coco.results import read_score
from maskwright.data.formats.coco_panoptic.maps import read_ids
from maskwright.data.formats.coco_panoptic.segments import Info, folder_of_maps, infos_of, require_equal
from maskwright.data.formats.shared.fields import Record, short
from maskwright.errors import DataError
from maskwright.types import Classes, Panoptic, Segment, ranked


def are_results(content: Any) -> bool:
    """Whether parsed JSON has annotations with segments."""
    rows = content.get("annotations") if isinstance(content, dict) else None
    return isinstance(rows, list) and any(isinstance(row, dict) and PANOPTIC in row for row in rows)


@dataclass(frozen=True)
class FoundMaps:
    """Reads what was found in an image when it is asked for.

    rows: by image id, where it is stated, the file of the map and its segments. classes, things: of the data set.
    """

    rows: Mapping[int, tuple[Record, Path, Mapping[int, Info]]]
    classes: Classes
    things: tuple[bool, ...]

    def __call__(self, record: ImageRecord) -> Panoptic | None:
        """The segments; None where the file has none for this image. Raises DataError for a bad map."""
        if record.id not in self.rows:
            return None
        at, path, infos = self.rows[record.id]
        ids = read_ids(path, record.size, record.file_name)
        values, _, areas = ranked(ids)
        inside = {int(k): int(area) for k, area in zip(values, areas, strict=True) if k}
        require_equal(at, path, inside, infos)
        segments = []
        for number, (label, crowd, row) in infos.items():
            score = 1.0 if row.get("score") is None else read_score(at, row)
            segments.append(Segment(number, label, score, crowd))
        return Panoptic(ids, tuple(segments), self.classes, self.things)


def read_results(source: Path, content: Mapping[str, Any], dataset: Dataset, classes: Classes) -> FoundMaps:
    """The results of a parsed file. classes: of the segments of the data set, things first.

    Raises DataError, naming the row, for an image or category that the data set does not have, one image twice, and
    where the folder of the maps is not found.
    """
    folder, images = folder_of_maps(source, content["annotations"]), {r.id: r for r in dataset.images}
    label_of, found = {number: label for label, number in enumerate(classes.ids)}, {}
    for position, row in enumerate(content["annotations"]):
        at = Record(source, f"annotation {position} of the list")
        image = at.whole(at.table(row), "image_id")
        if image not in images:
            text = f"image_id {image} is not an image of {dataset.source}. Do the two files belong together?"
            raise at.fault(text)
        if image in found:
            raise at.fault(f"image_id {image} has an annotation already. Each image has one, with all segments.")
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            raise at.fault(f"'file_name' must be the name of the panoptic map, got {short(name)}.")
        found[image] = at, folder / name, infos_of(at, row, label_of, classes)
    if not found:
        raise DataError(f"{source}: there are no annotations, so nothing was found in any image.")
    things = len(dataset.classes)
    return FoundMaps(found, classes, (True,) * things + (False,) * (len(classes) - things))
