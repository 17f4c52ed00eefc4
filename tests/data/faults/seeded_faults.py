"""One way to break a clean data set for every fault that the check knows."""

import json
import shutil
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.data import synthetic
from maskwright.ops import masks as mask_ops
from maskwright.types import Masks

Content = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Seed:
    """How to break a set. also: other faults that come with it."""

    breaks: Callable[[Path, Content], object]
    also: frozenset[str] = frozenset()


def make(folder: Path) -> None:
    """A clean set in `folder` and a clean validation set in `folder`/val."""
    synthetic.coco_fixture(folder, 3)
    synthetic.coco_fixture(folder / "val", 4)


def seeded(clean: Path, folder: Path, seed: Seed) -> None:
    """A copy of the clean set that is broken in one way."""
    shutil.copytree(clean, folder)
    file = folder / "annotations.json"
    content = json.loads(file.read_text())
    seed.breaks(folder, content)
    file.write_text(content["text"] if "text" in content else json.dumps(content), encoding="utf-8")


# ---- what to break --------------------------------------------------------------------------------------------------


def polygon(content: Content) -> Row:
    """An object with one polygon."""
    rows = content["annotations"]
    row: Row = next(r for r in rows if isinstance(r["segmentation"], list) and len(r["segmentation"]) == 1)
    return row


def lengths(content: Content) -> Row:
    """An object with run lengths."""
    rows = content["annotations"]
    row: Row = next(r for r in rows if isinstance(r["segmentation"], dict) and not r["iscrowd"])
    return row


def crowd(content: Content) -> Row:
    row: Row = next(r for r in content["annotations"] if r["iscrowd"])
    return row


def image_of(content: Content, row: Row) -> Row:
    found: Row = next(p for p in content["images"] if p["id"] == row["image_id"])
    return found


def outline(row: Row, points: list[float], box: list[float] | None = None, area: float | None = None) -> None:
    """Another outline, box and area for an object."""
    x, y = points[0::2], points[1::2]
    row["segmentation"] = [points]
    row["bbox"] = box or [min(x), min(y), max(x) - min(x), max(y) - min(y)]
    row["area"] = (max(x) - min(x)) * (max(y) - min(y)) if area is None else area


