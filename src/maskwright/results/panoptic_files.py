"""The files of panoptic maps: COCO's JSON with a PNG for each image, and overlays."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright import draw, media
from maskwright.errors import DataError
from maskwright.results.prediction import Prediction, decimal, text_file

if TYPE_CHECKING:
    from maskwright.results.outputs import LoadedImage


@contextmanager
def coco_panoptic(path: Path) -> "Iterator[Callable[[Prediction, LoadedImage, Path], None]]":
    """COCO's panoptic format: a JSON file, and beside it a folder of its name with a PNG for each image.

    It is a data set too, which the format `coco_panoptic` reads. A segment has the score of its instance. If the run is
    interrupted, the rows of the images done so far stay, one per line, in `path`.part.
    """
    images: list[dict[str, Any]] = []
    kinds: list[dict[str, Any]] = []
    with text_file(path, keep_part=True) as file:
        file.write('{"annotations": [')

        def save(prediction: Prediction, image: "LoadedImage", path: Path) -> None:
            found = prediction.panoptic(score=0.0)  # the run has chosen the instances
            name = f"{image.item.name}.png"
            media.write_image(path.with_suffix("") / name, found.to_rgb())
            scores = {s.id: decimal(s.score) for s in found.segments if found.things[s.label]}
            info = [{**row, **({"score": scores[row["id"]]} if row["id"] in scores else {})} for row in found.to_coco()]
            row = {"image_id": image.item.image_id, "file_name": name, "segments_info": info}
            file.write((",\n" if images else "\n") + json.dumps(row, ensure_ascii=False))
            file.flush()
            height, width = found.size
            own = {"id": image.item.image_id, "file_name": image.item.shown, "height": height, "width": width}
            images.append(own)
            classes = zip(found.classes.ids, found.classes, found.things, strict=True)
            kinds[:] = [{"id": i, "name": kind, "isthing": int(thing)} for i, kind, thing in classes]

        yield save
        for name, rows in (("images", images), ("categories", kinds)):
            lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
            file.write(f'\n],\n"{name}": [\n{lines}')
        file.write("\n]}\n")


def save_segments(prediction: Prediction, image: "LoadedImage", path: Path) -> None:
    """The image with the segments of all its pixels drawn on it."""
    if isinstance(image.pixels, media.Windows):
        raise DataError(f"{image.item.shown}: is read in windows, and segments are drawn on whole images.")
    media.write_image(path, draw.segments(image.pixels, prediction.panoptic(score=0.0)))
