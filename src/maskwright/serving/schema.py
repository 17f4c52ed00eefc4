"""What the OpenAPI description says of the routes, with examples."""

from typing import Any

from maskwright.serving.asked import MEDIA_TYPES

_BINARY = {"schema": {"type": "string", "format": "binary"}}

_PROBLEM = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "example": "about:blank"},
        "title": {"type": "string", "example": "Content Too Large"},
        "status": {"type": "integer", "example": 413},
        "detail": {"type": "string", "description": "What was expected, what was found, what to do."},
        "parameter": {"type": "string", "description": "The parameter that is wrong, where it is one."},
    },
}

_STATUSES = {
    400: "the form cannot be read, or is cut off",
    401: "the API key is missing or wrong",
    404: "there is no such model; `models` has those that there are",
    406: "`Accept` names nothing that is written",
    408: "the body did not arrive in time",
    413: "the body has too many bytes, or the image too many pixels",
    415: "the image is of a format that is not read",
    422: "the image is damaged, or a parameter is wrong, which `parameter` names",
    429: "the queue is full; `Retry-After` has the seconds to wait",
    503: "the request waited too long behind others",
    504: "the image took too long",
}

_EXAMPLE = {
    "format": "maskwright.prediction",
    "version": 1,
    "image": "cells.png",
    "size": [256, 320],
    "classes": [{"id": 1, "name": "nucleus"}],
    "masks": True,
    "keypoints": None,
    "track_ids": False,
    "box_scores": False,
    "model": "nuclei",
    "notes": [],
    "limit_note": "",
    "instances": [
        {
            "label": 0,
            "name": "nucleus",
            "score": 0.93,
            "box": [10.5, 20.25, 34.0, 41.75],
            "segmentation": {"size": [256, 320], "counts": "PUY1:f71O1O1O001O"},
        }
    ],
}


def _parameter(name: str, kind: dict[str, Any], about: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": kind, "description": about}


PREDICT: dict[str, Any] = {
    "parameters": [
        _parameter("model", {"type": "string"}, "A name of /models. Default: the first."),
        _parameter("score", {"type": "number", "minimum": 0, "maximum": 1}, "Lowest score to keep. Also: threshold."),
        _parameter("max", {"type": "integer", "minimum": 1}, "Most instances of an image."),
        _parameter("classes", {"type": "string", "example": "nucleus"}, "Names of the classes to keep, with commas."),
        _parameter(
            "format", {"type": "string", "enum": list(MEDIA_TYPES)}, "Form of the answer. Default: that of `Accept`."
        ),
    ],
    "requestBody": {
        "required": True,
        "description": "The bytes of an image file, or a form with one or several files.",
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                },
                "encoding": {"file": {"contentType": "image/*"}},
            },
        },
    },
    "responses": {
        "200": {
            "description": "What was found: one document for one image, {'predictions': [...]} for several.",
            "content": {
                "application/json": {"schema": {"type": "object"}, "example": _EXAMPLE},
                "application/geo+json": {"schema": {"type": "object"}},
                "image/png": _BINARY,
            },
        },
        **{
            str(status): {"description": about, "content": {"application/problem+json": {"schema": _PROBLEM}}}
            for status, about in _STATUSES.items()
        },
    },
}
"""The route that predicts."""

METRICS: dict[str, Any] = {"responses": {"200": {"description": "Figures", "content": {"text/plain": {}}}}}
"""The route of the figures."""
