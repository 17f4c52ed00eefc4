"""A request to predict: its parameters and its images, read under limits."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass

import anyio
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from maskwright.errors import suggest
from maskwright.predictor.options import FindOptions
from maskwright.serving.problems import Problem
from maskwright.serving.settings import ServeOptions

MEDIA_TYPES = {
    "json": "application/json",
    "coco": "application/json",
    "geojson": "application/geo+json",
    "overlay": "image/png",
    "labels": "image/png",
}
"""The forms of an answer, and what they are sent as."""

NAMES = {"model": "model", "score": "score", "threshold": "score", "max": "max", "classes": "classes",
         "format": "format"}  # fmt: skip
"""The parameters, with what they mean."""

SINGLE = ("geojson", "overlay", "labels")
"""Forms of one image."""

_DRAIN, _LONGER = 2.0, 10  # seconds, and times the largest body, that the rest of a refused body is received
_FIELD = 4096  # most bytes of a field of a form that is no file


class _Form(MultiPartParser):
    """The framework's parser of forms, which does not tell that a form is cut off. ended: the last boundary came."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


@dataclass(frozen=True)
class Upload:
    """An image as it was sent. name: of its file as text, which is never used as a path; None without one."""

    content: bytes
    name: str | None


@dataclass(frozen=True)
class Asked:
    """What a request asks for. model: None for the first one."""

    images: tuple[Upload, ...]
    model: str | None
    form: str
    options: FindOptions


async def read(request: Request, settings: ServeOptions) -> Asked:
    """The parameters and images of a request. Raises Problem, and ClientDisconnect where the client went away."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    parameters = _checked(request.query_params.multi_items())  # before the body is read
    if kind == "multipart/form-data":
        fields, images = await _multipart(request, settings)
        both = _checked(fields.items())
        if twice := sorted(set(both) & set(parameters)):
            raise Problem(422, f"{twice[0]} is given in the address and in the form. Give it once.", parameter=twice[0])
        parameters |= both
    else:
        images = (Upload(b"".join([block async for block in body(request, settings.max_bytes)]), None),)
        if not images[0].content:
            raise Problem(422, "Expected the bytes of an image as the body, or a form with `file`, found no body.")
    asked = Asked(images, parameters.get("model"), _form(request, parameters), _options(parameters))
    if asked.form in SINGLE and len(images) > 1:
        raise Problem(422, f"format {asked.form} is of one image, got {len(images)}. Send them one by one, or ask for "
                      "json or coco.", parameter="format")  # fmt: skip
    return asked


async def body(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """The body as it arrives. Raises Problem 413 as soon as it has, or announces, more than `most` bytes."""
    text = request.headers.get("content-length", "")
    stated, count = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0, 0
    if stated <= most:
        async for block in _blocks(request):
            count += len(block)
            if count > most:
                break
            yield block
    if max(stated, count) > most:
        raise Problem(413, f"The body has more than the {most} bytes that this server takes. Send smaller images, or "
                      "fewer at once.")  # fmt: skip


async def drain(request: Request, most: int) -> bool:
    """Receive and drop the rest of a body, for some seconds: a client that still sends could not read the answer.

    most: bytes that are taken of a body; the rest may be some times as long. Gives whether the body has ended; where it
    has not, the connection has to be closed behind the answer.
    """
    if not hasattr(request.state, "whole") and "100-continue" in request.headers.get("expect", "").lower():
        return False  # the client waits for the answer before it sends
    left = _LONGER * most
    with anyio.move_on_after(_DRAIN), suppress(ClientDisconnect):
        async for block in _blocks(request):
            left -= len(block)
            if left < 0:
                break
    return bool(getattr(request.state, "whole", False))


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """What of the body is still to come; notes in the request whether all of it has. Raises ClientDisconnect."""
    while not getattr(request.state, "whole", False):
        message = await request.receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        request.state.whole = not message.get("more_body", False)
        yield message.get("body", b"")


async def _multipart(request: Request, settings: ServeOptions) -> tuple[dict[str, str], tuple[Upload, ...]]:
    """The fields and the files of a form."""
    fields: dict[str, str] = {}
    images: list[Upload] = []
    async with aclosing(body(request, settings.max_bytes)) as stream:
        parser = _Form(request.headers, stream, max_files=settings.max_images, max_fields=20, max_part_size=_FIELD)
        parser.spool_max_size = settings.max_bytes + 1  # in memory: uploads are not written to disk
        try:
            form = await parser.parse()
        except (MultiPartException, HTTPException) as error:
            text = error.message if isinstance(error, MultiPartException) else error.detail
            raise Problem(400, f"The form cannot be read, or is cut off: {text}") from error
    try:
        if not parser.ended:
            raise Problem(400, "The form is cut off: its last boundary is missing. Send it again.")
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                if name in fields:
                    raise Problem(422, f"{name} is given twice in the form. Give it once.", parameter=name)
                fields[name] = value
            elif name == "file":
                images.append(Upload(await value.read(), value.filename or None))
            else:
                raise Problem(422, f"Expected files as `file`, got one as '{name[:80]}'.", parameter=name[:80])
    finally:
        await form.close()
    if not images:
        raise Problem(422, "Expected at least one image as `file` in the form, found none.", parameter="file")
    return fields, tuple(images)


def _checked(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The parameters by what they mean. Raises Problem for an unknown one and for two of one meaning."""
    out: dict[str, str] = {}
    for name, value in given:
        if name not in NAMES:
            raise Problem(422, f"There is no parameter '{name[:80]}'.{suggest(name[:80], NAMES)}", parameter=name[:80])
        if NAMES[name] in out:
            also = " (threshold is another word for it)" if NAMES[name] == "score" else ""
            raise Problem(422, f"{NAMES[name]} is given twice{also}. Give it once.", parameter=name)
        out[NAMES[name]] = value
    return out


