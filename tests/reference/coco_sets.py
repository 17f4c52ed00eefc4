"""Random data sets and results as plain COCO JSON, and what pycocotools says of them."""

import contextlib
import copy
import io
import json
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Row = dict[str, Any]


def random_set(seed: int) -> tuple[Row, list[Row]]:
    """(annotation file, result list): 0, 1 and many objects and detections on each image, more than 100 at times,
    crowds, polygons of several parts, holes, classes without objects, tied scores, boxes equal to the truth.
    """
    rng = np.random.default_rng(seed)
    height, width = [(64, 80), (200, 240), (33, 500)][rng.integers(3)]
    classes = [3 * k + 1 for k in range(rng.integers(1, 4))]
    ids = rng.permutation(50)[: rng.integers(1, 5)] * 7
    images = [{"id": int(i), "height": height, "width": width, "file_name": f"{i}.png"} for i in ids]
    annotations: list[Row] = []
    results: list[Row] = []
    for image in images:
        truth = [_annotation(rng, image, classes) for _ in range(rng.choice([0, 1, 5, 30]))]
        for row in truth:
            annotations.append({**row, "id": len(annotations) + 1})
        results += [_result(rng, image, classes, truth) for _ in range(rng.choice([0, 1, 5, 40, 150]))]
    results = list({json.dumps(row): row for row in results}.values())  # no row twice: such files are refused
    rng.shuffle(results)
    categories = [{"id": k, "name": f"class {k}"} for k in classes]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def _box(rng: np.random.Generator, image: Row) -> list[float]:
    width, height = rng.uniform(1, image["width"] * 0.9), rng.uniform(1, image["height"] * 0.9)
    box = [rng.uniform(0, image["width"] - width), rng.uniform(0, image["height"] - height), width, height]
    return [float(round(v)) for v in box] if rng.random() < 0.5 else [float(v) for v in box]


def _lengths(rng: np.random.Generator, image: Row, box: list[float]) -> Row:
    bitmap = np.zeros((image["height"], image["width"]), np.uint8)
    x, y, width, height = (int(v) for v in box)
    bitmap[y : y + height, x : x + width] = 1
    if rng.random() < 0.3:
        bitmap[:, : image["width"] // 2] = 0
    if rng.random() < 0.2:
        bitmap &= rng.random(bitmap.shape) < 0.8
    encoded = coco_mask.encode(np.asfortranarray(bitmap))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def _annotation(rng: np.random.Generator, image: Row, classes: list[int]) -> Row:
    box = _box(rng, image)
    crowd = rng.random() < 0.15
    outline: Any
    if rng.random() < 0.4 and not crowd:
        x, y, w, h = box
        outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        if rng.random() < 0.3:
            outline.append([x, y, x + w / 2, y + h / 3, x + 1, y + h])
        area = coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(outline, image["height"], image["width"])))
    else:
        outline = _lengths(rng, image, box)
        area = coco_mask.area(outline)
    row: Row = {"image_id": image["id"], "category_id": int(rng.choice(classes)), "iscrowd": int(crowd)}
    return row | {"bbox": box, "area": float(area), "segmentation": outline}


def _result(rng: np.random.Generator, image: Row, classes: list[int], truth: list[Row]) -> Row:
    box, kind = _box(rng, image), int(rng.choice(classes))
    if truth and rng.random() < 0.7:
        like = truth[rng.integers(len(truth))]
        moved = np.array(like["bbox"]) + (rng.normal(0, 3, 4) if rng.random() < 0.7 else 0)
        box, kind = np.maximum(moved, [0, 0, 0.5, 0.5]).tolist(), like["category_id"]
    score = rng.choice([0.125, 0.25, 0.5, 0.75]) if rng.random() < 0.5 else rng.random()
    row: Row = {"image_id": image["id"], "category_id": kind, "bbox": box, "score": float(score)}
    return row | {"segmentation": _lengths(rng, image, box)}


def pycocotools_says(truth: Row, results: list[Row], kind: str) -> dict[str, NDArray[np.float64]]:
    """stats (12,), and precision, recall, scores at any area and 100 detections. Masks are measured without boxes."""
    drop = "bbox" if kind == "segm" else "segmentation"
    rows = [{k: v for k, v in row.items() if k != drop} for row in copy.deepcopy(results)]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools and NumPy 2
        api, found = COCO(), COCO()
        api.dataset = copy.deepcopy(truth)
        api.createIndex()
        if rows:
            found = api.loadRes(rows)
        else:
            found.dataset = {**copy.deepcopy(truth), "annotations": []}
            found.createIndex()
        run = COCOeval(api, found, kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    curves = run.eval
    return {
        "stats": run.stats,
        "precision": curves["precision"][:, :, :, 0, -1],
        "recall": curves["recall"][:, :, 0, -1],
        "thresholds": curves["scores"][:, :, :, 0, -1],
    }