def unpacked(row: Row) -> list[int]:
    """The run lengths of an object as a list."""
    bitmap = mask_ops.decode([row["segmentation"]]).dense()[0].astype(np.int8)
    flat = np.concatenate([[0], bitmap.T.reshape(-1), [2]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(n) for n in np.diff(np.concatenate([[0], edges]))]


def remove_objects(content: Content, image: Row) -> None:
    content["annotations"] = [r for r in content["annotations"] if r["image_id"] != image["id"]]


def repaint(folder: Path, name: str, change: Callable[[Image.Image], Image.Image], **options: Any) -> None:
    path = folder / "images" / name
    with Image.open(path) as image:
        image.load()
        changed = change(image)
    changed.save(path, **options)


def keypoints(content: Content, values: list[Any], **more: Any) -> None:
    """Two landmarks for the first class, and one object that has them."""
    row = polygon(content)
    kind = next(c for c in content["categories"] if c["id"] == row["category_id"])
    kind["keypoints"] = ["tip", "root"]
    row["keypoints"] = values
    row.update(more)


# ---- the breaks -----------------------------------------------------------------------------------------------------


def _rename(folder: Path, content: Content, old: str, new: str) -> None:
    target = folder / "images" / new
    target.parent.mkdir(parents=True, exist_ok=True)
    (folder / "images" / old).rename(target)


def _spelling(folder: Path, content: Content) -> None:
    _rename(folder, content, "0002.png", unicodedata.normalize("NFD", "sub/Größe 2.PNG"))
    content["images"][2]["file_name"] = unicodedata.normalize("NFC", "sub\\größe 2.png")


def _same_file(folder: Path, content: Content) -> None:
    """Half of the objects of an image under a second record of the same file."""
    first = content["images"][1]
    content["images"].append({**first, "id": 999})
    mine = [r for r in content["annotations"] if r["image_id"] == first["id"]]
    for row in mine[:2]:
        row["image_id"] = 999


def _same_image(folder: Path, content: Content) -> None:
    """A second file of the same pixels with the same annotations."""
    first = content["images"][1]
    with Image.open(folder / "images" / first["file_name"]) as image:
        image.save(folder / "images" / "again.bmp")
    content["images"].append({**first, "id": 999, "file_name": "again.bmp"})
    mine = [r for r in content["annotations"] if r["image_id"] == first["id"]]
    content["annotations"] += [{**r, "id": r["id"] + 500_000, "image_id": 999} for r in mine]


def exif(folder: Path, name: str, turn: int) -> None:
    """An orientation tag on an image whose pixels stay."""
    tags = Image.Exif()
    tags[0x0112] = turn
    repaint(folder, name, lambda p: p, exif=tags)


def _turned(folder: Path, content: Content) -> None:
    """Stored turned, annotated upright."""
    exif(folder, "0001.png", 6)
    image = content["images"][1]
    remove_objects(content, image)
    image["height"], image["width"] = image["width"], image["height"]


def _near(folder: Path, content: Content) -> None:
    with Image.open(folder / "val/images/0005.png") as image:
        pixels = np.asarray(image).astype(int)
    noise = np.random.default_rng(0).integers(-3, 4, pixels.shape)
    Image.fromarray((pixels + noise + 5).clip(0, 255).astype(np.uint8)).save(folder / "images/0005.png")


def _beyond(row: Row, content: Content) -> None:
    image = image_of(content, row)
    w, h = image["width"], image["height"]
    outline(row, [w - 10, h - 10, w + 8, h - 10, w + 8, h, w - 10, h])


def _exchanged(folder: Path, content: Content) -> None:
    """x and y exchanged in all polygons of one image; one object lies at the far right."""
    image = content["images"][1]
    w = image["width"]
    rows = [r for r in content["annotations"] if r["image_id"] == image["id"] and isinstance(r["segmentation"], list)]
    content["annotations"] = [r for r in content["annotations"] if r["image_id"] != image["id"] or r in rows]
    outline(rows[0], [w - 10, 20, w, 20, w, 30, w - 10, 30])
    for row in rows:
        x, y, dx, dy = row["bbox"]
        row["bbox"] = [y, x, dy, dx]
        row["segmentation"] = [[v for p in zip(s[1::2], s[0::2], strict=True) for v in p] for s in row["segmentation"]]


def _corners(folder: Path, content: Content) -> None:
    x, y, w, h = polygon(content)["bbox"]
    polygon(content)["bbox"] = [x, y, x + w, y + h]


def _normalised(folder: Path, content: Content) -> None:
    row = polygon(content)
    image = image_of(content, row)
    w, h = image["width"], image["height"]
    row["bbox"] = [v / (w, h)[k % 2] for k, v in enumerate(row["bbox"])]
    row["segmentation"] = [[v / (w, h)[k % 2] for k, v in enumerate(part)] for part in row["segmentation"]]
    row["area"] /= w * h


def _boxes(folder: Path, content: Content) -> None:
    """A set of boxes only, one of them beyond the border."""
    for row in content["annotations"]:
        del row["segmentation"]
        row["area"] = row["bbox"][2] * row["bbox"][3]
    content["annotations"][1]["bbox"] = [100, 50, 60, 30]


def _bow_tie(folder: Path, content: Content) -> None:
    outline(polygon(content), [40, 40, 60, 60, 60, 40, 40, 60], area=200)


def _rectangles(folder: Path, content: Content) -> None:
    for row in content["annotations"]:
        if not row["iscrowd"]:
            x, y, w, h = row["bbox"]
            outline(row, [x, y, x + w, y, x + w, y + h, x, y + h])


def _gif(folder: Path, content: Content) -> None:
    path = folder / "images/0001.png"
    with Image.open(path) as first, Image.open(folder / "images/0003.png") as second:
        first.save(folder / "images/0001.tif", save_all=True, append_images=[second.resize(first.size)])
    path.unlink()
    content["images"][1]["file_name"] = "0001.tif"


def _deep(folder: Path, top: int) -> None:
    path = folder / "images/0005.png"
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L")).astype(np.uint16)
    Image.fromarray((grey.astype(int) * top // int(grey.max())).astype(np.uint16)).save(path)


def _cmyk(folder: Path, content: Content) -> None:
    with Image.open(folder / "images/0005.png") as image:
        image.convert("CMYK").save(folder / "images/0005.jpg")
    (folder / "images/0005.png").unlink()
    content["images"][5]["file_name"] = "0005.jpg"


def _cmyk16(folder: Path, content: Content) -> None:
    with Image.open(folder / "images/0005.png") as image:
        inks = np.asarray(image.convert("CMYK")).astype(np.uint16) * 257
    tifffile = pytest.importorskip("tifffile", reason="it comes with scikit-image")
    tifffile.imwrite(folder / "images/0005.tif", inks, photometric="separated")
    (folder / "images/0005.png").unlink()
    content["images"][5]["file_name"] = "0005.tif"


def _clear(image: Image.Image) -> Image.Image:
    out = image.convert("RGBA")
    out.putpixel((0, 0), (1, 2, 3, 100))
    return out


def _large(folder: Path, content: Content) -> None:
    with Image.open(folder / "images/0005.png") as image:
        image.resize((5001, 5000)).save(folder / "images/0005.jpg")
    (folder / "images/0005.png").unlink()
    content["images"][5].update(width=5001, height=5000, file_name="0005.jpg")


def _oversized(folder: Path, content: Content) -> None:
    """An image whose header promises more than anything would hold."""
    path = folder / "images/0005.bmp"
    with Image.open(folder / "images/0005.png") as image:
        image.save(path)
    data = bytearray(path.read_bytes())
    data[18:26] = (60_000).to_bytes(4, "little") * 2
    path.write_bytes(data)
    (folder / "images/0005.png").unlink()
    content["images"][5].update(file_name="0005.bmp", width=60_000, height=60_000)


def _conflict(folder: Path, content: Content) -> None:
    row = polygon(content)
    other = next(c["id"] for c in content["categories"] if c["id"] != row["category_id"])
    content["annotations"].append({**row, "id": 77, "category_id": other})


def _inside(folder: Path, content: Content) -> None:
    row = polygon(content)
    outline(row, [40, 40, 80, 40, 80, 80, 40, 80])
    small: Row = {**row, "id": 77}
    outline(small, [50, 50, 60, 50, 60, 60, 50, 60])
    content["annotations"].append(small)


def _imbalance(folder: Path, content: Content) -> None:
    """150 small squares of one class in the empty image, one object left of another."""
    keep = polygon(content)
    content["annotations"] = [keep, *(r for r in content["annotations"] if r["category_id"] != keep["category_id"])]
    kind = next(c["id"] for c in content["categories"] if c["id"] != keep["category_id"])
    for k in range(150):
        x, y = 6 * (k % 15) + 10, 6 * (k // 15) + 10
        row: Row = {"id": 10_000 + k, "image_id": content["images"][5]["id"], "category_id": kind, "iscrowd": 0}
        outline(row, [x, y, x + 4, y, x + 2, y + 4], area=8)
        content["annotations"].append(row)


def _merge(row: Row, **values: Any) -> None:
    row.update(values)


def _drop(row: Row, *keys: str) -> None:
    for key in keys:
        del row[key]


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _cut(folder: Path, content: Content) -> None:
    path = folder / "images/0005.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _unsafe(folder: Path, content: Content) -> None:
    shutil.copy(folder / "images/0005.png", folder / "0005.png")
    (folder / "images/0005.png").unlink()
    content["images"][5]["file_name"] = "../0005.png"


def _odd(folder: Path, content: Content) -> None:
    polygon(content)["segmentation"][0].append(3.0)


def _repeat(part: list[float]) -> None:
    part[2:2] = part[:2]


def _squares(row: Row, count: int) -> None:
    """Several squares as one object."""
    corners = [(10 + 30 * (k % 3), 10 + 30 * (k // 3)) for k in range(count)]
    row["segmentation"] = [[x, y, x + 10, y, x + 10, y + 10, x, y + 10] for x, y in corners]
    w, h = (max(p[k] for p in corners) for k in (0, 1))
    row.update(bbox=[10, 10, w, h], area=100 * count)


def _foreground(folder: Path, content: Content) -> None:
    """One object of four squares in each image."""
    rows = {r["image_id"]: r for r in content["annotations"] if not r["iscrowd"]}
    content["annotations"] = list(rows.values())
    for row in rows.values():
        row["category_id"] = content["categories"][0]["id"]
        _squares(row, 4)


def _crowds(folder: Path, content: Content) -> None:
    """Six more squares in the empty image, all of them crowd regions."""
    for k in range(6):
        row: Row = {"id": 700 + k, "image_id": content["images"][5]["id"], "category_id": 1, "iscrowd": 1}
        mask = np.zeros((content["images"][5]["height"], content["images"][5]["width"]), np.bool_)
        mask[10:20, 12 * k : 12 * k + 10] = True
        row.update(segmentation=mask_ops.encode(Masks.from_dense(mask[None]))[0], bbox=[12 * k, 10, 10, 10], area=100)
        content["annotations"].append({**row, "category_id": content["categories"][0]["id"]})


def _one_class(content: Content, name: str) -> None:
    """Another class of this name, with the object of an old one."""
    content["categories"].append({"id": 50, "name": name})
    polygon(content)["category_id"] = 50


_only = frozenset
SEEDS: Mapping[str, Seed] = {
    "unreadable-annotations": Seed(lambda f, c: c.update(text='{"images": [, "cut')),
    "malformed-record": Seed(lambda f, c: c["annotations"].append("an object")),
    "no-objects": Seed(lambda f, c: c.update(annotations=[]), _only({"empty-image"})),
    "image-id-clash": Seed(lambda f, c: c["images"].append(dict(c["images"][1]))),
    "annotation-id-clash": Seed(lambda f, c: _merge(c["annotations"][3], id=c["annotations"][9]["id"])),
    "category-id-clash": Seed(lambda f, c: c["categories"].append(dict(c["categories"][1]))),
    "unknown-category": Seed(lambda f, c: _merge(polygon(c), category_id=88)),
    "unknown-image": Seed(lambda f, c: c["annotations"].append({**polygon(c), "id": 77, "image_id": 12345})),
    "id-as-text": Seed(lambda f, c: _merge(c["images"][5], id=str(c["images"][5]["id"]))),
    "negative-id": Seed(lambda f, c: _merge(polygon(c), id=-4)),
    "annotation-id-zero": Seed(lambda f, c: _merge(polygon(c), id=0)),
    "bad-size": Seed(lambda f, c: _merge(c["images"][1], height=0)),
    "missing-image": Seed(lambda f, c: (f / "images/0001.png").unlink()),
    "file-name-spelling": Seed(_spelling),
    "unsafe-file-name": Seed(_unsafe),
    "duplicate-file-name": Seed(_same_file),
    "unreadable-image": Seed(lambda f, c: _write(f / "images/0005.png", b"<html>404</html>")),
    "truncated-image": Seed(_cut),
    "oversized-image": Seed(_oversized),
    "exif-rotation": Seed(lambda f, c: exif(f, "0001.png", 6)),
    "size-disagrees": Seed(
        lambda f, c: _merge(c["images"][2], width=140) or remove_objects(c, c["images"][2]), _only({"empty-image"})
    ),
    "exif-tag": Seed(_turned, _only({"empty-image"})),
    "blank-image": Seed(lambda f, c: repaint(f, "0005.png", lambda p: p.point(lambda v: 7))),
    "multi-frame-image": Seed(_gif),
    "dim-image": Seed(lambda f, c: _deep(f, 4095), _only({"deep-image", "mixed-colour"})),
    "duplicate-image": Seed(_same_image),
    "empty-image": Seed(lambda f, c: remove_objects(c, c["images"][1])),
    "unlisted-image": Seed(lambda f, c: shutil.copy(f / "val/images/0001.png", f / "images/new one.png")),
    "alpha-channel": Seed(lambda f, c: repaint(f, "0005.png", _clear)),
    "deep-image": Seed(lambda f, c: _deep(f, 65535), _only({"mixed-colour"})),
    "cmyk-image": Seed(_cmyk),
    "cut-depth": Seed(_cmyk16, _only({"cmyk-image"})),
    "mixed-colour": Seed(lambda f, c: repaint(f, "0005.png", lambda p: p.convert("L"))),
    "large-image": Seed(_large),
    "wrong-suffix": Seed(lambda f, c: repaint(f, "0005.png", lambda p: p, format="BMP")),
    "no-geometry": Seed(lambda f, c: _drop(polygon(c), "bbox", "segmentation")),
    "number-as-text": Seed(lambda f, c: _merge(polygon(c), bbox=list(map(str, polygon(c)["bbox"])))),
    "bad-box": Seed(lambda f, c: _merge(polygon(c), bbox=[1, 2, -3, 4])),
    "bad-outline": Seed(lambda f, c: _merge(polygon(c), segmentation="10 20 30 40")),
    "non-finite-coordinate": Seed(lambda f, c: polygon(c)["segmentation"][0].extend([float("nan"), 3])),
    "few-points": Seed(lambda f, c: polygon(c)["segmentation"].append([1, 2, 3, 4])),
    "odd-count": Seed(_odd),
    "rle-size": Seed(lambda f, c: _merge(lengths(c)["segmentation"], size=lengths(c)["segmentation"]["size"][::-1])),
    "rle-length": Seed(lambda f, c: _merge(lengths(c)["segmentation"], counts=unpacked(lengths(c))[:-1])),
    "normalised-coordinates": Seed(_normalised),
    "box-as-corners": Seed(_corners),
    "exchanged-axes": Seed(_exchanged),
    "outline-outside": Seed(lambda f, c: outline(polygon(c), [200, 20, 210, 20, 210, 30])),
    "box-outside": Seed(lambda f, c: _merge(polygon(c), bbox=[300, 300, 10, 10])),
    "zero-area": Seed(
        lambda f, c: _merge(polygon(c), segmentation=[[9, 9, 9, 9, 9, 9]], bbox=[9, 9, 0, 0], area=0),
        _only({"repeated-points"}),
    ),
    "box-only-object": Seed(lambda f, c: _drop(crowd(c), "segmentation")),
    "bad-area": Seed(lambda f, c: _merge(polygon(c), area="large")),
    "bad-crowd": Seed(lambda f, c: _merge(polygon(c), iscrowd="false")),
    "keypoint-count": Seed(lambda f, c: keypoints(c, [9, 9, 2])),
    "keypoint-visibility": Seed(lambda f, c: keypoints(c, [9, 9, 3, 20, 20, 1], num_keypoints=2)),
    "keypoint-outside": Seed(lambda f, c: keypoints(c, [900, 9, 2, 20, 20, 1], num_keypoints=2)),
    "keypoint-number": Seed(lambda f, c: keypoints(c, [9, 9, 2, 0, 0, 0], num_keypoints=2)),
    "outline-beyond": Seed(lambda f, c: _beyond(polygon(c), c)),
    "box-beyond": Seed(_boxes),
    "self-crossing": Seed(_bow_tie),
    "box-mask-disagree": Seed(lambda f, c: _merge(polygon(c), bbox=[1, 1, 5, 5])),
    "area-disagrees": Seed(lambda f, c: _merge(polygon(c), area=polygon(c)["bbox"][2] * polygon(c)["bbox"][3] * 2)),
    "crowd-as-polygon": Seed(lambda f, c: _merge(polygon(c), iscrowd=1)),
    "missing-field": Seed(lambda f, c: _drop(polygon(c), "area")),
    "repeated-points": Seed(lambda f, c: _repeat(polygon(c)["segmentation"][0])),
    "tiny-object": Seed(lambda f, c: outline(polygon(c), [2, 2, 4, 2, 4, 3, 2, 3])),
    "duplicate-object": Seed(lambda f, c: c["annotations"].append({**polygon(c), "id": 77})),
    "two-classes-one-object": Seed(_conflict),
    "whole-image-mask": Seed(
        lambda f, c: outline(polygon(c), [0, 0, 133, 0, 133, 99, 0, 99]), _only({"covered-object"})
    ),
    "separate-pieces": Seed(lambda f, c: _squares(polygon(c), 4)),
    "covered-object": Seed(_inside),
    "in-train-and-val": Seed(lambda f, c: shutil.copy(f / "val/images/0005.png", f / "images/0005.png")),
    "near-duplicate-in-val": Seed(_near),
    "doubtful-objects": Seed(_foreground, _only({"separate-pieces", "class-without-objects", "empty-image"})),
    "crowd-regions": Seed(_crowds),
    "val-classes-differ": Seed(lambda f, c: _merge(c["categories"][0], name="disc")),
    "same-class-name": Seed(lambda f, c: _one_class(c, "star"), _only({"val-classes-differ"})),
    "similar-class-names": Seed(lambda f, c: _one_class(c, "Star "), _only({"val-classes-differ"})),
    "class-without-objects": Seed(
        lambda f, c: c["categories"].append({"id": 50, "name": "leaf"}), _only({"val-classes-differ"})
    ),
    "class-imbalance": Seed(_imbalance, _only({"empty-image"})),
    "rectangular-masks": Seed(_rectangles, _only({"covered-object"})),
}