def _options(parameters: Mapping[str, str]) -> FindOptions:
    score, most, classes = (parameters.get(name) for name in ("score", "max", "classes"))
    try:
        number = None if score is None else float(score)
        if number is not None and not 0 <= number <= 1:
            raise ValueError
    except ValueError:
        raise Problem(422, f"score is a number in 0..1, got {score!r:.80}.", parameter="score") from None
    if most is not None and not (most.isascii() and most.isdigit() and len(most) < 8 and int(most) > 0):
        raise Problem(422, f"max is a whole number of at least 1, got {most!r:.80}.", parameter="max")
    names = None if classes is None else [name.strip() for name in classes.split(",") if name.strip()]
    return FindOptions(score_threshold=number, max_instances=None if most is None else int(most), classes=names)


def _form(request: Request, parameters: Mapping[str, str]) -> str:
    """The form of the answer: that of the parameter, else the first that the `Accept` header prefers."""
    form = parameters.get("format")
    if form is not None:
        if form not in MEDIA_TYPES:
            known = f"There is no format '{form[:80]}'.{suggest(form[:80], MEDIA_TYPES)}"
            raise Problem(422, known, parameter="format")
        return form
    wanted = _accepted(request.headers.get("accept", "*/*"))
    for pattern in wanted:
        for form, kind in MEDIA_TYPES.items():
            if pattern in (kind, "*/*", f"{kind.partition('/')[0]}/*"):
                return form
    offered = ", ".join(dict.fromkeys(MEDIA_TYPES.values()))
    raise Problem(406, f"Accept names nothing that this server writes: {offered}. Or give the parameter format.")


def _accepted(header: str) -> list[str]:
    """The media types of an `Accept` header, the preferred ones first, those of quality 0 left out."""
    found: list[tuple[float, str]] = []
    for part in header.split(","):
        kind, *rest = (word.strip().lower() for word in part.split(";"))
        quality = next((word[2:] for word in rest if word.startswith("q=")), "1")
        try:
            found.append((float(quality), kind))
        except ValueError:
            found.append((1.0, kind))
    return [kind for quality, kind in sorted(found, key=lambda row: -row[0]) if kind and quality > 0] or ["*/*"]
