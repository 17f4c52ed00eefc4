"""How a result came about: the stages of the model itself, run on one image, with what each of them gave.

found = explain(mw.load("nuclei"), "cells.png", instance=0)
found.save("why.png")
"""

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Unpack, cast

import torch

from maskwright import media
from maskwright.errors import ConfigError, DataError
from maskwright.explanation import rcnn as explain_rcnn
from maskwright.explanation import yolact as explain_yolact
from maskwright.explanation.explanation import Explanation, Trace, watched
from maskwright.models.base import Model
from maskwright.models.rcnn import RCNN
from maskwright.models.yolact import Yolact
from maskwright.predictor.finish import finish
from maskwright.predictor.predictor import ImageSource, MaskOptions, Options, Predictor
from maskwright.predictor.prepare import prepare
from maskwright.types import Classes, RawDetections

Build = Callable[[Trace, int], Explanation]
BestScore = Callable[[dict[str, Any]], float | None]
Lowest = Callable[[Any], float]

FAMILIES: tuple[tuple[type[Model], tuple[str, ...], Build, BestScore, Lowest], ...] = (
    (RCNN, explain_rcnn.STAGES, explain_rcnn.build, explain_rcnn.best_score, explain_rcnn.lowest),
    (Yolact, explain_yolact.STAGES, explain_yolact.build, explain_yolact.best_score, explain_yolact.lowest),
)
"""Class of the model, the stages that are noted, what makes an explanation of them, the best score of all, and the
score from which the model looks at a candidate at all."""


def explain(
    predictor: Predictor,
    source_image: ImageSource,
    instance: int = 0,
    *,
    score_threshold: float | None = None,
    **masks: Unpack[MaskOptions],
) -> Explanation:
    """Show how instance `instance` (from 0, best score first) of an image came about.

    image: path or URL, PIL image or (H, W, 3) uint8 RGB array. score_threshold, masks: as for
    `Predictor.predict`.
    The prediction inside is that of `Predictor.predict`, and the numbers are those that its stages gave on the way.
    Raises ConfigError for a model that cannot be explained or an instance that is not there, DataError where nothing
    was found, ImageError for what is not an image.
    """
    family = next((row for row in FAMILIES if isinstance(predictor.model, row[0])), None)
    if family is None:
        known = ", ".join(row[0].__name__ for row in FAMILIES)
        raise ConfigError(f"'{predictor.name}' is a {type(predictor.model).__name__}; explain knows {known}.")
    _, stages, build, best_score, lowest = family
    image = media.as_image(source_image)
    name = os.path.basename(os.fspath(source_image)) if isinstance(source_image, (str, os.PathLike)) else ""
    twin, seen = watched(predictor.model, [*stages, "detect"])
    looker = copy.copy(predictor)
    looker.model, options = twin, cast(Options, {"score_threshold": score_threshold, **masks})
    twin.output = predictor.output_with(options)
    prediction = looker.predict(image)
    if not len(prediction):
        raise DataError(_nothing(name, looker, best_score(seen), lowest(predictor.model)))
    if not 0 <= instance < len(prediction):
        raise ConfigError(
            f"{name or 'The image'} has the instances 0..{len(prediction) - 1} (best score first), got {instance}."
        )
    _, geometry = prepare(image, predictor.spec)
    rows = _rows(seen["detect"][1], twin, geometry)
    assert len(rows) == len(prediction)
    trace = Trace(name, twin, image, prediction, seen, geometry, rows)
    return replace(build(trace, instance), model=os.path.basename(predictor.name) or type(predictor.model).__name__)


def _rows(raw: RawDetections, model: Model, geometry: Any) -> tuple[int, ...]:
    """The raw row of every instance: rows numbered by their labels go the way of all rows."""
    count = raw.scores.shape[1]
    numbered = replace(raw, labels=torch.arange(count, device=raw.labels.device)[None])
    found = finish(numbered, 0, geometry, Classes([str(k) for k in range(count)]), model.output)
    return tuple(int(k) for k in found.labels)


def _nothing(name: str, predictor: Predictor, best: float | None, floor: float) -> str:
    threshold = predictor.score_threshold
    start = f"{name}: '{predictor.name}'" if name else f"'{predictor.name}'"
    if best is None:
        return f"{start} found no candidate at all, so there is nothing to explain."
    lower = max(best * 0.9, floor)
    if best >= max(threshold, floor):
        advice = "Of those with such a score none has pixels on the image."
    elif lower < best:
        advice = f"Ask for a lower score, such as {lower:.2g}."
    else:
        advice = f"The model reports nothing below {floor:g}, so there is nothing to explain."
    return f"{start} found nothing with a score of {threshold:g} or more; the best candidate has {best:.3f}. {advice}"
