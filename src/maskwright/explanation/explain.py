"""How a result came about: one pass of the model itself on one image, with what each of its stages returned.

found = explain(mw.load("nuclei"), "cells.png", instance=0)
found.save("why.png")
"""

import os
from dataclasses import replace
from typing import Any

from maskwright import media
from maskwright.errors import ConfigError, DataError
from maskwright.models.family import FAMILIES, family_of
from maskwright.predictor.detector import NetworkDetector
from maskwright.predictor.finish import finished, kept_rows
from maskwright.predictor.options import FindOptions, FindPlan, given, intensity_of
from maskwright.predictor.predictor import ImageSource, Predictor
from maskwright.results.explanation import Explanation, Seen


def explain(
    predictor: Predictor,
    image: ImageSource,
    instance: int = 0,
    options: FindOptions | None = None,
    *,
    page: int = 1,
    told: media.Readings | None = None,
    **changes: Any,
) -> Explanation:
    """Show how instance `instance` (from 0, best score first) of an image came about.

    image: path or URL, PIL image or (H, W, 3) uint8 RGB array. page: of a stack, from 1. told: notes what was read in
    which way. options, or `changes` as keywords: see `FindOptions`.
    The prediction inside is that of `Predictor.predict`, and the numbers are those that its stages returned on the way.
    Raises ConfigError for a model that cannot be explained or an instance that is not there, DataError where nothing
    was found, ImageError for what is not an image.
    """
    detector = predictor.detector
    family = family_of(detector.network.config) if isinstance(detector, NetworkDetector) else None
    if family is None or family.explain is None or family.best_score is None:
        known = ", ".join(name for name, row in FAMILIES.items() if row.explain is not None)
        raise ConfigError(f"'{predictor.name}' cannot be explained; networks of these families can: {known}.")
    assert isinstance(detector, NetworkDetector)
    options = given(FindOptions, options, changes, "explain")
    if options.tiles not in (None, "auto", "off"):
        raise ConfigError("One pass over an image is explained; tiles are several.", options=("tiles",))
    if options.tta not in (None, "off"):
        raise ConfigError("One pass over an image is explained; mirror images are further ones.", options=("tta",))
    plan, intensity = predictor.plan(options), intensity_of(predictor, options)
    pixels = media.as_image(image, intensity=intensity, page=page, told=told)
    name = os.path.basename(os.fspath(image)) if isinstance(image, (str, os.PathLike)) else ""
    prepared, geometry = predictor.prepare(pixels)
    inputs = predictor.batch([prepared], predictor.searched([pixels], [geometry]))
    trace = detector.trace(inputs, plan.limits)
    kept = kept_rows(trace.raw, 0, geometry, plan.output, plan.labels)
    prediction = finished(trace.raw, kept, predictor.classes)
    if not len(prediction):
        raise DataError(_nothing(name, predictor, family.best_score(trace), plan))
    if not 0 <= instance < len(prediction):
        text = f"{name or 'The image'} has the instances 0..{len(prediction) - 1} (best score first), got {instance}."
        if prediction.limits:
            raise ConfigError(f"{text} {prediction.limit_note}", options=("max_instances",))
        raise ConfigError(text)
    rows = tuple(kept.index.tolist())
    seen = Seen(name, pixels, detector.network, trace, plan.limits, geometry, plan.output, prediction, rows)
    model = os.path.basename(predictor.name) or type(detector.network).__name__
    return replace(family.explain(seen, instance), model=model)


def _nothing(name: str, predictor: Predictor, best: float | None, plan: FindPlan) -> str:
    threshold, lowest = plan.output.score_threshold, plan.limits.score
    start = f"{name}: '{predictor.name}'" if name else f"'{predictor.name}'"
    if best is None:
        return f"{start} found no candidate at all, so there is nothing to explain."
    lower = max(best * 0.9, lowest)
    if best >= max(threshold, lowest):
        advice = "Of those with such a score none has pixels on the image."
    elif lower < best:
        advice = f"Ask for a lower score, such as {lower:.2g}."
    else:
        advice = f"The model reports nothing below {lowest:g}, so there is nothing to explain."
    return f"{start} found nothing with a score of {threshold:g} or more; the best candidate has {best:.3f}. {advice}"
