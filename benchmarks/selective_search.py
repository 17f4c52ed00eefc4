"""Selective search on one thread: how many objects of a data set its boxes find, and how long it takes.

    python -m benchmarks.selective_search ANNOTATIONS [--images FOLDER] [--count 50]

"Recall" is the share of objects, without crowds, that some box overlaps with an IoU of at least 0.5 or 0.7; small,
medium and large are COCO's. Seconds are of the processor: of each image as it is, and of one brought to 500 x 375.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maskwright.data.formats.table import load
from maskwright.ops import boxes as box_ops
from maskwright.ops.selective_search import selective_search
from maskwright.types import FloatArray, ImageArray

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}


def timed(image: ImageArray) -> tuple[FloatArray, float]:
    start = time.process_time()
    boxes = selective_search(image)
    return boxes, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=50)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load(arguments.annotations, images=arguments.images)
    best, area, counts, times, of_one_size = list[float](), list[float](), list[int](), list[float](), list[float]()
    for i in [i for i in range(len(data)) if data.of(i)][: arguments.count]:
        image = data.image(i)
        boxes, seconds = timed(image)
        of_one_size.append(timed(np.asarray(Image.fromarray(image).resize((500, 375))))[1])
        times.append(seconds)
        counts.append(len(boxes))
        truth = torch.from_numpy(data.boxes(i)[~data.crowd(i)])
        best += box_ops.iou(truth, torch.from_numpy(boxes)).amax(dim=1).tolist()
        area += ((truth[:, 2] - truth[:, 0]) * (truth[:, 3] - truth[:, 1])).tolist()
    found, sides = np.array(best), np.array(area)
    print(f"{len(counts)} images, {len(found)} objects, {statistics.median(counts):.0f} boxes an image (median)")
    print(f"recall at 0.5 {(found >= 0.5).mean():.3f}, at 0.7 {(found >= 0.7).mean():.3f}, mean IoU {found.mean():.3f}")
    for name, (low, high) in SIZES.items():
        own = found[(sides >= low) & (sides < high)]
        if len(own):
            print(f"  {name}: {len(own)} objects, recall at 0.5 {(own >= 0.5).mean():.3f}")
    print(f"seconds (median): {statistics.median(times):.2f}, of 500 x 375: {statistics.median(of_one_size):.2f}")


if __name__ == "__main__":
    main()
