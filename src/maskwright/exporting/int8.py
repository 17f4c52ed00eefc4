"""A network in INT8 that states what it lost, or is not written.

Images of an annotated set are calibrated on, the others measure the network and the file. Where the file loses more
than is allowed, the layers that INT8 changes most stay in float32: one, two, four, up to a quarter of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from maskwright import media
from maskwright.data.dataset import Dataset
from maskwright.errors import DataError
from maskwright.evaluation.evaluate import evaluate
from maskwright.evaluation.outcome import Evaluation
from maskwright.exporting.quantise import Sample, by_error, layers, quantise
from maskwright.predictor.options import intensity_of
from maskwright.predictor.predictor import Predictor
from maskwright.wording import counted

CALIBRATED = 64
"""Images that are calibrated on at most."""

FEW = 8
"""Of a set with fewer images than twice this all are calibrated on and all are measured."""

MEASURED = ("keypoints/AP", "panoptic/PQ")
"""What may not fall beside the AP of masks, or of boxes where there are none."""

INSPECTED = 4
"""Images on which the error of each layer is measured."""

OUTSIDE = 0.01
"""Share of measured pixels outside the range of calibration from which a note speaks of it."""

LISTED = 20
"""Classes in the table of a report, those that lost most."""


@dataclass(frozen=True)
class Contract:
    """What an INT8 file lost. before, after: numbers by name, from 0 to 1, of the network and of the file. classes: the
    AP of each class before and after. images: that were measured; calibrated: that gave the ranges; apart: whether
    these are others. kept: layers in float32, of `total`. max_drop: allowed, in points, which are hundredths. outside:
    share of measured pixels that are darker or brighter than all that gave the ranges."""

    before: Mapping[str, float]
    after: Mapping[str, float]
    classes: Mapping[str, tuple[float, float]]
    images: int
    calibrated: int
    apart: bool
    kept: tuple[str, ...]
    total: int
    max_drop: float
    outside: float = 0.0

    @property
    def drop(self) -> float:
        """The largest loss, in points; negative where all became better."""
        return max(100 * (self.before[name] - self.after[name]) for name in self.before)

    def facts(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "before": dict(self.before),
            "after": dict(self.after),
            "classes": {name: list(pair) for name, pair in self.classes.items()},
            "images": self.images,
            "calibrated": self.calibrated,
            "apart": self.apart,
            "kept": list(self.kept),
            "layers": self.total,
            "max_drop": self.max_drop,
            "outside": self.outside,
        }

    def report(self) -> str:
        """What was lost, as plain text."""
        kept = f", in float32 stay {', '.join(self.kept)}" if self.kept else ""
        source = "" if self.apart else ", the same that it was calibrated on: measure it on others"
        lines = [
            f"INT8: {self.total - len(self.kept)} of {self.total} layers{kept}; calibrated on "
            f"{counted(self.calibrated, 'image')}, measured on {counted(self.images, 'image')}{source}.",
            _row("", "float32", "INT8", "points"),
            *(_row(name, *_values(self.before[name], self.after[name])) for name in self.before),
        ]
        if len(self.classes) > 1:
            rows = sorted(self.classes.items(), key=lambda row: row[1][1] - row[1][0])
            lines += [_row(name, *_values(*pair)) for name, pair in rows[:LISTED]]
            if len(rows) > LISTED:
                lines.append(f"  and {len(rows) - LISTED} more classes, which lost no more.")
        if self.outside >= OUTSIDE:
            lines.append(
                f"Note: {self.outside:.0%} of the pixels that were measured are darker or brighter than all that it "
                f"was calibrated on ({counted(self.calibrated, 'image')}). Calibrate on images like those you predict."
            )
        return "\n".join(lines)


def with_contract(
    graph: Path,
    target: Path,
    opened: Callable[[Path], Predictor],
    network: Predictor,
    data: Dataset,
    calibrate: Sequence[Any] | None,
    max_drop: float,
) -> Contract:
    """Write `graph` in INT8 to `target` so that no number of `data` falls by more than `max_drop` points.

    opened: makes a predictor of such a file. calibrate: images that give the ranges instead of images of `data`.
    Raises DataError where no file keeps to that, and for data without objects.
    """
    if not any(data.annotations[record.id] for record in data.images):
        raise DataError(f"{data.source}: its {len(data)} images have no objects, so that no loss can be measured.")
    given, measured = chosen(data, calibrate)
    samples = Samples(network, given)
    checked = Samples(network, [measured.path(i) for i in _spread(len(measured), INSPECTED)])
    names, apart = layers(graph), calibrate is not None or len(measured) < len(data)
    before = evaluate(network, measured)
    if not (numbers := headlines(before)):
        raise DataError(f"{data.source}: of its objects no AP can be measured, so that no loss can be.")
    outside, ranked = _outside(samples, checked), list[str]()
    tries: list[Contract] = []
    for count in _counts(len(names)):
        if count and not ranked:
            ranked = by_error(graph, samples[:INSPECTED], checked)
        kept = tuple(ranked[:count])
        quantise(graph, target, samples, kept)
        after = evaluate(opened(target), measured)
        found = headlines(after)
        contract = Contract(
            numbers,
            {name: found.get(name, 0.0) for name in numbers},
            _classes(before, after),
            len(measured),
            len(given),
            apart,
            kept,
            len(names),
            max_drop,
            outside,
        )
        if contract.drop <= max_drop:
            return contract
        tries.append(contract)
    best = min(tries, key=lambda one: one.drop)
    kept_words = f" with {counted(len(best.kept), 'layer')} in float32 ({', '.join(best.kept)})" if best.kept else ""
    raise DataError(
        f"INT8 loses {best.drop:.2f} points at best{kept_words}, allowed are {max_drop:g} (--max-drop). "
        f"Calibrate on images like those that will be predicted, at least "
        f"{CALIBRATED} of them, allow more, or export in float32.\n{best.report()}"
    )


def chosen(data: Dataset, calibrate: Sequence[Any] | None) -> tuple[list[Any], Dataset]:
    """The images that are calibrated on and the set that is measured.

    Without `calibrate` every other image of `data` is calibrated on, at most `CALIBRATED` evenly spread, and the rest
    are measured; with few images all are both.
    """
    if calibrate is not None:
        return list(calibrate), data
    if len(data) < 2 * FEW:
        return [data.path(i) for i in range(len(data))], data
    own = [2 * i for i in _spread(len(data) // 2, CALIBRATED)]
    return [data.path(i) for i in own], data.subset(sorted(set(range(len(data))) - set(own)))


class Samples(Sequence[Sample]):
    """Images as the inputs of the graph, each made when it is asked for: in memory they would take gigabytes."""

    def __init__(self, network: Predictor, images: Sequence[Any]) -> None:
        self.network, self.images = network, images

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, i: int) -> Sample: ...
    @overload
    def __getitem__(self, i: slice) -> "Samples": ...
    def __getitem__(self, i: int | slice) -> "Sample | Samples":
        if isinstance(i, slice):
            return Samples(self.network, self.images[i])
        pixels = media.as_image(self.images[i], intensity=intensity_of(self.network))
        inputs = self.network.batch([self.network.prepare(pixels)[0]])
        return {"images": inputs.images.numpy(), "size": np.array(inputs.sizes[0], np.int64)}


def headlines(found: Evaluation) -> dict[str, float]:
    """The numbers that are promised, of those that were measured: AP of masks, else of boxes, and `MEASURED`."""
    values = {name: value for name, value in found.values.items() if value >= 0}
    main = "segm/AP" if "segm/AP" in values else "bbox/AP"
    return {name: values[name] for name in (main, *MEASURED) if name in values}


def _classes(before: Evaluation, after: Evaluation) -> dict[str, tuple[float, float]]:
    """AP of each class that has objects."""
    one, other = (found.result.masks or found.result.boxes for found in (before, after))
    pairs = zip(one.per_class, other.per_class, strict=True)
    return {a.name: (a.ap, b.ap) for a, b in pairs if a.ap >= 0}


def _counts(total: int) -> list[int]:
    """Numbers of layers that are kept, one try after the other."""
    return [0, *(2**i for i in range(total.bit_length()) if 2**i <= total // 4)]


def _spread(total: int, count: int) -> list[int]:
    """At most `count` positions of `total`, evenly spread."""
    count = min(total, count)
    return [i * total // count for i in range(count)]


def _outside(samples: Sequence[Sample], measured: Sequence[Sample]) -> float:
    """Share of the pixels of `measured` outside the range of `samples`."""
    ends = [(float(one["images"].min()), float(one["images"].max())) for one in samples]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return float(np.mean([((one["images"] < low) | (one["images"] > high)).mean() for one in measured]))


def _values(before: float, after: float) -> tuple[str, str, str]:
    return f"{before:.4f}", f"{after:.4f}", f"{100 * (after - before):+.2f}"


def _row(name: str, *values: str) -> str:
    return f"  {name:<24}" + "".join(f"{value:>10}" for value in values)
