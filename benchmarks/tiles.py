"""Large images in tiles: equal to one pass over their parts, memory that follows a tile, time that follows the area.

    python -m benchmarks.tiles --data instances_train.json --images images/ [--model nuclei] [--crops DIR]
    python -m benchmarks.tiles --data instances_train.json --images images/ --slide 20000 [--model nuclei_fast]

The first makes an image of 6000 x 4000 of 25 parts of 1200 x 800, each of whole images of the data set with dark
ground between them, so that no nucleus lies on the border of two parts. One pass over each part is what the tiles have
to give: the numbers of nuclei are compared, and the IoU of each nucleus's two masks, off the seams and where a border
of a tile cuts it. --crops writes overlays of places where tiles meet, with the borders of the tiles.

The second writes a tiled TIFF of 20000 x 20000, most of it dark, predicts the file, and writes GeoJSON and a reduced
overlay. Times are of the processor (all threads together), as well as on the clock.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import maskwright
from benchmarks.measure import THREADS, peak_memory, print_peak_memory
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.draw import overlay
from maskwright.media import write_image
from maskwright.ops.masks import intersections
from maskwright.prediction.batch import RunOptions, predict_files
from maskwright.predictor.options import FindOptions
from maskwright.predictor.tiles import tiling_of
from maskwright.results.prediction import Prediction
from maskwright.types import ImageArray, Masks

PART, GAP, IMAGE = (800, 1200), 8, 256
GRID = (5, 5)


def images_of(data: Dataset) -> Iterator[ImageArray]:
    """The small fluorescence images, over and over."""
    kept = [i for i, r in enumerate(data.images) if r.size == (IMAGE, IMAGE) and r.extra["kind"] == "fluorescence"]
    while True:
        for i in kept:
            yield data.image(i)


def mosaic(data: Dataset, grid: tuple[int, int] = GRID) -> ImageArray:
    """Parts of whole images."""
    height, width = PART
    out, images = np.zeros((grid[0] * height, grid[1] * width, 3), np.uint8), images_of(data)
    for top in range(0, len(out), height):
        for left in range(0, out.shape[1], width):
            for y in range(GAP, height - IMAGE, IMAGE + GAP):
                for x in range(GAP, width - IMAGE, IMAGE + GAP):
                    out[top + y : top + y + IMAGE, left + x : left + x + IMAGE] = next(images)
    return out


def parts(predictor: maskwright.Predictor, image: ImageArray) -> Masks:
    """The masks of one pass over each part, on the image."""
    size, corners, bitmaps = (image.shape[0], image.shape[1]), list[NDArray[np.int64]](), list[NDArray[np.bool_]]()
    for top in range(0, size[0], PART[0]):
        for left in range(0, size[1], PART[1]):
            part = image[top : top + PART[0], left : left + PART[1]]
            found = predictor.predict(part, tiles="off", max_instances=2 * predictor.max_instances).crops
            assert found is not None
            corners.append(found.corners + np.array([top, left]))
            bitmaps.extend(found.bitmaps)
    return Masks(size, np.concatenate(corners), tuple(bitmaps))


def best_ious(own: Masks, other: Masks) -> NDArray[np.float64]:
    """(N,) for each mask the largest IoU with one of the others."""
    shared = intersections(own, other)
    union = own.areas()[:, None] + other.areas()[None] - shared
    return np.asarray((shared / np.maximum(union, 1)).max(axis=1, initial=0))


def on_seams(masks: Masks, tiles: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) which masks a border of a tile cuts."""
    boxes, out = masks.boxes(), np.zeros(len(masks), bool)
    for axis, side in ((0, masks.size[1]), (1, masks.size[0])):
        lines = np.unique(tiles[:, [axis, axis + 2]])
        lines = lines[(lines > 0) & (lines < side)]
        out |= ((boxes[:, axis, None] < lines) & (boxes[:, axis + 2, None] > lines)).any(axis=1)
    return out


def timed(
    predictor: maskwright.Predictor, image: ImageArray, tiles: int | str = "auto"
) -> tuple[Prediction, float, float]:
    """What is found, seconds of the processor and on the clock."""
    busy, start = time.process_time(), time.perf_counter()
    found = predictor.predict(image, tiles=tiles)
    return found, time.process_time() - busy, time.perf_counter() - start


