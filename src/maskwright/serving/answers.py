"""Predictions as the body of an answer; the forms are those that `maskwright predict` writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from maskwright import draw, media
from maskwright.results.outputs import features
from maskwright.results.prediction import Prediction


@dataclass(frozen=True)
class Found:
    """What was found in one image. pixels: (H, W, 3) uint8, None where the form draws nothing. name: of its file as
    text. notes: how the image was read, where that is not plain."""

    prediction: Prediction
    pixels: NDArray[np.uint8] | None
    name: str | None
    notes: tuple[str, ...]


def encode(form: str, found: Sequence[Found], model: str) -> bytes:
    """The answer in a form of `asked.MEDIA_TYPES`. Raises DataError where it needs masks and there are none."""
    first = found[0]
    if form == "json":
        rows = [_document(one, model) for one in found]
        return orjson.dumps(rows[0] if len(rows) == 1 else {"predictions": rows})
    if form == "coco":
        return orjson.dumps([row for k, one in enumerate(found, 1) for row in one.prediction.to_coco(k)])
    if form == "geojson":
        return orjson.dumps({"type": "FeatureCollection", "features": list(features(first.prediction))})
    drawn = draw.label_map(first.prediction) if form == "labels" else draw.overlay(first.pixels, first.prediction)
    return media.encoded(Image.fromarray(drawn), "PNG")


def _document(found: Found, model: str) -> dict[str, Any]:
    """What `Prediction.save` writes, with the model and the notes."""
    own = found.prediction
    beside = {"model": model, "notes": list(found.notes), "limit_note": own.limit_note}
    return {**own.head(found.name), **beside, "instances": own.rows(found.name or "the image")}
