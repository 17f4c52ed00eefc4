"""A request to predict from its first byte to its answer."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from maskwright import media
from maskwright.errors import ImageError, MaskwrightError, suggest
from maskwright.predictor.options import FindOptions, intensity_of
from maskwright.predictor.predictor import Predictor
from maskwright.serving import answers, asked, problems
from maskwright.serving.asked import MEDIA_TYPES, Asked, Upload
from maskwright.serving.figures import Figures
from maskwright.serving.problems import Problem
from maskwright.serving.settings import ServeOptions
from maskwright.serving.worker import Job, QueueFullError, Worker
from maskwright.types import ImageArray

_log = logging.getLogger("maskwright.serving")


class Handler:
    """Answers requests to predict. models: by the names that requests use; the first is the default."""

    def __init__(
        self, models: Mapping[str, Predictor], settings: ServeOptions, worker: Worker, figures: Figures
    ) -> None:
        self.models, self.settings, self.worker, self.figures = models, settings, worker, figures

    async def __call__(self, request: Request) -> Response:
        """The answer; of whatever goes wrong a problem."""
        try:
            return await self._answer(request)
        except Problem as problem:
            if problem.status == 408 or not await asked.drain(request, self.settings.max_bytes):
                problem.headers["Connection"] = "close"
            return problems.response(problem)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody receives it
        except Exception:  # a fault of the server: its log has the traceback, its answer does not
            _log.exception("a request could not be answered")
            return problems.response(Problem(500, "The server failed at this request; its log says why."))

    async def _answer(self, request: Request) -> Response:
        until = time.monotonic() + self.settings.timeout
        try:
            self.worker.take()
        except QueueFullError as error:
            detail = f"The queue is full. Try again in {error.retry_after} s."
            raise Problem(429, detail, {"Retry-After": str(error.retry_after)}) from None
        try:
            async with asyncio.timeout(self.settings.timeout):
                what = await asked.read(request, self.settings)
            call = self._call(what)
        except TimeoutError:
            self.worker.give_back()
            detail = f"The body did not arrive in {self.settings.timeout:g} s. Send it faster, or a smaller one."
            raise Problem(408, detail) from None
        except BaseException:
            self.worker.give_back()
            raise
        content = await self._computed(self.worker.submit(call), request, until)
        return Response(content, media_type=MEDIA_TYPES[what.form])

    def _call(self, what: Asked) -> Callable[[], bytes]:
        """The call that computes the answer. Raises Problem for what cannot be computed."""
        name = next(iter(self.models)) if what.model is None else what.model
        if name not in self.models:
            detail = f"There is no model '{name[:80]}' here.{suggest(name[:80], self.models)}"
            raise Problem(404, detail, models=list(self.models))
        predictor = self.models[name]
        for parameter, options in (
            ("score", FindOptions(score_threshold=what.options.score_threshold)),
            ("classes", FindOptions(classes=what.options.classes)),
            ("max", FindOptions(max_instances=what.options.max_instances)),
        ):
            try:
                predictor.plan(options)
            except MaskwrightError as error:
                raise Problem(422, str(error), parameter=parameter) from None
        return lambda: self._predict(name, predictor, what)

    async def _computed(self, job: Job[bytes], request: Request, until: float) -> bytes:
        """The result of a job, within the time that is left; a job nobody waits for is given up unless it runs."""
        result = asyncio.ensure_future(asyncio.wrap_future(job.future))
        gone = asyncio.ensure_future(_gone(request))
        try:
            left = max(0.0, until - time.monotonic())
            done, _ = await asyncio.wait((result, gone), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if result in done:
                return result.result()
            if gone in done:
                raise ClientDisconnect
            limit = f"{self.settings.timeout:g} s"
            if job.started:
                raise Problem(504, f"The image took longer than {limit}. Send a smaller one.")
            detail = f"The request waited longer than {limit} behind others. Try again later."
            raise Problem(503, detail, {"Retry-After": str(max(1, round(self.settings.timeout)))})
        finally:
            gone.cancel()
            job.cancel()
            result.cancel()

    # ---- in the worker's thread -------------------------------------------------------------------------------------

    def _predict(self, name: str, predictor: Predictor, what: Asked) -> bytes:
        """The answer, computed."""
        with self.figures.stages.labels("predict").time():
            try:
                found = list(self._found(predictor, what))
            except (ImageError, Problem):
                raise
            except MaskwrightError as error:
                raise problems.of_error(error) from error
        self.figures.images.inc(len(found))
        self.figures.instances.inc(sum(len(one.prediction) for one in found))
        with self.figures.stages.labels("encode").time():
            try:
                return answers.encode(what.form, found, name)
            except MaskwrightError as error:
                raise problems.of_error(error) from error

    def _found(self, predictor: Predictor, what: Asked) -> Iterator[answers.Found]:
        """What was found in each image; as many are decoded at once as the predictor computes together."""
        several = predictor.together()
        for start in range(0, len(what.images), several):
            part = what.images[start : start + several]
            read = [self._read(predictor, what.options, upload, start + k, what) for k, upload in enumerate(part)]
            results = predictor.predict([pixels for pixels, _ in read], what.options)
            for upload, (pixels, notes), prediction in zip(part, read, results, strict=True):
                prediction.image = None
                yield answers.Found(prediction, pixels if what.form == "overlay" else None, upload.name, notes)

    def _read(
        self, predictor: Predictor, options: FindOptions, upload: Upload, place: int, what: Asked
    ) -> tuple[ImageArray, tuple[str, ...]]:
        """The pixels of an image, as `Predictor.predict` reads them, and the notes on it. Raises Problem."""
        told, intensity = media.Readings(), intensity_of(predictor, options)
        try:
            pixels = media.read_image(
                upload.content, max_pixels=self.settings.max_pixels, intensity=intensity, told=told
            )
        except ImageError as error:
            where = f"image {place + 1} of {len(what.images)}: " if len(what.images) > 1 else ""
            raise problems.of_image(error, where) from error
        return pixels, told.notes(intensity)


async def _gone(request: Request) -> None:
    """Returns when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
