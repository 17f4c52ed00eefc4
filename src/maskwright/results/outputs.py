"""The files of a prediction run: one table, `WRITERS`, has the place and the writer of each kind.

A kind whose pattern has {name} makes a file (or folder) for each image; the others make one file for the whole run,
written during the run. Every file is written under another name and then renamed: a file under its final name is
complete. Coordinates are the image's pixels.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwright import draw, media
from maskwright.errors import ConfigError, suggest
from maskwright.results.panoptic_files import coco_panoptic, save_segments
from maskwright.results.prediction import Prediction, decimal, text_file
from maskwright.results.tables import coco_results, csv_table, cvat_annotations, landmark_table
from maskwright.types import Size


@dataclass(frozen=True)
class RunImage:
    """An image of a run before it is read, and the name of its results.

    source: the path or address to read. name: its results' file name without suffix, unique in the run.
    image_id: its number in COCO results. page: of a file that holds several images, from 1; else None.
    """

    source: Path | str
    name: str
    image_id: int
    page: int | None = None

    @property
    def shown(self) -> str:
        """The source as it is printed and written."""
        return printable(self.source) + ("" if self.page is None else f" page {self.page}")


@dataclass(frozen=True)
class LoadedImage:
    """An image of a run with its pixels, (H, W, 3) uint8 RGB, or open to be read in windows. colour: of overlays, as in
    `draw.overlay`."""

    item: RunImage
    pixels: NDArray[np.uint8] | media.Windows
    colour: draw.ColourBy | None = None

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.pixels.size if isinstance(self.pixels, media.Windows) else self.pixels.shape[:2]


Writer = Callable[[Prediction, LoadedImage, Path], None]
"""Writes the prediction of one image; the path is the place of its result of this kind."""


@dataclass(frozen=True)
class OutputKind:
    """One kind of result.

    pattern: its place under the output folder; {name} and {ext} are the image's ("jpg" for JPEG images, else
        "png"). about: for help texts. open: given the place of the run's file, a context whose value writes images.
        needs_masks: it cannot be made from boxes alone. needs_stuff: nor without the class of every pixel.
        needs_landmarks: nor without landmarks.
    """

    pattern: str
    about: str
    open: Callable[[Path], AbstractContextManager[Writer]]
    needs_masks: bool = False
    needs_stuff: bool = False
    needs_landmarks: bool = False

    def place(self, out: Path, image: RunImage) -> Path:
        """Where the result of this image (or of the whole run) goes."""
        jpeg = _suffix(image.source) in (".jpg", ".jpeg")
        return out / self.pattern.format(name=image.name, ext="jpg" if jpeg else "png")


# ---- one file for each image ------------------------------------------------------------------------------------


def save_overlay(prediction: Prediction, image: LoadedImage, path: Path) -> None:
    """The image with its instances drawn on it; of one that is read in windows a reduced copy."""
    pixels = image.pixels
    if isinstance(pixels, media.Windows):
        prediction = draw.reduced(prediction, pixels.reduction, pixels.overview.shape[:2])
    shown = pixels.overview if isinstance(pixels, media.Windows) else pixels
    media.write_image(path, draw.overlay(shown, prediction, colour=image.colour))


def save_json(prediction: Prediction, image: LoadedImage, path: Path) -> None:
    """Our own JSON, which `Prediction.load` reads back."""
    prediction.save(path, image=image.item.shown)


def save_polygons(prediction: Prediction, image: LoadedImage, path: Path) -> None:
    """A GeoJSON FeatureCollection in pixels: a Polygon (one part) or MultiPolygon for each instance, with holes.

    An instance without any pixel has a null geometry. `objectType` and `classification` are what QuPath looks for.
    """
    with text_file(path) as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for i, feature in enumerate(features(prediction)):
            file.write(("\n" if i == 0 else ",\n") + json.dumps(feature, ensure_ascii=False))
        file.write("\n]}\n")


def features(prediction: Prediction) -> Iterator[dict[str, Any]]:
    """The GeoJSON Feature of each instance, as `save_polygons` writes it. Raises DataError without masks."""
    for i, parts in enumerate(prediction.to_polygons()):
        yield _feature(prediction, i, parts)


def _feature(prediction: Prediction, i: int, parts: list[dict[str, Any]]) -> dict[str, Any]:
    rings = [[_closed(ring) for ring in (part["outer"], *part["holes"])] for part in parts]
    geometry: dict[str, Any] | None = {"type": "MultiPolygon", "coordinates": rings}
    if len(rings) < 2:
        geometry = {"type": "Polygon", "coordinates": rings[0]} if rings else None
    label = int(prediction.labels[i])
    name = prediction.classes[label]
    properties = {
        "objectType": "annotation",
        "classification": {"name": name},
        "name": name,
        "label": label,
        "score": decimal(prediction.scores[i]),
        "box": [decimal(v) for v in prediction.boxes[i]],
    }
    if prediction.keypoints is not None:
        properties["keypoints"] = [[decimal(v) for v in point] for point in prediction.keypoints[i]]
    return {"type": "Feature", "id": i, "geometry": geometry, "properties": properties}


def _closed(ring: list[list[float]]) -> list[list[float]]:
    whole = [[int(v) if v == int(v) else v for v in point] for point in ring]
    return [*whole, whole[0]]


def save_labelme(prediction: Prediction, image: LoadedImage, path: Path) -> None:
    """LabelMe 5 JSON that finds its image where it lies; an address is written as it is.

    A page of a file with several is written inside, as LabelMe opens only the first.
    """
    source = image.item.source
    if image.item.page is not None:
        pixels = image.pixels
        if isinstance(pixels, media.Windows):
            pixels = pixels.read(0, 0, pixels.size)
        png = base64.b64encode(media.encoded(Image.fromarray(pixels), "PNG")).decode("ascii")
        content = {**prediction.to_labelme(f"{image.item.name}.png"), "imageData": png}
        with text_file(path) as file:
            json.dump(content, file, ensure_ascii=False, indent=1)
        return
    where = source if isinstance(source, str) else Path(os.path.relpath(source, path.parent)).as_posix()
    with text_file(path) as file:
        json.dump(prediction.to_labelme(printable(where)), file, ensure_ascii=False, indent=1)


def save_cutouts(prediction: Prediction, image: LoadedImage, path: Path) -> None:
    """A folder with one transparent PNG for each instance, named by its row and class; an older folder is replaced.

    An instance without any pixel has no PNG; its number is missing in the folder.
    """
    part = path.with_name(f".{path.name[:80]}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for i, cutout in enumerate(draw.cutouts(image.pixels, prediction)):
        if not cutout.size:
            continue
        name = _file_name(prediction.classes[int(prediction.labels[i])])
        media.write_image(part / f"{i:04d}_{name}.png", cutout)
    if path.exists():
        shutil.rmtree(path)
    part.rename(path)


def save_labels(prediction: Prediction, image: LoadedImage, path: Path) -> None:
    """16-bit grey PNG: 0 is background, k is row k - 1 of the prediction."""
    media.write_image(path, draw.label_map(prediction))


# ---- the table ----------------------------------------------------------------------------------------------------


def _each(save: Writer) -> Callable[[Path], AbstractContextManager[Writer]]:
    return lambda place: nullcontext(save)


WRITERS: dict[str, OutputKind] = {
    "overlay": OutputKind("overlay/{name}.{ext}", "the image with the instances drawn on it", _each(save_overlay)),
    "json": OutputKind("json/{name}.json", "boxes, scores, classes and COCO-RLE masks", _each(save_json)),
    "polygons": OutputKind("polygons/{name}.geojson", "outlines with holes, as GeoJSON", _each(save_polygons), True),
    "labelme": OutputKind("labelme/{name}.json", "annotations to correct in LabelMe", _each(save_labelme)),
    "cutouts": OutputKind("cutouts/{name}", "a folder of transparent PNGs, one an instance", _each(save_cutouts), True),
    "labels": OutputKind("labels/{name}.png", "16-bit PNG, pixel value = instance number", _each(save_labels), True),
    "segments": OutputKind("segments/{name}.{ext}", "the image with the segments of all pixels drawn on it",
                           _each(save_segments), True, True),
    "csv": OutputKind("measurements.csv", "one table of measurements for the run", csv_table),
    "landmarks": OutputKind("landmarks.csv", "one table of landmarks for the run", landmark_table,
                            needs_landmarks=True),
    "coco": OutputKind("results.json", "one file of COCO results for the run", coco_results),
    "cvat": OutputKind("annotations.xml", "annotations of the run to correct in CVAT", cvat_annotations),
    "panoptic": OutputKind("panoptic.json", "segments of all pixels: one file of COCO's panoptic format for the run, "
                           "and a PNG for each image", coco_panoptic, True, True),
}  # fmt: skip


def parse_kinds(words: Sequence[str], known: Collection[str] = WRITERS) -> tuple[str, ...]:
    """The kinds named in `words`, each a name or names joined by commas. Raises ConfigError for one not in `known`."""
    kinds = [word.strip() for text in words for word in text.split(",") if word.strip()]
    for kind in kinds:
        if kind not in known:
            raise ConfigError(f"There is no output kind '{kind}'.{suggest(kind, known)}", options=("save",))
    if not kinds:
        raise ConfigError(f"Nothing to save.{suggest('', known)}", options=("save",))
    return tuple(dict.fromkeys(kinds))


# ---- names --------------------------------------------------------------------------------------------------------


def run_images(
    sources: Sequence[Path | str], ids: Sequence[int] | None = None, pages: Sequence[int] | None = None
) -> list[RunImage]:
    """The images of a run, in order, with names and numbers that differ: one for each source, or for each page of it.

    pages: how many images each source holds; None: one. Names of pages end in "_page1", "_page2", ...
    The name is the file's stem. Equal stems (ignoring case), and all in their folders, get the folders in which they
    differ in front, joined by "__", and, where that is not enough, the suffix and then a number behind.
    image_id is that of `ids`; without it the stem where every stem is a number and they differ (COCO's own images),
    else 1, 2, ... in order.
    """
    if pages is not None and any(count > 1 for count in pages):
        return _run_pages(sources, pages)
    if ids is None:
        stems = [_parts(source)[-1] for source in sources]
        ids = [int(stem) for stem in stems if stem.isascii() and stem.isdigit() and len(stem) <= 18]
        if len(set(ids)) != len(sources):
            ids = range(1, len(sources) + 1)
    return [RunImage(s, name, k) for s, name, k in zip(sources, _unique_names(sources), ids, strict=True)]


def _run_pages(sources: Sequence[Path | str], pages: Sequence[int]) -> list[RunImage]:
    found: list[tuple[Path | str, str, int | None]] = []
    for source, name, count in zip(sources, _unique_names(sources), pages, strict=True):
        if count == 1:
            found.append((source, name, None))
            continue
        digits = len(str(count))
        found += [(source, _file_name(f"{name}_page{k:0{digits}}"), k) for k in range(1, count + 1)]
    names = _distinct([name for _, name, _ in found])
    return [RunImage(row[0], name, k, row[2]) for k, (row, name) in enumerate(zip(found, names, strict=True), 1)]


def _unique_names(sources: Sequence[Path | str]) -> list[str]:
    parts = [_parts(source) for source in sources]
    names = [_file_name(p[-1]) for p in parts]
    folders = {tuple(parts[i][:-1]) for i in _alike(names)}  # all images of these, so that frames of a clip sort
    alike = [i for i, p in enumerate(parts) if tuple(p[:-1]) in folders]
    levels = zip(*(parts[i][:-1] for i in alike), strict=False)
    common = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))
    for i in alike:
        names[i] = _file_name("__".join(parts[i][common:]))
    for i in _alike(names):
        names[i] = _file_name(names[i] + _suffix(sources[i]).replace(".", "_"))
    return _distinct(names)


def _distinct(names: list[str]) -> list[str]:
    """The names, with a number behind those that were taken by an earlier one."""
    taken: set[str] = set()
    for i, name in enumerate(names):
        number = 2
        while _key(names[i]) in taken:
            names[i] = f"{name}_{number}"
            number += 1
        taken.add(_key(names[i]))
    return names


def _alike(names: list[str]) -> list[int]:
    counts = Counter(_key(name) for name in names)
    return [i for i, name in enumerate(names) if counts[_key(name)] > 1]


def _key(name: str) -> str:
    """Names of equal key are the same file on some file systems."""
    return unicodedata.normalize("NFC", name).casefold()


def path_of(source: Path | str) -> PurePosixPath:
    """The source as a path; of an address, the host and the path."""
    if isinstance(source, str):
        address = urlsplit(source)
        return PurePosixPath(f"/{address.netloc}/{unquote(address.path)}")
    return PurePosixPath(source.absolute().as_posix())


def _parts(source: Path | str) -> list[str]:
    """Folders and stem."""
    path = path_of(source)
    return [*path.parent.parts, path.stem]


def _suffix(source: Path | str) -> str:
    return path_of(source).suffix.lower()


def printable(text: str | os.PathLike[str]) -> str:
    """A path as text; bytes that are not UTF-8 become a replacement character."""
    return os.fsencode(text).decode("utf-8", "replace")


def _file_name(text: str) -> str:
    """`text` as a file name on any system: no separators, no leading dots, at most 200 bytes."""
    name = re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", printable(text)).strip(" .") or "image"
    if len(name.encode()) > 200:
        mark = hashlib.sha256(name.encode()).hexdigest()[:10]
        name = f"{name.encode()[:180].decode(errors='ignore')}~{mark}"
    return name