def compare(predictor: maskwright.Predictor, data: Dataset, crops: Path | None) -> None:
    image = mosaic(data)
    found, busy, clock = timed(predictor, image)
    assert found.crops is not None
    print(f"{image.shape[1]} x {image.shape[0]}: {len(found)} nuclei, {busy:.0f} s of the processor, {clock:.0f} s")
    print(found.tiles)
    tiling = tiling_of(predictor, FindOptions(), found.size)
    assert tiling is not None
    whole = parts(predictor, image)
    print(f"one pass over each part: {len(whole)} nuclei, difference {100 * (len(found) / len(whole) - 1):+.2f} %")
    ious, seam = best_ious(whole, found.crops), on_seams(whole, tiling.tiles(found.size))
    for name, rows in (("off the seams", ~seam), ("on the seams", seam)):
        own = ious[rows]
        print(
            f"{name}: {rows.sum()} nuclei, IoU mean {own[own > 0.5].mean():.4f}, "
            f"median {np.median(own):.4f}, 5 % below {np.quantile(own, 0.05):.4f}, not found {(own <= 0.5).sum()}"
        )
    small = mosaic(data, (3, 3))[:2000, :3000]
    less, short, _ = timed(predictor, small, tiling.side)
    print(f"3000 x 2000: {short:.0f} s of the processor; 6000 x 4000 takes {busy / short:.2f} times that. {less.tiles}")
    if crops is not None:
        draw_seams(image, found, tiling.tiles(found.size), crops)


def draw_seams(image: ImageArray, found: Prediction, tiles: NDArray[np.int64], folder: Path) -> None:
    """Overlays of 700 x 700 pixels around places where four tiles meet."""
    canvas = Image.fromarray(overlay(image, found, labels=False, scores=False, legend=False))
    pen = ImageDraw.Draw(canvas)
    for tile in tiles.tolist():
        pen.rectangle((tile[0], tile[1], tile[2] - 1, tile[3] - 1), outline=(255, 255, 255), width=1)
    for tile in islice((t for t in tiles.tolist() if t[0] and t[1]), 0, 16, 5):
        x, y = tile[0] + 80, tile[1] + 80
        corner = canvas.crop((x - 350, y - 350, x + 350, y + 350))
        write_image(folder / f"seams_{x}_{y}.png", np.asarray(corner))


def slide(data: Dataset, side: int, path: Path) -> None:
    """A tiled TIFF, with a mosaic in the middle of dark ground."""
    image = mosaic(data)
    top, left = (side - image.shape[0]) // 2 // 512 * 512, (side - image.shape[1]) // 2 // 512 * 512

    def blocks() -> Iterator[ImageArray]:
        for y in range(0, side, 512):
            for x in range(0, side, 512):
                block = np.full((512, 512, 3), 4, np.uint8)
                seen = image[max(0, y - top) : max(0, y - top + 512), max(0, x - left) : max(0, x - left + 512)]
                block[: seen.shape[0], : seen.shape[1]] = seen
                yield block

    shape, tile = (side, side, 3), (512, 512)
    tifffile.imwrite(
        path, blocks(), shape=shape, dtype=np.uint8, tile=tile, compression="zlib", photometric="rgb", bigtiff=True
    )


def predict_slide(model: str, data: Dataset, side: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        slide(data, side, path)
        print(f"{side} x {side} pixels, {path.stat().st_size / 1e6:.0f} MB")
        busy = time.process_time()
        predictor = maskwright.load(model, device="cpu")
        options = RunOptions(("polygons", "overlay", "csv"))
        done = predict_files(predictor, [path], Path(folder) / "out", options, on_tile=progress)
        print(done.summary().replace(folder, ""))
        print(f"{time.process_time() - busy:.0f} s of the processor; peak memory in MB:")
    print_peak_memory()


def progress(done: int, total: int) -> None:
    if done % 50 == 0 or done == total:
        print(f"{done} of {total} tiles", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--crops", type=Path, help="write overlays of seams into this folder")
    parser.add_argument("--slide", type=int, help="side of a tiled TIFF, in pixels")
    parser.add_argument("--memory", action="store_true", help="print the peak memory of one prediction of 6000 x 4000")
    chosen = parser.parse_args()
    torch.set_num_threads(THREADS)
    data = coco.load(chosen.data, chosen.images)
    if chosen.slide:
        predict_slide(chosen.model, data, chosen.slide)
        return
    predictor = maskwright.load(chosen.model, device="cpu")
    if chosen.memory:
        predictor.predict(mosaic(data))
        print_peak_memory()
        return
    compare(predictor, data, chosen.crops)
    given = ["--data", str(chosen.data), "--images", str(chosen.images), "--model", chosen.model, "--memory"]
    print(f"peak memory of 6000 x 4000: {peak_memory('benchmarks.tiles', *given):.0f} MB")


if __name__ == "__main__":
    main()
