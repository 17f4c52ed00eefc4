"""Accuracy of the `nuclei` model on the held-out fifth of the Data Science Bowl images, overall and by kind of image.

    python -m benchmarks.nuclei --data instances_train.json --images images/ [--model nuclei] [--overlays DIR]

Two tables: COCO AP, and AP = TP / (TP + FP + FN) of disjoint masks at the default score threshold, as mean over the
images and from the counts summed over them. Publications on this data set report the latter for fluorescence images.
The fifth is the one that training holds out (`Dataset.split(0.2)`); --all uses every image. --against NAME compares the
time with that of another model, alternating image by image. --overlays writes some images of each kind, predictions on
the left and annotations on the right.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import maskwright
from benchmarks.measure import best
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.draw import overlay
from maskwright.evaluation.evaluate import evaluate
from maskwright.evaluation.outcome import Evaluation
from maskwright.media import write_image
from maskwright.metrics.nuclei import NucleiResult

OVERLAYS = 4

SHOWN = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)


def by_kind(data: Dataset) -> dict[str, Dataset]:
    """The images by the kind that their records name."""
    kinds = [str(record.extra.get("kind", "unknown")) for record in data.images]
    return {kind: data.subset([i for i, k in enumerate(kinds) if k == kind]) for kind in sorted(set(kinds))}


def draw(predictor: maskwright.Predictor, data: Dataset, kind: str, folder: Path, score: float) -> None:
    for i in range(min(OVERLAYS, len(data))):
        image = data.image(i)
        found = predictor.predict(image, score_threshold=score)
        pair = [overlay(image, shown, labels=False) for shown in (found, data.truth(i))]
        write_image(folder / f"{kind}_{i}.png", np.hstack(pair))


def print_nuclei(results: dict[str, NucleiResult]) -> None:
    """Print AP at the published IoU thresholds, mean over images / from summed counts."""
    heads = "".join(f"{f'AP@{iou:g}':>15}" for iou in SHOWN)
    print(f"\n{'images':<20}{'score':>8}{heads}{'mean':>15}")
    for kind, result in results.items():
        rows = [result.overall.at(iou) for iou in SHOWN]
        pairs = [(row.ap_by_image, row.ap) for row in rows] + [(result.overall.mean, result.overall.mean_summed)]
        print(f"{kind:<20}{result.score_threshold:8.2f}" + "".join(f"{f'{a:.3f} / {b:.3f}':>15}" for a, b in pairs))


def masks_of(predictor: maskwright.Predictor, image: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """What is timed: the masks of an image, drawn."""
    return predictor.predict(image).masks


def nuclei_result(evaluation: Evaluation) -> NucleiResult:
    """The part of an evaluation that the nuclei metric gave."""
    result = evaluation.results["nuclei"]
    assert isinstance(result, NucleiResult)
    return result


def print_times(
    names: tuple[str, str], predictors: tuple[maskwright.Predictor, ...], parts: dict[str, Dataset]
) -> None:
    """Print for each kind the seconds of both models, with the better of two runs for each image."""
    for kind, part in parts.items():
        images = [part.image(i) for i in range(len(part))]
        seconds = [[best(partial(masks_of, m, p), 2) for m in predictors] for p in images]
        theirs, ours = (sum(column) for column in zip(*seconds, strict=True))
        print(f"{kind:<20}{names[0]} {theirs:.1f} s, {names[1]} {ours:.1f} s: {theirs / ours:.2f} times faster")


def print_given(predictor: maskwright.Predictor, parts: dict[str, Dataset]) -> None:
    """Print how well the masks that the model makes for the true boxes fit the true masks."""
    print(f"{'images':<20}{'boxes':>8}{'mean IoU':>10}{'median':>8}" + "".join(f"{f'>= {t:g}':>8}" for t in SHOWN))
    by_kind = {kind: _given(predictor, part) for kind, part in parts.items() if kind != "all"}
    for kind, iou in {"all": np.concatenate(list(by_kind.values())), **by_kind}.items():
        shares = "".join(f"{(iou >= t).mean():8.3f}" for t in SHOWN)
        print(f"{kind:<20}{len(iou):>8}{iou.mean():10.3f}{np.median(iou):8.3f}{shares}")


def _given(predictor: maskwright.Predictor, part: Dataset) -> NDArray[np.float64]:
    """The IoU of each object's mask."""
    every = []
    for i in range(len(part)):
        truth = part.truth(i)
        found = predictor.predict(part.image(i), boxes=truth.boxes)
        assert found.masks is not None
        assert truth.masks is not None
        both = (found.masks & truth.masks).sum((1, 2))
        every.append(both / np.maximum((found.masks | truth.masks).sum((1, 2)), 1))
    return np.concatenate(every)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--score", type=float, help="lowest score that counts and is drawn (default: the model's own)")
    parser.add_argument("--best-threshold", action="store_true", help="also at the score that suits each kind best")
    parser.add_argument("--all", action="store_true", help="every image of the file, not the held-out fifth")
    parser.add_argument("--against", metavar="NAME", help="compare the time of prediction with this model's")
    parser.add_argument("--boxes", action="store_true", help="instead: how well masks fit for the true boxes")
    parser.add_argument("--tta", choices=("off", "horizontal", "both"), help="with mirror images")
    parser.add_argument("--overlays", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    predictor = maskwright.load(arguments.model)
    data = coco.load(arguments.data, arguments.images)
    held_out = data if arguments.all else data.split(0.2)[1]
    parts = {"all": held_out, **by_kind(held_out)}
    if arguments.boxes:
        print_given(predictor, parts)
        return
    results = {
        kind: evaluate(
            predictor,
            part,
            metrics=("coco", "nuclei"),
            tta=arguments.tta,
            metric_score=arguments.score,
            best_threshold=arguments.best_threshold,
            progress=False,
        )
        for kind, part in parts.items()
    }
    print(f"{'images':<20}{'number':>8}{'nuclei':>8}{'mask AP':>9}{'AP50':>7}{'AP75':>7}{'box AP':>8}{'a second':>10}")
    for kind, result in results.items():
        masks, boxes = result.result.masks, result.result.boxes
        assert masks is not None
        count = sum(row.objects for row in masks.per_class)
        figures = f"{masks['AP']:9.3f}{masks['AP50']:7.3f}{masks['AP75']:7.3f}{boxes['AP']:8.3f}"
        print(f"{kind:<20}{result.images:>8}{count:>8}{figures}{result.images_per_second:10.2f}")
    measured = {kind: nuclei_result(result) for kind, result in results.items()}
    print_nuclei(measured)
    if arguments.best_threshold:
        print_nuclei({kind: result.best for kind, result in measured.items() if result.best is not None})
    if arguments.against:
        names = (arguments.against, arguments.model)
        print_times(names, (maskwright.load(arguments.against), predictor), by_kind(held_out))
    if arguments.overlays:
        for kind, part in parts.items():
            if kind != "all":
                draw(predictor, part, kind, arguments.overlays, arguments.score or predictor.score_threshold)


if __name__ == "__main__":
    main()
