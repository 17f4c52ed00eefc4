"""Around every request: the API key, and what is counted. Plain ASGI, so that bodies and answers pass unbuffered."""

import hashlib
import hmac
import time
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskwright.serving import asked, problems
from maskwright.serving.figures import Figures
from maskwright.serving.problems import Problem

OPEN = ("/", "/health", "/ready")
"""Routes that need no key: the page, which asks for one, and those by which others ask whether a server lives."""


class Counted:
    """Counts and times the requests. Routes that do not exist are counted as one."""

    def __init__(self, app: ASGIApp, figures: Figures, routes: Sequence[str]) -> None:
        self.app, self.figures, self.routes = app, figures, frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        route = scope["path"] if scope["path"] in self.routes else "other"
        try:
            await self.app(scope, receive, watched)
        finally:
            self.figures.requests.labels(route, str(status)).inc()
            self.figures.seconds.labels(route).observe(time.perf_counter() - start)


class Locked:
    """Lets requests pass that have one of the keys, as `Authorization: Bearer KEY` or `X-API-Key: KEY`."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], max_bytes: int) -> None:
        self.app, self.keys, self.max_bytes = app, [_digest(key) for key in keys], max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.keys or scope["path"] in OPEN or self._has_key(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        detail = "This server needs an API key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
        problem = Problem(401, detail, {"WWW-Authenticate": 'Bearer realm="maskwright"'})
        if not await asked.drain(Request(scope, receive), self.max_bytes):
            problem.headers["Connection"] = "close"
        await problems.response(problem)(scope, receive, send)

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = _digest(token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", ""))
        equal = [hmac.compare_digest(given, key) for key in self.keys]  # all of them, always in the same time
        return any(equal)


def _digest(key: str) -> bytes:
    """Of one length, so that comparing does not tell how long a key is."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
