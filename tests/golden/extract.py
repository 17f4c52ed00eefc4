"""Make `data/*.npz` from the whole recordings: small enough to live in the repository, enough to catch any change.

    python -m tests.golden.extract [FOLDER of the recordings, ../shared/golden/rcnn]

Labels are stored as ours: from 0, no background. Of the masks of the large variant about thirty are kept, of big
tensors every s-th value ("raw" in `meta` gives the strides).
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.golden.recorded import (
    DATA,
    IMAGES,
    ZOO_NAMES,
    Recording,
    image_digest,
    publisher,
    source_image,
)

LIMIT_BYTES = 200_000
TRAINED = (
    "train_mask_rcnn_R_50_FPN_3x",
    "train_keypoint_rcnn_R_50_FPN_3x",
    "train_panoptic_fpn_R_50_3x",
    "train_tv_maskrcnn_resnet50_fpn",
)
MASKS = 30
PROPOSALS = 20
ROWS = 60
Arrays = dict[str, NDArray[Any]]


def main(folder: Path) -> None:
    """Write every extract and say how big it is."""
    for name in ZOO_NAMES:
        recording = Recording(folder / name)
        arrays, meta = detection(recording, publisher(name))
        save(name, arrays, meta)
    for name in TRAINED:
        recording = Recording(folder / name)
        arrays, meta = training(recording, publisher(name))
        save(name, arrays, meta)


def save(name: str, arrays: Arrays, meta: dict[str, Any]) -> None:
    """Write one extract; refused where it is too big for a repository."""
    path = DATA / f"{name}.npz"
    text = json.dumps(meta, separators=(",", ":")).encode()
    np.savez_compressed(path, meta_json=np.frombuffer(text, np.uint8), **arrays)
    size = path.stat().st_size
    print(f"{path.name}: {size / 1000:.0f} kB, {len(arrays)} arrays")
    assert size <= LIMIT_BYTES, f"{path} has {size} bytes, more than {LIMIT_BYTES}"


def source_images(recording: Recording, names: dict[str, str]) -> dict[str, dict[str, str]]:
    """Name and digest of each image; it must be the one scikit-image carries."""
    out = {}
    for key, name in names.items():
        image = recording[key]
        assert np.array_equal(image, source_image(name)), f"{recording.folder}: {key} is not scikit-image's {name}"
        out[key.removesuffix("/image")] = {"name": name, "sha256": image_digest(image)}
    return out


def detection(recording: Recording, who: str) -> tuple[Arrays, dict[str, Any]]:
    """Final detections of both images, and some values on the way to those of the small one."""
    arrays: Arrays = {}
    for key in IMAGES:
        labels = recording[f"{key}/final_labels"] - 1 if who == "torchvision" else recording[f"{key}/final_classes"]
        count = len(labels)
        rows = np.arange(count) if key == "s320" else np.arange(0, count, max(count // MASKS, 1))
        arrays |= {
            f"{key}/boxes": recording[f"{key}/final_boxes"],
            f"{key}/scores": recording[f"{key}/final_scores"],
            f"{key}/labels": labels.astype(np.uint8),
        }
        if f"{key}/panoptic_seg" in recording:
            arrays |= {f"{key}/{name}": recording[f"{key}/{name}"] for name in ("panoptic_seg", "panoptic_info_json")}
            arrays |= {f"{key}/semantic": recording[f"{key}/sem_seg_argmax"]}
        if f"{key}/final_keypoints" in recording:
            arrays[f"{key}/keypoints"] = recording[f"{key}/final_keypoints"][:, :, : 2 if who == "torchvision" else 3]
            continue
        arrays |= {
            f"{key}/areas": recording[f"{key}/final_mask_area"],
            f"{key}/rle_rows": rows.astype(np.uint8),
            f"{key}/rles": recording[f"{key}/final_mask_rle"][rows],
        }
    raw, steps = raw_values(recording)
    meta = {
        "spec": recording.spec,
        "extra": recording.extra,
        "fill_sha256": bytes(recording["fill_sha256"]).decode(),
        "pictures": source_images(recording, {f"{key}/image": name for key, name in IMAGES.items()}),
        "raw": steps,
    }
    return arrays | raw, meta


def raw_values(recording: Recording) -> tuple[Arrays, dict[str, list[int]]]:
    """Feature maps, answers of the proposal network, and class logits and offsets of a few recorded proposals."""
    arrays: Arrays = {}
    steps: dict[str, list[int]] = {}

    def keep(key: str, thinner: tuple[int, ...]) -> None:
        value = recording[key]
        arrays[key] = value[tuple(slice(None, None, t) for t in thinner)]
        steps[key] = [s * t for s, t in zip(recording.steps(key), thinner, strict=True)]
        arrays[f"stats/{key}"] = recording[f"stats/{key}"]

    for key in list(recording.arrays):
        if key.startswith(("s320/p2", "s320/p3", "s320/p4", "s320/p5", "s320/p6", "s320/fpn_", "s320/res4")):
            keep(key, (1, 1, 2, 2))
        elif key.startswith(("s320/rpn_logits/", "s320/rpn_deltas/")):
            keep(key, (max(1, len(recording[key]) // ROWS), 1))
        elif key.startswith(("stats/s320/rpn_logits/", "stats/s320/rpn_deltas/")):
            arrays[key] = recording[key]
    step = recording.steps("s320/cls_logits")[0]
    thin = len(recording["s320/cls_logits"]) // PROPOSALS
    keep("s320/cls_logits", (thin, 1))
    arrays["s320/proposals"] = recording["s320/proposal_boxes"][:: step * thin]
    return arrays, steps


def training(recording: Recording, who: str) -> tuple[Arrays, dict[str, Any]]:
    """Targets, losses and gradients of every case, and what was sampled on the way."""
    cases = [key.split("/")[0] for key in recording.arrays if key.endswith("/losses_json")]
    arrays: Arrays = {}
    meta: dict[str, Any] = {
        "pictures": source_images(recording, {"image0": "astronaut", "image1": "chelsea"}),
        "gradients": recording.json("grad_names_json"),
        "losses": {case: recording.json(f"{case}/losses_json") for case in cases},
    }
    if who == "detectron2":
        meta |= {"polygons": recording.json("polygons_json"), "labels": recording.json("classes_json")}
    for i in (0, 1):
        arrays[f"gt_boxes{i}"] = recording[f"gt_boxes{i}"]
        if f"gt_keypoints{i}" in recording:
            arrays[f"gt_keypoints{i}"] = recording[f"gt_keypoints{i}"]
        if f"gt_sem_seg{i}" in recording:
            arrays[f"gt_sem_seg{i}"] = recording[f"gt_sem_seg{i}"]
        if who == "torchvision":
            arrays[f"gt_labels{i}"] = (recording[f"gt_labels{i}"] - 1).astype(np.uint8)
            arrays[f"gt_rles{i}"] = recording[f"gt_mask_rle{i}"]
    for case in cases:
        arrays[f"{case}/grad_l2"] = recording[f"{case}/grad_l2"]
        arrays[f"{case}/grad_first8"] = recording[f"{case}/grad_first8"].astype(np.float32)
        for i in (0, 1):
            arrays |= sampled(recording, case, i, who)
    return arrays, meta


def sampled(recording: Recording, case: str, i: int, who: str) -> Arrays:
    """Positive anchors, labels of the sampled regions in order, boxes of the foreground ones, their mask targets."""
    labels = recording[f"{case}/roi_labels{i}"] - 1 if who == "torchvision" else recording[f"{case}/roi_classes{i}"]
    out = {
        f"{case}/labels{i}": np.where(labels < 0, 90, labels).astype(np.uint8),
        f"{case}/boxes{i}": recording[f"{case}/roi_boxes{i}"],
    }
    if who == "torchvision":
        out[f"{case}/offsets{i}"] = recording[f"{case}/roi_targets{i}"]
        return out
    truth, of_rois = recording[f"gt_boxes{i}"], recording[f"{case}/roi_gt_boxes{i}"]
    same = (of_rois[:, None] == truth[None]).all(axis=2)
    assert (same.sum(axis=1) == 1).all()
    packed = f"{case}/mask_targets_packed{i}"
    return out | {
        f"{case}/anchors{i}": recording[f"{case}/anchor_pos{i}"],
        f"{case}/anchor_counts{i}": recording[f"{case}/anchor_counts{i}"],
        f"{case}/objects{i}": same.argmax(axis=1).astype(np.uint8),
        **({f"{case}/mask_targets{i}": recording[packed]} if packed in recording else {}),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[3] / "shared/golden/rcnn")
