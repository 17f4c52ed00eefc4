"""The HTTP application: its routes, and what stands around them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from maskwright import __version__
from maskwright.predictor.predictor import Predictor
from maskwright.serving import figures, problems, schema
from maskwright.serving.figures import Figures
from maskwright.serving.guard import Counted, Locked
from maskwright.serving.handling import Handler
from maskwright.serving.page import page
from maskwright.serving.problems import Problem
from maskwright.serving.settings import ServeOptions
from maskwright.serving.worker import Worker

ROUTES = ("/", "/predict", "/models", "/health", "/ready", "/metrics", "/openapi.json")
"""All routes."""


def application(models: Mapping[str, Predictor], settings: ServeOptions) -> FastAPI:
    """The application that answers by these models, by the names that requests use; the first is the default."""
    worker = Worker(settings.queue)
    counted = Figures(lambda: worker.length)
    handler = Handler(models, settings, worker, counted)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await anyio.to_thread.run_sync(worker.stop)

    app = FastAPI(title="maskwright", version=__version__, docs_url=None, redoc_url=None, lifespan=life)
    _add_routes(app, handler, worker, counted)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(Exception, _fault)
    app.add_middleware(Locked, keys=settings.keys, max_bytes=settings.max_bytes)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type"],
            expose_headers=["Retry-After"],
        )
    app.add_middleware(Counted, figures=counted, routes=ROUTES)
    return app


def _add_routes(app: FastAPI, handler: Handler, worker: Worker, counted: Figures) -> None:
    async def predict(request: Request) -> Response:
        """Find the instances of one image, or of several."""
        return await handler(request)

    content, headers = page()

    async def start() -> Response:
        """The page on which images are looked at."""
        return Response(content, headers=headers, media_type="text/html")

    async def models() -> Response:
        """The models, the default one first."""
        return _json({"models": [_described(name, own) for name, own in handler.models.items()]})

    async def health() -> Response:
        """Whether the process lives."""
        return _json({"status": "ok"})

    async def ready() -> Response:
        """Whether requests are computed."""
        if not worker.alive:
            return problems.response(Problem(503, "The thread that computes does not run."))
        return _json({"status": "ready"})

    async def metrics() -> Response:
        """Figures in the text format of Prometheus."""
        return Response(counted.text(), headers={"Content-Type": figures.CONTENT_TYPE})

    app.add_api_route("/predict", predict, methods=["POST"], response_model=None, openapi_extra=schema.PREDICT)
    app.add_api_route("/", start, response_model=None, include_in_schema=False)
    app.add_api_route("/models", models, response_model=None)
    app.add_api_route("/health", health, response_model=None)
    app.add_api_route("/ready", ready, response_model=None)
    app.add_api_route("/metrics", metrics, response_model=None, openapi_extra=schema.METRICS)


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


def _described(name: str, predictor: Predictor) -> dict[str, Any]:
    classes = predictor.classes
    return {
        "name": name,
        "classes": [{"id": i, "name": own} for i, own in zip(classes.ids, classes, strict=True)],
        "masks": predictor.draws_masks,
        "landmarks": predictor.finds_landmarks,
        "score": predictor.score_threshold,
        "lowest_score": predictor.lowest_score,
        "max": predictor.max_instances,
        "device": str(predictor.device),
        "precision": predictor.precision,
    }


async def _http_problem(request: Request, error: Exception) -> Response:
    """What the framework refuses: unknown routes and methods."""
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"There is no {request.url.path[:200]} here. Routes: {', '.join(ROUTES)}."
    elif error.status_code == 405:
        detail = f"{request.url.path[:200]} does not take {request.method}."
    return problems.response(Problem(error.status_code, detail, error.headers))


async def _fault(request: Request, error: Exception) -> Response:
    """A fault of the server; it is logged by who runs the application."""
    return problems.response(Problem(500, "The server failed at this request; its log says why."))
