"""Errors as answers: `application/problem+json` of RFC 9457."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from maskwright.errors import ImageError, MaskwrightError

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An error that a request is answered by.

    status: of HTTP. detail: for a person: what was expected, what was found, what to do. headers: of the answer. more:
    further members of the document, such as the parameter that is wrong.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, dict(headers or {}), more


def response(problem: Problem) -> Response:
    """The answer that tells a problem."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        **problem.more,
    }
    return Response(orjson.dumps(document), problem.status, problem.headers, MEDIA_TYPE)


def of_image(error: ImageError, where: str) -> Problem:
    """What an image that cannot be read is answered by: too many pixels 413, of an unknown format 415, else 422.

    where: which image of the request it is, "" for the only one.
    """
    status = 413 if "max_pixels" in error.options else 415 if error.code == "unknown-format" else 422
    detail = str(error)
    if status == 413:  # the advice of the message is for who runs the server
        detail = f"{detail.split(', the limit is')[0]}, more than this server takes. Send a smaller image."
    return Problem(status, f"{where}{detail}")


def of_error(error: MaskwrightError) -> Problem:
    """What an error of predicting, or of a form that the result does not have, is answered by."""
    return Problem(422, str(error))
